import { EdgeDeitError } from "../core/error.js";
import { checkModel, selfTest } from "../core/self_test.js";
import { byId, element, pause, row } from "./dom.js";
import { engineFor } from "./loaded.js";

/**
 * Cosines below which an export fails (edge_deit/conversion/parity.py), and a file is wrong in this browser: of float
 * files on the worst photo, of integer ones over all photos together.
 */
const LEAST_COSINE = { fp32: 0.99, fp16: 0.99 };
const LEAST_COSINE_INTEGER = 0.9;

/** Runs the golden cases, then every file on the photos that have golden logits. */
export async function runSelfTest(bundle, backends) {
  clear();
  const cases = await bundle.goldenCases();
  const total = cases.images.length + cases.classification.length + cases.refused.length;
  const failures = [];
  let done = 0;
  for await (const { kind, name, failure } of selfTest(bundle.spec, cases)) {
    if (failure !== null) failures.push(`${kind} ${name}: ${failure}`);
    byId("test-progress").value = ++done / total;
    await pause();
  }
  failures.push(...(await checkFiles(bundle, backends, cases)));
  show(failures, total);
}

async function checkFiles({ artefacts, spec }, backends, cases) {
  const failures = [];
  for (const artefact of artefacts) {
    for (const backend of backends) {
      byId("test-result").textContent = `Running ${artefact.file} on ${backend}`;
      await pause();
      const failure = await checkFile(artefact, backend, spec, cases);
      if (failure) failures.push(failure);
    }
  }
  return failures;
}

/** Adds a file's row; returns what is wrong with its answers. A file that a backend refuses fails on wasm only. */
async function checkFile(artefact, backend, spec, cases) {
  const { file, manifest } = artefact;
  try {
    const engine = await engineFor(artefact, backend);
    const found = await checkModel(spec, cases, file, async (photo) => {
      await pause();
      return engine.run(engine.inputOf(photo));
    });
    if (!found) return null;
    add(file, backend, `${found.sameTop} of ${found.images}`, found.lowest.toFixed(5));
    const float = Object.hasOwn(LEAST_COSINE, manifest.precision);
    const least = float ? LEAST_COSINE[manifest.precision] : LEAST_COSINE_INTEGER;
    const cosine = float ? found.lowest : found.together;
    return cosine >= least ? null : `${file} on ${backend}: cosine ${cosine.toFixed(3)}, below ${least}`;
  } catch (error) {
    if (!(error instanceof EdgeDeitError)) throw error;
    add(file, backend, error.message, "-");
    return backend === "wasm" ? error.message : null;
  }
}

function add(...cells) {
  byId("test-models").hidden = false;
  byId("test-models").tBodies[0].append(row(...cells));
}

function clear() {
  byId("test-models").hidden = true;
  byId("test-models").tBodies[0].replaceChildren();
  byId("test-failures").replaceChildren();
  byId("test-result").textContent = "";
  byId("test-progress").hidden = false;
  byId("test-progress").value = 0;
}

function show(failures, total) {
  byId("test-progress").hidden = true;
  const passed = `All ${total} cases passed, and every file answers as in Python.`;
  byId("test-result").textContent = failures.length === 0 ? passed : `${failures.length} failed:`;
  byId("test-failures").replaceChildren(...failures.map((failure) => element("li", failure)));
}
