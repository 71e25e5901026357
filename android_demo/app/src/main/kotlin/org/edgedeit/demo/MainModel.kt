package org.edgedeit.demo

import android.content.Context
import android.graphics.Bitmap
import android.net.Uri
import android.os.SystemClock
import org.edgedeit.core.Bundle
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.Ranked
import org.edgedeit.core.median
import org.edgedeit.core.rank
import org.edgedeit.demo.engine.Engines
import java.io.File
import java.io.FileNotFoundException

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
    var problem: String? = null
        private set
    var running = 0
        private set

    /** Index into the bundle's artefacts. */
    var selected = 0
    var threads = defaultThreads()

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
        classify {
            try {
                val source =
                    context.contentResolver.openInputStream(uri) ?: throw FileNotFoundException("$uri")
                source.use { from -> photoFile.outputStream().use { from.copyTo(it) } }
            } catch (error: RuntimeException) {
                // the app that lent the photo took it back, or failed itself
                throw Problem(R.string.unreadable_photo, error.message.orEmpty(), cause = error)
            }
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
        val threads = threads
        start({
            fetch()
            answerOf(artefact, threads)
        }) { answer, problem ->
            this.answer = answer
            this.problem = problem
        }
    }

    private fun answerOf(
        artefact: BundledArtefact,
        threads: Int,
    ): Answer {
        val photo = PhotoReader.read(photoFile)
        val started = SystemClock.elapsedRealtimeNanos()
        val manifest = artefact.manifest
        val input = manifest.contract.input(photo.image, manifest.preprocessing)
        val preprocessMs = milliseconds(started)
        val engine = Engines.open(context, artefact, threads)
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

        /** Four, or what the phone has: more only wakes its slow cores. */
        fun defaultThreads(): Int = minOf(MOST_THREADS, Runtime.getRuntime().availableProcessors())

        /** Milliseconds since a time of `SystemClock.elapsedRealtimeNanos`. */
        fun milliseconds(since: Long): Double = (SystemClock.elapsedRealtimeNanos() - since) / 1e6
    }
}
