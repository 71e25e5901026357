package org.edgedeit.demo

import android.content.Context
import android.os.Build
import android.os.PowerManager
import android.os.SystemClock
import org.edgedeit.core.AppInfo
import org.edgedeit.core.BenchmarkChoice
import org.edgedeit.core.Bundle
import org.edgedeit.core.Conditions
import org.edgedeit.core.DeviceInfo
import org.edgedeit.core.GoldenCases
import org.edgedeit.core.Measurement
import org.edgedeit.core.ModelCheck
import org.edgedeit.core.Placement
import org.edgedeit.core.PlannedRow
import org.edgedeit.core.Protocol
import org.edgedeit.core.RgbImage
import org.edgedeit.core.StoppedException
import org.edgedeit.core.benchmarkPlan
import org.edgedeit.core.checkModel
import org.edgedeit.core.deviceReport
import org.edgedeit.core.measure
import org.edgedeit.demo.engine.Engines
import java.io.File
import java.io.IOException
import java.util.Date

/** One line of the benchmark's table: a measurement, or why there is none. */
class BenchmarkRow(
    val file: String,
    val placement: Placement,
    val measurement: Measurement?,
    val problem: String?,
)

/** Measures every bundled artefact where it was chosen to run. */
class BenchmarkModel private constructor(
    context: Context,
) : Work(context) {
    val rows = ArrayList<BenchmarkRow>()
    var current: String? = null
        private set

    /** Set by the screen when it goes out of sight while this runs: the system then slows the app down. */
    @Volatile
    var leftForeground = false

    private var conditions: Conditions? = null

    /** Whether the run is over and has measured something. */
    val shareable: Boolean get() = conditions != null && rows.any { it.measurement != null }

    /** What the next run measures; one that runs keeps its own. */
    var choice: BenchmarkChoice = BenchmarkChoice.Everything

    fun start() {
        val choice = choice
        rows.clear()
        conditions = null
        leftForeground = false
        begin({ measureAll(choice) }) { found ->
            conditions = found
            current = null
        }
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
        val app = AppInfo(BuildConfig.VERSION_NAME, BuildConfig.DEBUG)
        val state = checkNotNull(conditions) { "a report is shared after the run" }
        val text = deviceReport(Date(), app, device, state, measurements)
        SharedFilesProvider.file(context, SharedFilesProvider.REPORT).writeText(text)
    }

    /** Measures until all is done or the user stops, and returns the phone's state meanwhile. */
    private fun measureAll(choice: BenchmarkChoice): Conditions {
        val power = context.getSystemService(PowerManager::class.java)
        val (begin, saver) = Pair(thermal(power), power.isPowerSaveMode)
        val bundle = BundleAssets(context).load()
        val plan = benchmarkPlan(bundle?.artefacts.orEmpty(), choice, CORES)
        Background.main { total = plan.size }
        val cases = bundle?.goldenCases()
        val photo = Protocol.photo()
        try {
            for (row in plan) measureRow(checkNotNull(bundle), cases, row, photo)
        } catch (_: StoppedException) {
            // what was measured before stays
        } finally {
            Engines.slot.close()
        }
        return Conditions(
            thermalBegin = begin,
            thermalEnd = thermal(power),
            powerSaver = saver || power.isPowerSaveMode,
            leftForeground = leftForeground,
            screenKeptOn = true,
        )
    }

    private fun measureRow(
        bundle: Bundle,
        cases: GoldenCases?,
        row: PlannedRow,
        photo: RgbImage,
    ) {
        if (stopped) throw StoppedException()
        Background.main {
            current = row.artefact.file
            onChange()
        }
        val (measurement, problem) =
            Background.attempt(context) { measureOne(bundle, cases, row, photo) }
        Background.main {
            rows.add(BenchmarkRow(row.artefact.file, row.placement, measurement, problem))
            onChange()
        }
    }

    private fun measureOne(
        bundle: Bundle,
        cases: GoldenCases?,
        row: PlannedRow,
        photo: RgbImage,
    ): Measurement {
        val manifest = row.artefact.manifest
        val load = Engines.prepare(context, row.artefact, row.placement)
        val timings =
            measure(manifest, photo, Engines.slot, SystemClock::elapsedRealtimeNanos, { !stopped }, load)
        val engine = Engines.slot.get(manifest.artefact, load)
        val check =
            cases?.let {
                checkModel(bundle.goldenSpec, it, manifest, engine.runner) { input ->
                    if (stopped) throw StoppedException()
                    engine.run(input)
                }
            }
        val peak = peakRssBytes()
        return Measurement(
            manifest,
            engine.runner,
            engine.delegate,
            row.placement.threads,
            timings,
            peak,
            check,
            notes(peak, check),
        )
    }

    private fun notes(
        peak: Long?,
        check: ModelCheck?,
    ): Map<String, String> {
        val memory =
            if (peak == null) {
                "this phone does not let the app read VmHWM of /proc/self/status"
            } else {
                "of the whole app since its start, files measured earlier included"
            }
        val answers = "the bundle has no answers of Python's to golden photos"
        val found = mapOf("peak_rss_bytes" to memory)
        return if (check == null) found + ("check" to answers) else found
    }

    private fun thermal(power: PowerManager): String? =
        if (Build.VERSION.SDK_INT < Build.VERSION_CODES.Q) {
            null
        } else {
            THERMAL.getOrNull(power.currentThermalStatus)
        }

    private fun peakRssBytes(): Long? =
        try {
            val line = File("/proc/self/status").readLines().find { it.startsWith("VmHWM:") }
            line?.filter(Char::isDigit)?.toLongOrNull()?.times(KIBIBYTE)
        } catch (_: IOException) {
            null // the report says so
        }

    companion object {
        private var kept: BenchmarkModel? = null

        /** The app's one benchmark: leaving its screen stops it, and keeps what was measured. */
        fun of(context: Context): BenchmarkModel =
            kept ?: BenchmarkModel(context.applicationContext).also { kept = it }

        val CORES = Runtime.getRuntime().availableProcessors()

        /** Android's words for its thermal states, 0 to 6. */
        private val THERMAL =
            listOf("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
        private const val KIBIBYTE = 1024L
    }
}
