import { EdgeDeitError } from "../core/error.js";

const DIST = new URL("../node_modules/onnxruntime-web/dist/", import.meta.url).href;
const BUILDS = {
  wasm: () => import("onnxruntime-web/wasm"),
  webgpu: () => import("onnxruntime-web/webgpu"),
};

/**
 * An .onnx file in onnxruntime-web: `{run, close}`; `run` takes the file's input and returns its output.
 *
 * With WebGPU the whole graph has to run there: a file with nodes that would fall back to the processor is refused.
 */
export async function openOnnx(bytes, manifest, backend, threads) {
  const ort = await BUILDS[backend]();
  ort.env.wasm.wasmPaths = DIST;
  ort.env.wasm.numThreads = threads;
  ort.env.logLevel = "fatal"; // what goes wrong is thrown as well
  const options = { executionProviders: [backend] };
  if (backend === "webgpu") options.extra = { session: { disable_cpu_ep_fallback: "1" } };
  const session = await ort.InferenceSession.create(bytes, options);
  const { input, output } = manifest;
  if (!session.inputNames.includes(input.name) || !session.outputNames.includes(output.name)) {
    await session.release();
    throw new EdgeDeitError(`${manifest.artefact} has no ${input.name} or no ${output.name}; export it again`);
  }
  return {
    async run(values) {
      const feed = new ort.Tensor(input.dtype, values, input.shape);
      const found = await session.run({ [input.name]: feed });
      return found[output.name].getData(true);
    },
    close: () => session.release(),
  };
}
