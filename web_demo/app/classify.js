import { rank } from "../core/ranking.js";
import { median } from "../core/statistics.js";
import { pause } from "./dom.js";
import { engineFor } from "./loaded.js";

const TOP = 5;
const RUNS = 5;

/**
 * The answer to an upright photo: `{top, preprocessMs, inferenceMs, runs}`; the latter times as the median of some
 * runs after one that does not count.
 */
export async function classify(photo, artefact, backend) {
  const engine = await engineFor(artefact, backend);
  const started = performance.now();
  const input = engine.inputOf(photo);
  const preprocessMs = performance.now() - started;
  const logits = await engine.run(input);
  const times = await timed(RUNS, () => engine.run(input));
  return { top: rank(logits, artefact.manifest.labels, TOP), preprocessMs, inferenceMs: median(times), runs: RUNS };
}

/** Milliseconds of each of some runs of an action; between them the page stays alive. */
export async function timed(runs, action) {
  const times = [];
  for (let run = 0; run < runs; run++) {
    await pause();
    const started = performance.now();
    await action();
    times.push(performance.now() - started);
  }
  return times;
}
