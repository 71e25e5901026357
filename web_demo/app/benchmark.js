import { measured, notMeasured, PROTOCOL } from "../core/device_report.js";
import { EdgeDeitError } from "../core/error.js";
import { hashedPixels } from "../core/golden.js";
import { RgbImage } from "../core/rgb_image.js";
import { checkModel } from "../core/self_test.js";
import { runnerName, threadCount } from "../engines/engines.js";
import { timed } from "./classify.js";
import { pause } from "./dom.js";
import { bytesOf, closeEngine, openFresh } from "./loaded.js";

const [SEED, BLOCK] = [1, 8];

/** Measures a bundle's artefacts on backends: yields a device report's entry for each, also where it did not run. */
export async function* benchmark(bundle, backends) {
  const { photo_width: width, photo_height: height } = PROTOCOL;
  const photo = new RgbImage(width, height, hashedPixels(width, height, SEED, BLOCK));
  const cases = await bundle.goldenCases();
  for (const artefact of bundle.artefacts) {
    for (const backend of backends) {
      const runner = await runnerName(artefact.manifest, backend);
      const threads = backend === "wasm" ? threadCount() : null;
      await pause();
      yield await entryOf(artefact, backend, runner, threads, { photo, cases, spec: bundle.spec });
    }
  }
}

async function entryOf(artefact, backend, runner, threads, given) {
  try {
    const [times, engine] = await measure(artefact, backend, given.photo);
    const check = await checkModel(given.spec, given.cases, artefact.file, async (photo) => {
      await pause();
      return engine.run(engine.inputOf(photo));
    });
    return measured(artefact.manifest, runner, threads, times, check);
  } catch (error) {
    if (!(error instanceof EdgeDeitError)) throw error;
    return notMeasured(artefact.manifest, runner, threads, error.message);
  }
}

/** As the protocol says: `[times, engine]`. */
async function measure(artefact, backend, photo) {
  const bytes = await bytesOf(artefact);
  let engine;
  const loads = [];
  for (let load = 0; load < 2; load++) {
    await closeEngine();
    loads.push(...(await timed(1, async () => (engine = await openFresh(artefact, bytes, backend)))));
  }
  await timed(1, () => engine.inputOf(photo));
  const preprocessMs = await timed(PROTOCOL.preprocess_runs, () => engine.inputOf(photo));
  const input = engine.inputOf(photo);
  const [firstRunMs] = await timed(1, () => engine.run(input));
  await timed(PROTOCOL.warm_up, () => engine.run(input));
  const latencyMs = await timed(PROTOCOL.runs, () => engine.run(input));
  return [{ loadMs: loads[0], loadWarmMs: loads[1], firstRunMs, preprocessMs, latencyMs }, engine];
}
