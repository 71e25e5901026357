package org.edgedeit.core

import kotlin.math.abs

/** Which part of the port a case checks. */
enum class CaseKind { IMAGE, FILE, FRAME, CLASSIFICATION, REFUSED }

/** How one golden case ended; `failure` is null when it passed. */
class CaseResult(
    val kind: CaseKind,
    val name: String,
    val failure: String?,
)

/**
 * Runs all golden cases on this machine, the same way in a unit test and on a phone.
 *
 * `decode` makes an upright photo of an image file's bytes; null where this machine has no decoder, which leaves those
 * cases out. `report` is called after every case; returning false stops early (the screen was left).
 */
fun selfTest(
    spec: GoldenSpec,
    cases: GoldenCases,
    decode: ((ByteArray) -> RgbImage)?,
    report: (CaseResult) -> Boolean,
) {
    val files = if (decode == null) emptyList() else cases.files.map { Pair(it, decode) }
    val all =
        cases.images.asSequence().map { Triple(CaseKind.IMAGE, it.name) { checkImage(it) } } +
            files.asSequence().map { (case, decode) ->
                Triple(CaseKind.FILE, case.name) { checkFile(case, decode) }
            } +
            cases.frames.asSequence().map { Triple(CaseKind.FRAME, it.name) { checkFrame(it) } } +
            cases.classification.asSequence().map {
                Triple(CaseKind.CLASSIFICATION, it.name) { checkClassification(it, spec.topK) }
            } +
            cases.refused.asSequence().map {
                Triple(CaseKind.REFUSED, it.name) { checkRefused(it, spec.labels) }
            }
    for ((kind, name, check) in all) {
        val failure =
            try {
                check()
            } catch (error: EdgeDeitException) {
                error.message
            }
        if (!report(CaseResult(kind, name, failure))) return
    }
}

private fun checkImage(case: ImageCase): String? {
    val square = square(case.upright(), case.preprocessing)
    val tensor = normalise(square, case.preprocessing)
    if (sha256(littleEndian(tensor)) == case.tensorSha256) {
        return if (sha256(square) == case.bytesSha256) null else "the bytes differ"
    }
    val wrong = case.samples.find { (at, value) -> at >= tensor.size || tensor[at] != value }
    val where =
        wrong?.let { (at, value) -> "; value $at is ${tensor.getOrNull(at)}, it must be $value" }
    return "the tensor differs${where.orEmpty()}"
}

private fun checkFile(
    case: FileCase,
    decode: (ByteArray) -> RgbImage,
): String? {
    val image = decode(case.png)
    return when {
        image.width != case.width || image.height != case.height -> {
            "it is ${image.width} x ${image.height}, it must be ${case.width} x ${case.height}"
        }

        sha256(image.bytes) != case.rgbSha256 -> {
            "the decoder changes the stored values; are colours converted?"
        }

        else -> {
            null
        }
    }
}

private fun checkFrame(case: FrameCase): String? {
    val image =
        try {
            case.upright()
        } catch (error: EdgeDeitException) {
            return if (case.rgbSha256 == null) null else error.message
        }
    return when (case.rgbSha256) {
        null -> "it was converted; it must be refused"
        sha256(image.bytes) -> null
        else -> "the pixels differ"
    }
}

private fun checkClassification(
    case: ClassificationCase,
    topK: Int,
): String? {
    val probabilities = softmax(case.logits)
    val top = topK(case.logits, topK)
    val far =
        if (case.probabilities.size != probabilities.size) {
            return "${probabilities.size} probabilities instead of ${case.probabilities.size}"
        } else {
            probabilities.indices.find { abs(probabilities[it] - case.probabilities[it]) > TOLERANCE }
        }
    return when {
        far != null -> {
            "probability $far is ${probabilities[far]}, it must be ${case.probabilities[far]}"
        }

        top != case.top -> {
            "the order is $top, it must be ${case.top}"
        }

        else -> {
            null
        }
    }
}

/** Values that are not finite must be refused whatever their number, others for their number. */
private fun checkRefused(
    case: RefusedCase,
    labels: List<String>,
): String? =
    try {
        if (case.logits.all { it.isFinite() }) rank(case.logits, labels, 1) else softmax(case.logits)
        "it was accepted; it must be refused"
    } catch (_: EdgeDeitException) {
        null
    }

private const val TOLERANCE = 1e-6
