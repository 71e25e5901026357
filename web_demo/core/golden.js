import { fromBase64, sha256 } from "./bytes.js";
import { checkSchema, Json } from "./json.js";
import { parsePreprocessSpec } from "./preprocess_spec.js";
import { PRECISION_BITS } from "./resample.js";
import { VERTICAL_FIRST_IF } from "./resize.js";

const SPEC_SCHEMA = 1;
const CASES_SCHEMA = 2;
const NOT_FINITE = { nan: NaN, inf: Infinity, "-inf": -Infinity };

/** What the golden cases belong to; throws EdgeDeitError for rules that this port does not follow. */
export async function parseGoldenSpec(text, name) {
  const json = Json.parse(text, name);
  checkSchema(json, SPEC_SCHEMA);
  checkResize(json.get("resize"));
  json.get("ties").oneOf(["lower index first"]);
  const labels = json.get("labels").list().map((one) => one.string());
  const digest = await sha256(new TextEncoder().encode(labels.join("\n")));
  if (digest !== json.get("labels_sha256").sha256()) json.get("labels_sha256").wrong("the sha256 of the labels");
  return {
    artefact: json.get("artefact").text(),
    preprocessing: parsePreprocessSpec(json.get("preprocessing")),
    labels,
    topK: json.get("top_k").int(1),
  };
}

function checkResize(rule) {
  rule.get("implementation").oneOf(["Pillow"]);
  rule.get("precision_bits").oneOf([PRECISION_BITS]);
  rule.get("bicubic_a").oneOf([-0.5]);
  const passes = rule.get("passes").list().map((pass) => pass.text());
  if (passes.join() !== "horizontal,vertical") rule.get("passes").wrong("horizontal, then vertical");
  rule.get("vertical_first_if").oneOf([VERTICAL_FIRST_IF]);
}

/**
 * Photos with their tensors' sha256, logits with their ranking, and logits that must be refused.
 *
 * `image` of logits names the photo that the file `artefact` answered with them; both are null where they were made up.
 */
export function parseGoldenCases(text, name) {
  const json = Json.parse(text, name);
  checkSchema(json, CASES_SCHEMA);
  return {
    images: json.get("images").list().map(imageCase),
    classification: json.get("classification").list().map((one) => ({
      name: one.get("name").text(),
      image: textOrNull(one.get("image")),
      artefact: textOrNull(one.get("artefact")),
      logits: one.get("logits").numbers(),
      probabilities: one.get("probabilities").numbers(),
      top: one.get("top").list().map((index) => index.int()),
    })),
    refused: json.get("refused").list().map((one) => ({
      name: one.get("name").text(),
      logits: one.get("logits").list().map(anyNumber),
    })),
  };
}

function imageCase(json) {
  const [width, height] = [json.get("width").int(1), json.get("height").int(1)];
  return {
    name: json.get("name").text(),
    width,
    height,
    orientation: json.get("orientation").int(1),
    raw: rawPixels(json.get("pixels"), width, height),
    preprocessing: parsePreprocessSpec(json.get("preprocessing")),
    tensorSha256: json.get("tensor_sha256").sha256(),
    samples: json.get("samples").list().map((pair) => {
      const [index, value] = pair.list();
      return [index.int(), Math.fround(value.number())];
    }),
  };
}

/** A function that makes the stored pixels when they are asked for: all at once are many. */
function rawPixels(json, width, height) {
  const [kind, ...more] = json.names();
  if (more.length > 0 || !["hash", "base64"].includes(kind)) json.wrong("either hash or base64");
  if (kind === "base64") {
    const text = json.get("base64").text();
    return () => fromBase64(text);
  }
  const seed = json.get("hash").get("seed").int();
  const block = json.get("hash").get("block").int(1);
  return () => hashedPixels(width, height, seed, block);
}

function textOrNull(json) {
  return json.value === null ? null : json.text();
}

function anyNumber(json) {
  return json.value in NOT_FINITE ? NOT_FINITE[json.value] : json.number();
}

/**
 * Pixels that cost no space: byte (y, x, c) is a hash of its block and channel, in 32 bits.
 *
 * `block` 1 is noise, larger ones are flat squares.
 */
export function hashedPixels(width, height, seed, block) {
  const out = new Uint8Array(3 * width * height);
  const across = Math.ceil(width / block);
  let to = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const first = 3 * (Math.floor(y / block) * across + Math.floor(x / block));
      for (let channel = 0; channel < 3; channel++) out[to++] = hash(first + channel, seed);
    }
  }
  return out;
}

function hash(index, seed) {
  let value = (Math.imul(index, 2654435761) + Math.imul(seed, 2246822519)) | 0;
  value ^= value >>> 15;
  value = Math.imul(value, 3266489917);
  return value ^ (value >>> 13);
}
