import { EdgeDeitError } from "./error.js";

/**
 * The `top` most probable classes, most probable first, as edge_deit.predict ranks them:
 * `{index, label, probability, logit}` each.
 *
 * Throws EdgeDeitError for logits that are not finite, or not as many as there are labels.
 */
export function rank(logits, labels, top) {
  if (logits.length !== labels.length) {
    throw new EdgeDeitError(
      `the model returned ${logits.length} values for ${labels.length} labels; bundle it again`,
    );
  }
  const probabilities = softmax(logits);
  return topK(logits, top).map((index) => ({
    index,
    label: labels[index],
    probability: probabilities[index],
    logit: logits[index],
  }));
}

/** Probabilities of logits, in double precision; throws EdgeDeitError for none, or one not finite. */
export function softmax(logits) {
  if (logits.length === 0) throw new EdgeDeitError("the model returned nothing");
  if (!logits.every(Number.isFinite)) {
    throw new EdgeDeitError("the model returned NaN or infinite logits; export it again");
  }
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const shares = Float64Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = shares.reduce((a, b) => a + b);
  return shares.map((share) => share / sum);
}

/** Indices of the `k` largest logits; of equal ones the lower index comes first. */
export function topK(logits, k) {
  const indices = Array.from(logits, (_, index) => index);
  return indices.sort((a, b) => logits[b] - logits[a] || a - b).slice(0, k);
}

/** Logits less their mean, which softmax does not see: logarithms of probabilities become the same. */
export function centred(logits) {
  const mean = logits.reduce((a, b) => a + b) / logits.length;
  return Array.from(logits, (logit) => logit - mean);
}

/** Cosine of the angle between two vectors; 0 where one has no length. */
export function cosine(a, b) {
  let [dot, ofA, ofB] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i] * b[i];
    ofA += a[i] ** 2;
    ofB += b[i] ** 2;
  }
  const lengths = Math.sqrt(ofA) * Math.sqrt(ofB);
  return lengths > 0 ? dot / lengths : 0;
}
