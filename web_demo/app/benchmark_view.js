import { deviceReport, PROTOCOL } from "../core/device_report.js";
import { threadCount } from "../engines/engines.js";
import { benchmark } from "./benchmark.js";
import { describeDevice } from "./device.js";
import { byId, element, milliseconds, row } from "./dom.js";

const COLUMNS = 5;

/** Measures every file on every backend and keeps the report for download. */
export class BenchmarkView {
  #entries = [];
  #hidden = false;
  #version;

  constructor(version) {
    this.#version = version;
    byId("download").onclick = () => this.#download();
    const threads = threadCount() === 1 ? "one thread" : `${threadCount()} threads`;
    byId("benchmark-text").textContent =
      `Measures every file: ${PROTOCOL.runs} runs after ${PROTOCOL.warm_up} to warm up, WebAssembly with ${threads}. ` +
      "Keep this tab in front and leave the device alone meanwhile.";
  }

  async run(bundle, backends) {
    const table = byId("measurements");
    table.tBodies[0].replaceChildren();
    table.hidden = false;
    this.#entries = [];
    const total = bundle.artefacts.length * backends.length;
    const tell = () => (byId("benchmark-state").textContent = `${this.#entries.length} of ${total} measured`);
    tell();
    this.#hidden = document.hidden;
    const watch = () => (this.#hidden ||= document.hidden);
    document.addEventListener("visibilitychange", watch);
    try {
      for await (const entry of benchmark(bundle, backends)) {
        this.#entries.push(entry);
        table.tBodies[0].append(rowOf(entry));
        tell();
      }
    } finally {
      document.removeEventListener("visibilitychange", watch);
    }
  }

  /** Turns the download on where there is something to hand out. */
  update(busy) {
    byId("download").disabled = busy || this.#entries.length === 0;
  }

  async #download() {
    const text = deviceReport(new Date(), this.#version, await describeDevice(), this.#hidden, this.#entries);
    const link = element("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "edge-deit-device-report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  }
}

function rowOf(entry) {
  if (entry.runs === 0) {
    const failed = row(entry.path, entry.runner, entry.notes.latency_ms_p50);
    failed.lastChild.colSpan = COLUMNS - 2;
    failed.lastChild.className = "failed";
    return failed;
  }
  const times = [entry.latency_ms_p50, entry.latency_ms_p90, entry.load_ms];
  return row(entry.path, entry.runner, ...times.map(milliseconds));
}
