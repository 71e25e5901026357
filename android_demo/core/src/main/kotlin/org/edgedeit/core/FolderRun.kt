package org.edgedeit.core

import kotlin.math.log10
import kotlin.math.min

/** What a file answered in Python to one photo of a folder, or to a golden image. */
class PhotoAnswer(
    val name: String,
    val sha256: String?,
    val artefact: String,
    val logits: DoubleArray,
)

/** A photo as it is stored and decoded here. `sha256` is that of its file, null where there is none. */
class StoredPhoto(
    val sha256: String?,
    val image: RgbImage,
)

/**
 * A photo that a folder run takes, by its path in the folder.
 *
 * @property read decodes it, and throws EdgeDeitException where it cannot.
 */
class FolderPhoto(
    val name: String,
    val read: () -> StoredPhoto,
)

/** One compared photo: the first answers of this phone and of Python, and how far the logits are apart. */
class PhotoRow(
    val name: String,
    val answer: String,
    val expected: String,
    val snrDb: Double,
)

/** A photo that could not be compared, and why. */
class SkippedPhoto(
    val name: String,
    val reason: String,
)

/**
 * How a folder run ended.
 *
 * @property photos that were tried; less than the folder has where the run was stopped.
 * @property snrDb signal to noise of all compared logits, less their means; null where none were compared.
 * @property worst the photos that are furthest from Python, the furthest first.
 * @property skipped the first photos that could not be compared; `skippedCount` counts all.
 */
class FolderResult(
    val artefact: String,
    val reference: String?,
    val photos: Int,
    val compared: Int,
    val sameTop: Int,
    val snrDb: Double?,
    val worst: List<PhotoRow>,
    val skipped: List<SkippedPhoto>,
    val skippedCount: Int,
)

/**
 * Runs a model over photos, one at a time, and compares with what Python answered.
 *
 * A photo that cannot be read, has no answer or is not the file that Python saw is skipped with its reason; a runtime
 * that fails ends the run. `report` is told how many photos are done, and stops the run by returning false.
 *
 * @throws EdgeDeitException where the runtime refuses to run, or there is no photo.
 */
fun runFolder(
    photos: List<FolderPhoto>,
    answers: List<PhotoAnswer>,
    manifest: Manifest,
    run: (ModelInput) -> FloatArray,
    report: (done: Int) -> Boolean,
): FolderResult {
    if (photos.isEmpty()) throw EdgeDeitException("the folder holds no photo; choose another one")
    val known = answersOf(answers, manifest.artefact).associateBy { it.name }
    val tally = Tally(manifest)
    for ((done, photo) in photos.withIndex()) {
        val answer = known[photo.name]
        val input = if (answer == null) null else inputOf(photo, answer, manifest, tally)
        if (answer == null) {
            tally.skip(photo.name, "Python's answers have no such photo")
        } else if (input != null) {
            tally.add(answer, run(input))
        }
        if (!report(done + 1)) break
    }
    return tally.result()
}

/** Those of this file; where Python did not run it, those of the first one that it ran. */
private fun answersOf(
    answers: List<PhotoAnswer>,
    artefact: String,
): List<PhotoAnswer> {
    val own = answers.filter { it.artefact == artefact }
    return own.ifEmpty { answers.filter { it.artefact == answers.first().artefact } }
}

private fun inputOf(
    photo: FolderPhoto,
    answer: PhotoAnswer,
    manifest: Manifest,
    tally: Tally,
): ModelInput? =
    try {
        val stored = photo.read()
        if (answer.sha256 != null && stored.sha256 != null && answer.sha256 != stored.sha256) {
            throw EdgeDeitException("it is not the file that Python answered (sha256 differs)")
        }
        manifest.contract.input(stored.image, manifest.preprocessing)
    } catch (error: EdgeDeitException) {
        tally.skip(photo.name, error.message.orEmpty())
        null
    }

