import { backends as availableBackends } from "../engines/engines.js";
import { BenchmarkView } from "./benchmark_view.js";
import { byId, element } from "./dom.js";
import { loadBundle } from "./files.js";
import { PhotoView } from "./photo_view.js";
import { runSelfTest } from "./self_test_view.js";
import { doTask, showProblem, watchTasks } from "./tasks.js";

const BACKENDS = { wasm: "WebAssembly", webgpu: "WebGPU" };
const ENGINES = { onnx: "ONNX", tflite: "LiteRT" };
const NO_MODEL = `No model is bundled. On the computer, export a model, bundle it and reload this page:
python -m edge_deit.bundle out/deit_tiny.int8.onnx --web web_demo`;

async function start() {
  byId("about").textContent = "Photos are classified on this device; nothing is sent anywhere.";
  document.querySelector("main").hidden = false;
  const bundle = await loadBundle();
  if (!bundle) {
    for (const section of document.querySelectorAll("section")) section.hidden = true;
    showProblem(NO_MODEL);
    return;
  }
  const version = (await (await fetch(new URL("../package.json", import.meta.url))).json()).version;
  wire(bundle, await availableBackends(), version);
}

function wire(bundle, backends, version) {
  const [model, backend] = [byId("model"), byId("backend")];
  model.replaceChildren(...bundle.artefacts.map(({ manifest: one }) => option(one.artefact, `${one.precision}, ${ENGINES[one.target]}: ${one.artefact}`)));
  backend.replaceChildren(...backends.map((name) => option(name, BACKENDS[name])));
  const chosen = () => ({
    artefact: bundle.artefacts.find(({ file }) => file === model.value),
    backend: backend.value,
  });
  const photos = new PhotoView(chosen);
  const benchmark = new BenchmarkView(version);
  model.onchange = backend.onchange = () => photos.again();
  byId("test").onclick = () => doTask(() => runSelfTest(bundle, backends));
  byId("measure").onclick = () => doTask(() => benchmark.run(bundle, backends));
  watchTasks((busy) => {
    for (const id of ["model", "backend", "file", "camera", "test", "measure"]) byId(id).disabled = busy;
    document.querySelector("label.button").classList.toggle("off", busy);
    document.body.ariaBusy = String(busy);
    benchmark.update(busy);
  });
  document.body.dataset.ready = "yes";
}

function option(value, text) {
  const made = element("option", text);
  made.value = value;
  return made;
}

doTask(start);
