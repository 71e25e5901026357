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

/**
 * What was measured of one artefact; times in milliseconds, one sample a run.
 *
 * `notes` says by a figure's name what a reader must know of it, or why it is null.
 */
class Measurement(
    val manifest: Manifest,
    val runner: String,
    val threads: Int,
    val latencyMs: DoubleArray,
    val preprocessMs: DoubleArray,
    val loadMs: Double,
    val peakRssBytes: Long?,
    val notes: Map<String, String>,
)

/**
 * The JSON that the benchmark screen shares and `edge_deit.validate --device-report` reads.
 *
 * @throws IllegalArgumentException for a figure that is null without a reason in `notes`.
 */
fun deviceReport(
    created: Date,
    appVersion: String,
    device: DeviceInfo,
    measurements: List<Measurement>,
): String {
    val format = SimpleDateFormat("yyyy-MM-dd'T'HH:mm:ss'Z'", Locale.ROOT)
    format.timeZone = TimeZone.getTimeZone("UTC")
    val report =
        linkedMapOf(
            "schema" to 1,
            "kind" to "edge-deit-device-report",
            "created" to format.format(created),
            "app" to linkedMapOf("name" to "edge-deit-android", "version" to appVersion),
            "device" to
                linkedMapOf(
                    "manufacturer" to device.manufacturer,
                    "model" to device.model,
                    "os" to "Android",
                    "os_version" to device.osVersion,
                    "soc" to device.soc,
                    "cores" to device.cores,
                ),
            "artefacts" to measurements.map(::artefact),
        )
    return Json.write(report) + "\n"
}

private fun artefact(measured: Measurement): Map<String, Any?> {
    val unexplained = measured.peakRssBytes == null && "peak_rss_bytes" !in measured.notes
    require(!unexplained) { "peak_rss_bytes is null without a reason in notes" }
    return linkedMapOf(
        "path" to measured.manifest.artefact,
        "sha256" to measured.manifest.sha256,
        "target" to measured.manifest.target,
        "precision" to measured.manifest.precision,
        "model" to measured.manifest.model,
        "runner" to measured.runner,
        "threads" to measured.threads,
        "runs" to measured.latencyMs.size,
        "latency_ms_p50" to percentile(measured.latencyMs, 0.5),
        "latency_ms_p90" to percentile(measured.latencyMs, 0.9),
        "load_ms" to measured.loadMs,
        "preprocess_ms_p50" to percentile(measured.preprocessMs, 0.5),
        "peak_rss_bytes" to measured.peakRssBytes,
        "notes" to measured.notes,
    )
}
