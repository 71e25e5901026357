package org.edgedeit.core

import kotlin.math.sqrt

/**
 * How close a file on this phone comes to the golden logits.
 *
 * Those are of the same file where Python ran it, otherwise of the one that the golden spec names: another precision
 * differs a little. What "a little" is for each artefact, `edge_deit.validate` says.
 *
 * @property reference the file whose golden logits these were compared with.
 * @property sameTop images whose most probable class is the golden one.
 * @property cosine the lowest cosine of the logits, less their mean, over the images.
 */
class ModelCheck(
    val artefact: String,
    val runner: String,
    val reference: String,
    val images: Int,
    val sameTop: Int,
    val cosine: Double,
) {
    /** Whether every answer is Python's. */
    val agreed: Boolean get() = sameTop == images
}

/**
 * Runs a model on every image that has golden logits; null when there is none.
 *
 * `run` is given what the file takes and gives back what it returns. Logits count less their mean, which softmax does
 * not see: logarithms of probabilities become the same.
 *
 * @throws EdgeDeitException for cases of another model, answers that are not finite or not as many as labels.
 */
fun checkModel(
    spec: GoldenSpec,
    cases: GoldenCases,
    manifest: Manifest,
    runner: String,
    run: (ModelInput) -> FloatArray,
): ModelCheck? {
    if (manifest.labels != spec.labels || !manifest.preprocessing.sameAs(spec.preprocessing)) {
        throw EdgeDeitException(
            "the golden cases are for another model than ${manifest.artefact}; bundle them again, together",
        )
    }
    val answers = goldenAnswers(spec, cases, manifest.artefact)
    var sameTop = 0
    var lowest = Double.POSITIVE_INFINITY
    for (answer in answers) {
        val image = imageOf(spec, cases, answer)
        val input = manifest.contract.input(image.upright(), spec.preprocessing)
        val logits = manifest.contract.logits(run(input))
        val (first) = rank(logits, manifest.labels, 1)
        if (first.index == topK(answer.logits, 1).first()) sameTop++
        lowest = minOf(lowest, cosine(centred(logits), centred(answer.logits)))
    }
    if (answers.isEmpty()) return null
    val reference = answers.first().artefact ?: spec.artefact
    return ModelCheck(manifest.artefact, runner, reference, answers.size, sameTop, lowest)
}

/** What this file answered in Python; where it did not run there, what the spec's did. */
internal fun goldenAnswers(
    spec: GoldenSpec,
    cases: GoldenCases,
    artefact: String,
): List<ClassificationCase> {
    val answers = cases.classification.filter { it.image != null }
    return answers.filter { it.artefact == artefact }.ifEmpty {
        answers.filter { it.artefact == spec.artefact }
    }
}

internal fun imageOf(
    spec: GoldenSpec,
    cases: GoldenCases,
    answer: ClassificationCase,
): ImageCase =
    cases.images.find { it.name == answer.image && it.preprocessing.sameAs(spec.preprocessing) }
        ?: throw EdgeDeitException(
            "the golden cases hold no image ${answer.image} for the model; bundle it again",
        )

/** Logits less their mean. */
internal fun centred(values: DoubleArray): DoubleArray {
    val mean = values.average()
    return DoubleArray(values.size) { values[it] - mean }
}

/** Cosine of the angle between two vectors of one length; 0 where one of them is all zeros. */
internal fun cosine(
    a: DoubleArray,
    b: DoubleArray,
): Double {
    val product = sqrt(a.sumOf { it * it }) * sqrt(b.sumOf { it * it })
    return if (product > 0) a.indices.sumOf { a[it] * b[it] } / product else 0.0
}
