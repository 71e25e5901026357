package org.edgedeit.demo

import android.content.Context
import android.graphics.Bitmap
import android.net.Uri
import android.os.SystemClock
import org.edgedeit.core.Bundle
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.Placement
import org.edgedeit.core.Ranked
import org.edgedeit.core.expectedLabel
import org.edgedeit.core.median
import org.edgedeit.core.rank
import org.edgedeit.core.samplePhotos
import org.edgedeit.demo.engine.Engines
import java.io.File

/** What became of one photo; times in milliseconds. */
class Answer(
    val ranked: List<Ranked>,
    val preview: Bitmap,
    val photo: PhotoSize,
    val preprocessMs: Double,
    val inferenceMs: Double,
    val runner: String,
)

/**
 * The main screen's state. It outlives rotations; all its fields belong to the main thread.
 *
 * The photo is a copy in the cache folder, so that it can be read again with another model, and
 * after the system has ended the app.
 */
class MainModel(
    private val context: Context,
) {
    var loading = true
        private set
    var bundle: Bundle? = null
        private set
    var answer: Answer? = null
        private set

    /** What Python answered to the sample that is shown; null for other photos. */
    var expected: String? = null
        private set
    var problem: String? = null
        private set
    var running = 0
        private set

    /** Index into the bundle's artefacts. */
    var selected = 0
    var placement = defaultPlacement()

    /** Called after every change while a screen shows this. */
    var onChange: () -> Unit = {}

    /** What was asked for before the bundle was read: the system may end the app behind the camera. */
    private var waiting: (() -> Unit)? = null

    private val photoFile = File(context.cacheDir, "photo")

    init {
        start({ BundleAssets(context).load() }) { found, problem ->
            loading = false
            bundle = found
            this.problem = problem
            waiting?.let(::classify)
            waiting = null
        }
    }

    /** Copies a chosen photo, or takes over the camera's, and classifies it. */
    fun open(uri: Uri) {
        expected = null
        classify { PhotoFiles.copy(context, uri, photoFile) }
    }

    /** Hands the names of the bundle's sample photos to `done`. */
    fun samples(done: (List<String>) -> Unit) {
        val bundle = bundle ?: return
        start({ samplePhotos(bundle.goldenSpec, bundle.goldenCases()).map { it.name } }) { names, problem ->
            this.problem = problem
            if (names != null) done(names)
        }
    }

    /** Classifies a sample photo of the bundle. */
    fun openSample(name: String) {
        val bundle = bundle ?: return
        classify {
            val cases = bundle.goldenCases()
            val sample = samplePhotos(bundle.goldenSpec, cases).first { it.name == name }
            PhotoFiles.write(sample.upright(), photoFile)
            expectedLabel(bundle.goldenSpec, cases, name).let { Background.main { expected = it } }
        }
    }

    /** Classifies the last photo again, with what is selected now; does nothing without one. */
    fun repeat() {
        if (photoFile.exists()) classify {}
    }

    /** Forgets an earlier session's photo. */
    fun forget() {
        Background.run { photoFile.delete() }
    }

    fun close() {
        Background.run(Engines.slot::close)
    }

    private fun classify(fetch: () -> Unit) {
        if (loading) {
            waiting = fetch
            return
        }
        val artefact = bundle?.artefacts?.getOrNull(selected) ?: return
        val placement = placement
        start({
            fetch()
            answerOf(artefact, placement)
        }) { answer, problem ->
            this.answer = answer
            this.problem = problem
        }
    }

    private fun answerOf(
        artefact: BundledArtefact,
        placement: Placement,
    ): Answer {
        val photo = PhotoReader.read(photoFile)
        val started = SystemClock.elapsedRealtimeNanos()
        val manifest = artefact.manifest
        val input = manifest.contract.input(photo.image, manifest.preprocessing)
        val preprocessMs = milliseconds(started)
        val engine = Engines.open(context, artefact, placement)
        val returned = engine.run(input) // the first run allocates; it is not timed
        val samples =
            DoubleArray(RUNS) {
                val before = SystemClock.elapsedRealtimeNanos()
                engine.run(input)
                milliseconds(before)
            }
        return Answer(
            ranked = rank(manifest.contract.logits(returned), manifest.labels, TOP),
            preview = PhotoReader.preview(photo.image, PREVIEW_SIZE),
            photo = photo.size,
            preprocessMs = preprocessMs,
            inferenceMs = median(samples),
            runner = engine.runner,
        )
    }

    private fun <T> start(
        work: () -> T,
        done: (T?, String?) -> Unit,
    ) {
        running++
        onChange()
        Background.run(context, work) { result, problem ->
            running--
            done(result, problem)
            onChange()
        }
    }

    companion object {
        /** Timed runs of a photo; their median is shown. */
        const val RUNS = 5
        private const val TOP = 5
        private const val PREVIEW_SIZE = 1024
        private const val MOST_THREADS = 4

        /** The CPU with four threads, or what the phone has: more only wakes its slow cores. */
        fun defaultPlacement(): Placement =
            Placement.cpu(minOf(MOST_THREADS, Runtime.getRuntime().availableProcessors()))

        /** Milliseconds since a time of `SystemClock.elapsedRealtimeNanos`. */
        fun milliseconds(since: Long): Double = (SystemClock.elapsedRealtimeNanos() - since) / 1e6
    }
}
