import { measured, notMeasured } from "../core/device_report.js";
import { EdgeDeitError } from "../core/error.js";
import { hashedPixels } from "../core/golden.js";
import { RgbImage } from "../core/rgb_image.js";
import { runnerName, threadCount } from "../engines/engines.js";
import { timed } from "./classify.js";
import { pause } from "./dom.js";
import { closeEngine, engineFor } from "./loaded.js";

/** Runs that warm up, and runs that are timed. */
export const WARM_UP = 5;
export const RUNS = 50;

const PREPROCESS_RUNS = 10;
const WIDTH = 1920;
const HEIGHT = 1440;
const BLOCK = 8; // flat squares of this side
const NOTES = {
  preprocess_ms_p50: `a generated photo of ${WIDTH} x ${HEIGHT} pixels, decoding not counted`,
  load_ms: "the file's way from the server and the check of its sha256 are counted",
};

/** Measures artefacts on backends: yields a device report's entry for each, also where it did not run. */
export async function* benchmark(artefacts, backends) {
  const photo = new RgbImage(WIDTH, HEIGHT, hashedPixels(WIDTH, HEIGHT, 1, BLOCK));
  for (const artefact of artefacts) {
    for (const backend of backends) {
      const runner = await runnerName(artefact.manifest, backend);
      const threads = backend === "wasm" ? threadCount() : null;
      await pause();
      yield await entryOf(artefact, backend, runner, threads, photo);
    }
  }
}

async function entryOf(artefact, backend, runner, threads, photo) {
  try {
    const figures = await measure(artefact, backend, photo);
    return measured(artefact.manifest, runner, threads, figures, NOTES);
  } catch (error) {
    if (!(error instanceof EdgeDeitError)) throw error;
    return notMeasured(artefact.manifest, runner, threads, error.message);
  }
}

async function measure(artefact, backend, photo) {
  await closeEngine();
  const started = performance.now();
  const engine = await engineFor(artefact, backend);
  const loadMs = performance.now() - started;
  const preprocessMs = await timed(PREPROCESS_RUNS, () => engine.inputOf(photo));
  const input = engine.inputOf(photo);
  await timed(WARM_UP, () => engine.run(input));
  return { loadMs, preprocessMs, latencyMs: await timed(RUNS, () => engine.run(input)) };
}
