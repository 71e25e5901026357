import { EdgeDeitError } from "../core/error.js";

const PACKAGE = new URL("../node_modules/@litertjs/", import.meta.url).href;

let loaded = null; // LiteRT.js loads its WebAssembly once in a page

/**
 * A .tflite file in LiteRT.js: `{run, close}`; `run` takes the file's input and returns its output.
 *
 * With WebGPU the whole graph has to run there: a file of which a part would fall back to the processor is refused.
 */
export async function openLitert(bytes, manifest, backend, threads) {
  const litert = await load(threads);
  const options = {
    accelerator: backend,
    cpuOptions: { numThreads: threads },
    gpuOptions: { precision: manifest.precision === "fp16" ? "fp16" : "fp32" },
  };
  const model = await litert.loadAndCompile(bytes, options);
  if (backend !== "wasm" && !model.isFullyAccelerated) {
    model.delete();
    throw new EdgeDeitError("a part of the graph would run on the processor");
  }
  return {
    async run(values) {
      const feed = new litert.Tensor(values, manifest.input.shape);
      try {
        return await outputOf(await model.run(feed));
      } finally {
        feed.delete();
      }
    },
    close: () => model.delete(),
  };
}

async function outputOf(tensors) {
  try {
    return await tensors[0].data();
  } finally {
    tensors.forEach((tensor) => tensor.delete());
  }
}

function load(threads) {
  loaded ??= loadOnce(threads);
  return loaded;
}

async function loadOnce(threads) {
  const litert = await import("@litertjs/core");
  await litert.loadLiteRt(`${PACKAGE}core/wasm/`, { threads: threads > 1 });
  return litert;
}
