import { sha256 } from "../core/bytes.js";
import { EdgeDeitError } from "../core/error.js";
import { inputFor, logitsOf } from "../core/manifest.js";
import { squareOf } from "../core/preprocess.js";
import { openLitert } from "./litert.js";
import { openOnnx } from "./onnx.js";

const MOST_THREADS = 4;

/** Target -> the runtime that takes its files. */
const ENGINES = {
  onnx: { name: "onnxruntime-web", package: "onnxruntime-web", open: openOnnx },
  tflite: { name: "LiteRT.js", package: "@litertjs/core", open: openLitert },
};

/** Threads of WebAssembly: more than one only where the server isolates the page (see README.md). */
export function threadCount() {
  return globalThis.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
}

/** The backends that this browser has: WebAssembly always, WebGPU where there is an adapter. */
export async function backends() {
  const adapter = await navigator.gpu?.requestAdapter();
  return adapter ? ["wasm", "webgpu"] : ["wasm"];
}

/** What runs an artefact on a backend, in a device report's words. */
export async function runnerName(manifest, backend) {
  const engine = ENGINES[manifest.target];
  const where = backend === "wasm" ? `wasm, ${threadCount() === 1 ? "1 thread" : `${threadCount()} threads`}` : "WebGPU";
  return `${engine.name} ${await versionOf(engine)}, ${where}`;
}

async function versionOf(engine) {
  const answer = await fetch(new URL(`../node_modules/${engine.package}/package.json`, import.meta.url));
  if (!answer.ok) throw notInstalled(engine);
  return (await answer.json()).version;
}

/** Holds a file's bytes against its manifest; throws EdgeDeitError where it is damaged. */
export async function checkBytes({ file, manifest }, bytes) {
  if (bytes.length !== manifest.sizeBytes || (await sha256(bytes)) !== manifest.sha256) {
    throw new EdgeDeitError(`${file} was damaged after it was bundled (its sha256 differs); bundle it again`);
  }
}

/**
 * An artefact on a backend, ready to run: `{inputOf, run, close}`.
 *
 * `bytes` are the file's, as `checkBytes` found them. `inputOf(photo)` is what the file takes for an upright
 * photo, `run(input)` resolves to logits (K). Throws EdgeDeitError where the runtime is not installed,
 * or it refuses the file.
 */
export async function openEngine(artefact, bytes, backend) {
  const { manifest } = artefact;
  const engine = ENGINES[manifest.target];
  await versionOf(engine);
  const opened = await attempt(engine, artefact, backend, () => engine.open(bytes, manifest, backend, threadCount()));
  return {
    inputOf: (photo) => inputFor(squareOf(photo, manifest.preprocessing), manifest),
    run: async (input) =>
      logitsOf(await attempt(engine, artefact, backend, () => opened.run(input)), manifest),
    close: () => opened.close(),
  };
}

/** Runtimes throw errors, texts and numbers; each becomes one line. */
async function attempt(engine, { file }, backend, action) {
  try {
    return await action();
  } catch (error) {
    if (error instanceof RangeError) {
      throw new EdgeDeitError(`${file}: this browser has too little memory for it; close other tabs, or take int8`);
    }
    const said = String(error?.message ?? error).split("\n", 1)[0].slice(0, 300);
    const remedy = backend === "wasm" ? "choose another file" : "choose WebAssembly, or a float file";
    throw new EdgeDeitError(`${engine.name} refuses ${file} on ${backend}: ${said}; ${remedy}`);
  }
}

function notInstalled(engine) {
  return new EdgeDeitError(`${engine.name} is not installed; run npm ci in the page's folder and reload`);
}
