import { percentile } from "./statistics.js";

/** Figures that may be null, each then with a reason in `notes`. */
const FIGURES = ["latency_ms_p50", "latency_ms_p90", "load_ms", "preprocess_ms_p50", "peak_rss_bytes"];

/**
 * The JSON that the benchmark hands out and `edge_deit.validate --device-report` reads.
 *
 * `device` has model, osVersion and cores; model is null where the browser does not tell. A measurement is what
 * `measured` or `notMeasured` made.
 */
export function deviceReport(created, appVersion, device, measurements) {
  const report = {
    schema: 1,
    kind: "edge-deit-device-report",
    created: `${created.toISOString().slice(0, 19)}Z`,
    app: { name: "edge-deit-web", version: appVersion },
    device: {
      manufacturer: null,
      model: device.model,
      os: "Web",
      os_version: device.osVersion,
      soc: null,
      cores: device.cores,
    },
    artefacts: measurements,
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

/** An entry for what ran; times in milliseconds, one sample a run. */
export function measured(manifest, runner, threads, { latencyMs, preprocessMs, loadMs }, notes) {
  return {
    ...heading(manifest, runner, threads),
    runs: latencyMs.length,
    latency_ms_p50: percentile(latencyMs, 0.5),
    latency_ms_p90: percentile(latencyMs, 0.9),
    load_ms: loadMs,
    preprocess_ms_p50: percentile(preprocessMs, 0.5),
    peak_rss_bytes: null,
    notes: { peak_rss_bytes: "a browser does not tell a page", ...notes },
  };
}

/** An entry for what did not run, and why. */
export function notMeasured(manifest, runner, threads, reason) {
  const empty = Object.fromEntries(FIGURES.map((name) => [name, null]));
  const notes = Object.fromEntries(FIGURES.map((name) => [name, reason]));
  return { ...heading(manifest, runner, threads), runs: 0, ...empty, notes };
}

function heading(manifest, runner, threads) {
  return {
    path: manifest.artefact,
    sha256: manifest.sha256,
    target: manifest.target,
    precision: manifest.precision,
    model: manifest.model,
    runner,
    threads,
  };
}