/** Sums, so that a thousand photos take the memory of a few. */
private class Tally(
    private val manifest: Manifest,
) {
    private val worst = ArrayList<PhotoRow>()
    private val skipped = ArrayList<SkippedPhoto>()
    private var skippedCount = 0
    private var compared = 0
    private var sameTop = 0
    private var signal = 0.0
    private var noise = 0.0
    private var reference: String? = null

    fun skip(
        name: String,
        reason: String,
    ) {
        skippedCount++
        if (skipped.size < SHOWN) skipped.add(SkippedPhoto(name, reason))
    }

    fun add(
        answer: PhotoAnswer,
        returned: FloatArray,
    ) {
        val logits = manifest.contract.logits(returned)
        if (answer.logits.size != logits.size) {
            throw EdgeDeitException(
                "${manifest.artefact} returns ${logits.size} values, Python's answers have " +
                    "${answer.logits.size}; write them again for this model",
            )
        }
        val first =
            try {
                rank(logits, manifest.labels, 1).first()
            } catch (error: EdgeDeitException) {
                return skip(answer.name, error.message.orEmpty()) // NaN of this one photo
            }
        val expected = topK(answer.logits, 1).first()
        compared++
        reference = answer.artefact
        if (first.index == expected) sameTop++
        val own = centred(answer.logits)
        val here = centred(logits)
        val ownSignal = own.sumOf { it * it }
        val ownNoise = own.indices.sumOf { (own[it] - here[it]) * (own[it] - here[it]) }
        signal += ownSignal
        noise += ownNoise
        keep(PhotoRow(answer.name, first.label, manifest.labels[expected], decibels(ownSignal, ownNoise)))
    }

    private fun keep(row: PhotoRow) {
        val place = worst.indexOfFirst { it.snrDb > row.snrDb }
        worst.add(if (place < 0) worst.size else place, row)
        if (worst.size > SHOWN) worst.removeAt(SHOWN)
    }

    fun result() =
        FolderResult(
            artefact = manifest.artefact,
            reference = reference,
            photos = compared + skippedCount,
            compared = compared,
            sameTop = sameTop,
            snrDb = if (compared == 0) null else decibels(signal, noise),
            worst = worst,
            skipped = skipped,
            skippedCount = skippedCount,
        )

    private companion object {
        const val SHOWN = 10
    }
}

/** 10 log10(signal / noise), at most what stands for equal logits; as edge_deit/metrics/outputs.py has it. */
fun decibels(
    signal: Double,
    noise: Double,
): Double = if (noise > 0) min(EQUAL_DB, 10 * log10(maxOf(signal, LEAST) / noise)) else EQUAL_DB

private const val EQUAL_DB = 200.0
private const val LEAST = 1e-300

/** The golden images that a file answered in Python, as photos of a folder, with the answers. */
fun goldenFolder(
    spec: GoldenSpec,
    cases: GoldenCases,
    artefact: String,
): Pair<List<FolderPhoto>, List<PhotoAnswer>> {
    val answers = goldenAnswers(spec, cases, artefact)
    val photos =
        answers.map { answer ->
            val image = imageOf(spec, cases, answer)
            FolderPhoto(image.name) { StoredPhoto(null, image.upright()) }
        }
    val known =
        answers.map {
            PhotoAnswer(
                it.image.orEmpty(),
                null,
                it.artefact ?: spec.artefact,
                it.logits,
            )
        }
    return Pair(photos, known)
}

/** The golden images of the model's own preprocessing that are photos: samples for a phone that has none. */
fun samplePhotos(
    spec: GoldenSpec,
    cases: GoldenCases,
): List<ImageCase> {
    val own = cases.images.filter { it.preprocessing.sameAs(spec.preprocessing) }
    return own.filter { it.isStored }.ifEmpty { own }
}

/** What Python's first answer to a sample was; null where it answered none. */
fun expectedLabel(
    spec: GoldenSpec,
    cases: GoldenCases,
    sample: String,
): String? =
    cases.classification
        .find {
            it.image == sample
        }?.let { spec.labels[topK(it.logits, 1).first()] }
