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
        vararg notes: Pair<String, String>,
    ): String {
        val measured =
            Measurement(
                manifest = Manifest.parse(Texts.manifest(), "m"),
                runner = "LiteRT 2.3.0, CPU, 4 threads",
                threads = 4,
                latencyMs = doubleArrayOf(3.0, 1.0, 2.0),
                preprocessMs = doubleArrayOf(5.0, 7.0),
                loadMs = 12.5,
                peakRssBytes = peak,
                notes = mapOf(*notes),
            )
        val device = DeviceInfo("maker", "phone", "16", soc = null, cores = 8)
        return deviceReport(Date(1_769_860_800_000), "0.1.0", device, listOf(measured))
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
        assertEquals(3, row["runs"].int())
        assertEquals(2.0, row["latency_ms_p50"].double())
        assertEquals(2.8, row["latency_ms_p90"].double(), 1e-12)
        assertEquals(6.0, row["preprocess_ms_p50"].double())
        assertEquals(123_456_789_012, row["peak_rss_bytes"].long())
        assertEquals(emptySet<String>(), row["notes"].names)
        // where a test of the Python reader wants it
        System.getProperty("edgedeit.report")?.let { File(it).writeText(text) }
    }

    @Test
    fun `a figure that cannot be had is null and has its reason`() {
        val text = text(null, "peak_rss_bytes" to "not readable")
        val (row) = Json.parse(text, "report")["artefacts"].items()
        assertTrue(row["peak_rss_bytes"].isNull)
        assertEquals("not readable", row["notes"]["peak_rss_bytes"].string())
        assertThrows(IllegalArgumentException::class.java) { text(null) }
    }
}
