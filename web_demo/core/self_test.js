import { littleEndian, sha256 } from "./bytes.js";
import { EdgeDeitError } from "./error.js";
import { preprocess } from "./preprocess.js";
import { centred, cosine, rank, softmax, topK } from "./ranking.js";
import { RgbImage } from "./rgb_image.js";

const TOLERANCE = 1e-6;

/**
 * All golden cases on this machine: yields `{kind, name, failure}` for each, failure null when it passed.
 */
export async function* selfTest(spec, cases) {
  const all = [
    ...cases.images.map((one) => ["image", one.name, () => checkImage(one)]),
    ...cases.classification.map((one) => ["classification", one.name, () => checkClassification(one, spec.topK)]),
    ...cases.refused.map((one) => ["refused", one.name, () => checkRefused(one, spec.labels)]),
  ];
  for (const [kind, name, check] of all) yield { kind, name, failure: await failureOf(check) };
}

async function failureOf(check) {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof EdgeDeitError)) throw error;
    return error.message;
  }
}

async function checkImage(one) {
  const photo = RgbImage.upright(one.width, one.height, one.orientation, one.raw());
  const tensor = preprocess(photo, one.preprocessing);
  if ((await sha256(littleEndian(tensor))) === one.tensorSha256) return null;
  const wrong = one.samples.find(([index, value]) => tensor[index] !== value);
  const where = wrong ? `; value ${wrong[0]} is ${tensor[wrong[0]]}, it must be ${wrong[1]}` : "";
  return `the tensor differs${where}`;
}

function checkClassification(one, k) {
  const probabilities = softmax(one.logits);
  if (probabilities.length !== one.probabilities.length) {
    return `${probabilities.length} probabilities instead of ${one.probabilities.length}`;
  }
  const far = one.probabilities.findIndex((wanted, i) => !(Math.abs(probabilities[i] - wanted) <= TOLERANCE));
  if (far >= 0) return `probability ${far} is ${probabilities[far]}, it must be ${one.probabilities[far]}`;
  const top = topK(one.logits, k);
  return top.join() === one.top.join() ? null : `the order is ${top}, it must be ${one.top}`;
}

/** Values that are not finite must be refused whatever their number, others for their number. */
function checkRefused(one, labels) {
  try {
    if (one.logits.every(Number.isFinite)) rank(one.logits, labels, 1);
    else softmax(one.logits);
  } catch (error) {
    if (error instanceof EdgeDeitError) return null;
    throw error;
  }
  return "it was accepted; it must be refused";
}

/**
 * How close the file of this name comes in this browser to the golden logits, or null where no image has any.
 *
 * `run` takes an upright photo and returns logits. The golden ones are those of the same file, as Python's runtime
 * computed them; where it did not run there, those of the file that the spec names, which differ a little (`reference`). `lowest` is the lowest cosine of a photo,
 * `together` that over all photos' logits.
 */
export async function checkModel(spec, cases, file, run) {
  const found = [];
  const answers = (name) => cases.classification.filter((one) => one.image !== null && one.artefact === name);
  const reference = answers(file).length > 0 ? file : spec.artefact;
  for (const golden of answers(reference)) {
    const image = cases.images.find((one) => one.name === golden.image);
    if (!image || JSON.stringify(image.preprocessing) !== JSON.stringify(spec.preprocessing)) {
      throw new EdgeDeitError(`the golden cases hold no image ${golden.image} for the model; bundle it again`);
    }
    const logits = await run(RgbImage.upright(image.width, image.height, image.orientation, image.raw()));
    rank(logits, spec.labels, 1);
    found.push({ logits: centred(logits), golden: centred(golden.logits) });
  }
  if (found.length === 0) return null;
  return {
    reference,
    images: found.length,
    sameTop: found.filter((one) => topK(one.logits, 1)[0] === topK(one.golden, 1)[0]).length,
    lowest: Math.min(...found.map((one) => cosine(one.logits, one.golden))),
    together: cosine(found.flatMap((one) => one.logits), found.flatMap((one) => one.golden)),
  };
}
