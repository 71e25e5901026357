import { percentile } from "./statistics.js";

/**
 * How every app measures, so that the figures of two devices can be compared.
 *
 * edge_deit/report/device_records.py says what each figure is, and refuses reports of another protocol.
 */
export const PROTOCOL = { photo_width: 4032, photo_height: 3024, warm_up: 5, runs: 100, preprocess_runs: 5 };

/** What may be null, each then with a reason in `notes`. */
const FIGURES = [
  "latency_ms_p50",
  "latency_ms_p90",
  "load_ms",
  "load_warm_ms",
  "first_run_ms",
  "preprocess_ms_p50",
  "peak_rss_bytes",
  "check",
];

/**
 * The JSON that the benchmark hands out and `edge_deit.validate --device-report` reads.
 *
 * `device` has model, osVersion and cores; model is null where the browser does not tell. `hidden` says whether the
 * page was out of sight while it measured. A measurement is what `measured` or `notMeasured` made.
 */
export function deviceReport(created, appVersion, device, hidden, measurements) {
  const report = {
    schema: 2,
    kind: "edge-deit-device-report",
    created: `${created.toISOString().slice(0, 19)}Z`,
    app: { name: "edge-deit-web", version: appVersion, build: "release" },
    device: {
      manufacturer: null,
      model: device.model,
      os: "Web",
      os_version: device.osVersion,
      soc: null,
      cores: device.cores,
    },
    protocol: PROTOCOL,
    conditions: {
      thermal_begin: null,
      thermal_end: null,
      power_saver: null,
      left_foreground: hidden,
      screen_kept_on: null,
    },
    artefacts: measurements,
  };
  return `${JSON.stringify(report, null, 2)}\n`;
}

/**
 * An entry for what ran; times in milliseconds, one sample a run.
 *
 * `check` is `checkModel`'s finding, or null where the bundle holds no answers of Python's.
 */
export function measured(manifest, runner, threads, times, check) {
  const { latencyMs, preprocessMs, loadMs, loadWarmMs, firstRunMs } = times;
  const notes = { peak_rss_bytes: "a browser does not tell a page" };
  if (check === null) notes.check = "the bundle has no answers of Python's to golden photos";
  return {
    ...heading(manifest, runner, threads),
    runs: latencyMs.length,
    latency_ms_p50: percentile(latencyMs, 0.5),
    latency_ms_p90: percentile(latencyMs, 0.9),
    load_ms: loadMs,
    load_warm_ms: loadWarmMs,
    first_run_ms: firstRunMs,
    preprocess_ms_p50: percentile(preprocessMs, 0.5),
    peak_rss_bytes: null,
    check: check && {
      reference: check.reference,
      images: check.images,
      same_top: check.sameTop,
      cosine: check.lowest,
    },
    notes,
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
