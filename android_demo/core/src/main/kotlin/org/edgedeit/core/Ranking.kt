package org.edgedeit.core

import kotlin.math.exp

/** One class of an answer. */
class Ranked(
    val index: Int,
    val label: String,
    val probability: Double,
    val logit: Double,
)

/**
 * The `top` most probable classes, most probable first, as edge_deit.predict ranks them.
 *
 * @throws EdgeDeitException for logits that are not finite, or not as many as there are labels.
 */
fun rank(
    logits: DoubleArray,
    labels: List<String>,
    top: Int,
): List<Ranked> {
    if (logits.size != labels.size) {
        throw EdgeDeitException(
            "the model returned ${logits.size} values for ${labels.size} labels; bundle it again",
        )
    }
    val probabilities = softmax(logits)
    return topK(logits, top).map { Ranked(it, labels[it], probabilities[it], logits[it]) }
}

/**
 * Probabilities of logits, in double precision.
 *
 * @throws EdgeDeitException for no logits, or one that is NaN or infinite.
 */
fun softmax(logits: DoubleArray): DoubleArray {
    if (logits.isEmpty()) throw EdgeDeitException("the model returned nothing")
    if (logits.any { it.isNaN() || it.isInfinite() }) {
        throw EdgeDeitException("the model returned NaN or infinite logits; export it again")
    }
    val largest = logits.max()
    val shares = DoubleArray(logits.size) { exp(logits[it] - largest) }
    val sum = shares.sum()
    return DoubleArray(shares.size) { shares[it] / sum }
}

/** Indices of the `k` largest logits; of equal ones the lower index comes first. */
fun topK(
    logits: DoubleArray,
    k: Int,
): List<Int> {
    val best = ArrayList<Int>(k + 1)
    for (index in logits.indices) {
        var place = best.size
        // a primitive comparison: 0.0 and -0.0 are equal, which compareTo would tell apart
        while (place > 0 && logits[best[place - 1]] < logits[index]) place--
        if (place < k) {
            best.add(place, index)
            if (best.size > k) best.removeAt(k)
        }
    }
    return best
}
