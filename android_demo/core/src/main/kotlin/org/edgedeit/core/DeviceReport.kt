package org.edgedeit.core

import java.text.SimpleDateFormat
import java.util.Date
import java.util.Locale
import java.util.TimeZone

/** The phone that measured. */
class DeviceInfo(
    val manufacturer: String,
    val model: String,
    val osVersion: String,
    val soc: String?,
    val cores: Int,
)

/** The app that measured; `debug` where it was built for debugging, whose times mean nothing. */
class AppInfo(
    val version: String,
    val debug: Boolean,
)

/** The phone's state while it measured; null where it does not tell. */
class Conditions(
    val thermalBegin: String?,
    val thermalEnd: String?,
    val powerSaver: Boolean?,
    val leftForeground: Boolean,
    val screenKeptOn: Boolean,
)

/**
 * What was measured of one artefact with one runner.
 *
 * `delegate` is what the runtime gave the work to, and `threads` are those of the CPU. `notes` says by a figure's name what a reader must know of it, or why it is null.
 */
class Measurement(
    val manifest: Manifest,
    val runner: String,
    val delegate: String,
    val threads: Int?,
    val timings: Timings,
    val peakRssBytes: Long?,
    val check: ModelCheck?,
    val notes: Map<String, String>,
)

/**
 * The JSON that the benchmark screen shares and `edge_deit.validate --device-report` reads.
 *
 * @throws IllegalArgumentException for a figure that is null without a reason in `notes`.
 */
fun deviceReport(
    created: Date,
    app: AppInfo,
    device: DeviceInfo,
    conditions: Conditions,
    measurements: List<Measurement>,
): String {
    val format = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'Z'", Locale.ROOT)
    format.timeZone = TimeZone.getTimeZone("UTC")
    val report =
        linkedMapOf(
            "schema" to SCHEMA,
            "kind" to "edge-deit-device-report",
            "created" to format.format(created),
            "app" to
                linkedMapOf(
                    "name" to "edge-deit-android",
                    "version" to app.version,
                    "build" to if (app.debug) "debug" else "release",
                ),
            "device" to
                linkedMapOf(
                    "manufacturer" to device.manufacturer,
                    "model" to device.model,
                    "os" to "Android",
                    "os_version" to device.osVersion,
                    "soc" to device.soc,
                    "cores" to device.cores,
                ),
            "protocol" to
                linkedMapOf(
                    "photo_width" to Protocol.PHOTO_WIDTH,
                    "photo_height" to Protocol.PHOTO_HEIGHT,
                    "warm_up" to Protocol.WARM_UP,
                    "runs" to Protocol.RUNS,
                    "preprocess_runs" to Protocol.PREPROCESS_RUNS,
                ),
            "conditions" to
                linkedMapOf(
                    "thermal_begin" to conditions.thermalBegin,
                    "thermal_end" to conditions.thermalEnd,
                    "power_saver" to conditions.powerSaver,
                    "left_foreground" to conditions.leftForeground,
                    "screen_kept_on" to conditions.screenKeptOn,
                ),
            "artefacts" to measurements.map(::artefact),
        )
    return Json.write(report) + "\n"
}

private fun artefact(measured: Measurement): Map<String, Any?> {
    val timings = measured.timings
    for ((name, value) in mapOf("peak_rss_bytes" to measured.peakRssBytes, "check" to measured.check)) {
        require(value != null || name in measured.notes) { "$name is null without a reason in notes" }
    }
    return linkedMapOf(
        "path" to measured.manifest.artefact,
        "sha256" to measured.manifest.sha256,
        "target" to measured.manifest.target,
        "precision" to measured.manifest.precision,
        "model" to measured.manifest.model,
        "runner" to measured.runner,
        "delegate" to measured.delegate,
        "threads" to measured.threads,
        "runs" to timings.latencyMs.size,
        "latency_ms_p50" to percentile(timings.latencyMs, 0.5),
        "latency_ms_p90" to percentile(timings.latencyMs, 0.9),
        "load_ms" to timings.loadMs,
        "load_warm_ms" to timings.loadWarmMs,
        "first_run_ms" to timings.firstRunMs,
        "preprocess_ms_p50" to percentile(timings.preprocessMs, 0.5),
        "peak_rss_bytes" to measured.peakRssBytes,
        "check" to measured.check?.let(::check),
        "notes" to measured.notes,
    )
}

private fun check(found: ModelCheck) =
    linkedMapOf(
        "reference" to found.reference,
        "images" to found.images,
        "same_top" to found.sameTop,
        "cosine" to found.cosine,
    )

private const val SCHEMA = 2
