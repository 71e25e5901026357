import { checkSchema, Json } from "./json.js";
import { normalise } from "./preprocess.js";
import { parsePreprocessSpec } from "./preprocess_spec.js";

const SCHEMA = 1;

/** Targets that a browser runs. */
export const TARGETS = ["onnx", "tflite"];

const LEAST = 2 ** -126; // a probability that has become 0; the smallest normal float32

/**
 * What the page needs of an artefact's manifest (edge_deit/artefacts/manifest.py writes it).
 *
 * The file takes pixels, float32 (1, 3, H, W), or a photo's bytes, uint8 (1, H, W, 3), and returns logits or
 * probabilities, float32 (1, K). Throws EdgeDeitError for anything else; `name` stands in front of it.
 */
export function parseManifest(text, name) {
  const json = Json.parse(text, name);
  checkSchema(json, SCHEMA);
  json.get("task").oneOf(["classification"]);
  const preprocessing = parsePreprocessSpec(json.get("preprocessing"));
  const labels = json.get("labels").list().map((one) => one.string());
  return {
    artefact: json.get("artefact").fileName(),
    sha256: json.get("sha256").sha256(),
    sizeBytes: json.get("size_bytes").int(1),
    target: json.get("target").oneOf(TARGETS),
    precision: json.get("precision").text(),
    model: json.get("model").text(),
    input: inputOf(json.get("input"), preprocessing.cropSize),
    output: outputOf(json.get("output"), labels.length),
    preprocessing,
    labels,
  };
}

function inputOf(json, crop) {
  const dtype = json.get("dtype").oneOf(["float32", "uint8"]);
  const image = dtype === "uint8";
  json.get("layout").oneOf([image ? "NHWC" : "NCHW"]);
  const shape = image ? [1, crop, crop, 3] : [1, 3, crop, crop];
  checkShape(json.get("shape"), shape, "as crop_size says");
  return { name: json.get("name").text(), dtype, shape };
}

function outputOf(json, classes) {
  json.get("dtype").oneOf(["float32"]);
  checkShape(json.get("shape"), [1, classes], `as there are ${classes} labels`);
  const name = json.get("name").text();
  return { name, probabilities: name === "probabilities" };
}

function checkShape(json, shape, reason) {
  const found = json.numbers();
  const same = found.length === shape.length && found.every((length, axis) => length === shape[axis]);
  if (!same) json.wrong(`[${shape.join(", ")}], ${reason}`);
}

/** What the file takes for the bytes of a square (crop, crop, 3). */
export function inputFor(square, manifest) {
  return manifest.input.dtype === "uint8" ? square : normalise(square, manifest.preprocessing);
}

/** What the file returned as logits: of probabilities their logarithms, as edge_deit has it. */
export function logitsOf(returned, manifest) {
  if (!manifest.output.probabilities) return Float64Array.from(returned);
  return Float64Array.from(returned, (share) => Math.fround(Math.log(share < LEAST ? LEAST : share)));
}
