package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File
import java.util.Date

class DeviceReportTest {
    private fun text(
        peak: Long?,
        check: ModelCheck? = ModelCheck("tiny.int8.tflite", "r", "tiny.fp32.onnx", 4, 3, 0.75),
        vararg notes: Pair<String, String>,
    ): String {
        val times = DoubleArray(Protocol.RUNS) { it + 1.0 }
        val measured =
            Measurement(
                manifest = Manifest.parse(Texts.manifest(), "m"),
                runner = "LiteRT 2.3.0, CPU, 4 threads",
                delegate = "XNNPACK",
                threads = 4,
                timings = Timings(12.5, 7.5, 90.0, times, doubleArrayOf(5.0, 7.0)),
                peakRssBytes = peak,
                check = check,
                notes = mapOf(*notes),
            )
        val device = DeviceInfo("maker", "phone", "16", soc = null, cores = 8)
        val conditions =
            Conditions("none", "light", powerSaver = false, leftForeground = false, screenKeptOn = true)
        val created = Date(1_769_860_800_000)
        return deviceReport(created, AppInfo("0.1.0", debug = false), device, conditions, listOf(measured))
    }

    @Test
    fun `a report has every field of the contract`() {
        val text = text(peak = 123_456_789_012)
        val json = Json.parse(text, "report")
        assertEquals("edge-deit-device-report", json["kind"].string())
        assertEquals("2026-01-31T12:00:00Z", json["created"].string())
        assertEquals("edge-deit-android", json["app"]["name"].string())
        assertEquals(
            setOf("manufacturer", "model", "os", "os_version", "soc", "cores"),
            json["device"].names,
        )
        assertTrue(json["device"]["soc"].isNull)
        val (row) = json["artefacts"].items()
        assertEquals("tiny.int8.tflite", row["path"].string())
        assertEquals(100, row["runs"].int())
        assertEquals("XNNPACK", row["delegate"].string())
        assertEquals(50.5, row["latency_ms_p50"].double())
        assertEquals(90.1, row["latency_ms_p90"].double(), 1e-12)
        assertEquals(12.5, row["load_ms"].double())
        assertEquals(7.5, row["load_warm_ms"].double())
        assertEquals(90.0, row["first_run_ms"].double())
        assertEquals(3, row["check"]["same_top"].int())
        assertEquals("release", json["app"]["build"].string())
        assertEquals("light", json["conditions"]["thermal_end"].string())
        assertEquals(6.0, row["preprocess_ms_p50"].double())
        assertEquals(123_456_789_012, row["peak_rss_bytes"].long())
        assertEquals(emptySet<String>(), row["notes"].names)
        // where a test of the Python reader wants it
        System.getProperty("edgedeit.report")?.let { File(it).writeText(text) }
    }

    @Test
    fun `a figure that cannot be had is null and has its reason`() {
        val text = text(null, null, "peak_rss_bytes" to "not readable", "check" to "no answers")
        val (row) = Json.parse(text, "report")["artefacts"].items()
        assertTrue(row["peak_rss_bytes"].isNull)
        assertEquals("not readable", row["notes"]["peak_rss_bytes"].string())
        assertTrue(row["check"].isNull)
        assertThrows(IllegalArgumentException::class.java) { text(null) }
        assertThrows(IllegalArgumentException::class.java) { text(1, null) }
    }
}
