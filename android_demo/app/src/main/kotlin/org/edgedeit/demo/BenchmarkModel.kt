package org.edgedeit.demo

import android.content.Context
import android.os.Build
import android.os.SystemClock
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.DeviceInfo
import org.edgedeit.core.Measurement
import org.edgedeit.core.RgbImage
import org.edgedeit.core.deviceReport
import org.edgedeit.core.hashedPixels
import org.edgedeit.demo.MainModel.Companion.milliseconds
import org.edgedeit.demo.engine.Engines
import java.io.File
import java.io.IOException
import java.util.Date

/** One line of the benchmark's table: a measurement, or why there is none. */
class BenchmarkRow(
    val file: String,
    val measurement: Measurement?,
    val problem: String?,
)

/** Measures every bundled artefact. Outlives rotations; its fields belong to the main thread. */
class BenchmarkModel(
    private val context: Context,
) {
    val rows = ArrayList<BenchmarkRow>()
    var running = false
        private set
    var current: String? = null
        private set
    var problem: String? = null
        private set
    var total = 0
        private set
    var onChange: () -> Unit = {}

    val threads = MainModel.defaultThreads()

    @Volatile
    private var stopped = false

    fun start() {
        rows.clear()
        problem = null
        running = true
        stopped = false
        onChange()
        Background.run(context, ::measureAll) { _, problem ->
            this.problem = problem
            running = false
            current = null
            onChange()
        }
    }

    fun stop() {
        stopped = true
    }

    /** The report of what was measured, in the file that the provider lends. */
    fun writeReport(measurements: List<Measurement>) {
        val device =
            DeviceInfo(
                manufacturer = Build.MANUFACTURER,
                model = Build.MODEL,
                osVersion = Build.VERSION.RELEASE,
                soc = if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.S) Build.SOC_MODEL else null,
                cores = Runtime.getRuntime().availableProcessors(),
            )
        val text = deviceReport(Date(), BuildConfig.VERSION_NAME, device, measurements)
        SharedFilesProvider.file(context, SharedFilesProvider.REPORT).writeText(text)
    }

    private fun measureAll() {
        val artefacts = BundleAssets(context).load()?.artefacts.orEmpty()
        Background.main { total = artefacts.size }
        val photo = RgbImage(PHOTO_WIDTH, PHOTO_HEIGHT, hashedPixels(PHOTO_WIDTH, PHOTO_HEIGHT, 1, BLOCK))
        for (artefact in artefacts) {
            if (stopped) return
            Background.main {
                current = artefact.file
                onChange()
            }
            val (measurement, problem) = Background.attempt(context) { measure(artefact, photo) }
            Background.main {
                rows.add(BenchmarkRow(artefact.file, measurement, problem))
                onChange()
            }
        }
    }

    private fun measure(
        artefact: BundledArtefact,
        photo: RgbImage,
    ): Measurement {
        val spec = artefact.manifest.preprocessing
        val contract = artefact.manifest.contract
        val input = contract.input(photo, spec)
        val preprocessMs = timed(PREPROCESS_RUNS) { contract.input(photo, spec) }
        val started = SystemClock.elapsedRealtimeNanos()
        return Engines.open(context, artefact, threads).use { engine ->
            val loadMs = milliseconds(started)
            repeat(WARM_UP) { engine.run(input) }
            val latencyMs = timed(RUNS) { engine.run(input) }
            val peak = peakRssBytes()
            Measurement(
                manifest = artefact.manifest,
                runner = engine.runner,
                threads = threads,
                latencyMs = latencyMs,
                preprocessMs = preprocessMs,
                loadMs = loadMs,
                peakRssBytes = peak,
                notes = notes(peak),
            )
        }
    }

    private fun notes(peak: Long?): Map<String, String> =
        mapOf(
            "preprocess_ms_p50" to
                "a generated photo of $PHOTO_WIDTH x $PHOTO_HEIGHT pixels, decoding not counted",
            "load_ms" to "the check of the file's sha256 is counted",
            "peak_rss_bytes" to
                if (peak == null) {
                    "this phone does not let the app read VmHWM of /proc/self/status"
                } else {
                    "of the whole app since its start, artefacts measured earlier included"
                },
        )

    private fun timed(
        runs: Int,
        action: () -> Unit,
    ) = DoubleArray(runs) {
        val started = SystemClock.elapsedRealtimeNanos()
        action()
        milliseconds(started)
    }

    private fun peakRssBytes(): Long? =
        try {
            val line = File("/proc/self/status").readLines().find { it.startsWith("VmHWM:") }
            line?.filter(Char::isDigit)?.toLongOrNull()?.times(KIBIBYTE)
        } catch (_: IOException) {
            null // the report says so
        }

    companion object {
        const val RUNS = 50
        const val WARM_UP = 5
        private const val PREPROCESS_RUNS = 10
        private const val PHOTO_WIDTH = 1920
        private const val PHOTO_HEIGHT = 1440
        private const val BLOCK = 8 // flat squares of this side
        private const val KIBIBYTE = 1024L
    }
}
