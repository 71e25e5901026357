package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File
import javax.imageio.ImageIO

class GoldenTest {
    private fun run(
        spec: String,
        cases: String,
    ): List<CaseResult> {
        val results = ArrayList<CaseResult>()
        val parsed = GoldenCases.parse(cases, "cases")
        selfTest(GoldenSpec.parse(spec, "spec"), parsed, ::stored) { results.add(it) }
        return results
    }

    /** The JVM's decoder, without a conversion of colours. */
    private fun stored(png: ByteArray): RgbImage {
        val raster = ImageIO.read(png.inputStream()).raster
        return RgbImage.upright(raster.width, raster.height, 1) { y, row ->
            for (x in row.indices) {
                val pixel = raster.getPixel(x, y, IntArray(raster.numBands))
                row[x] = (pixel[0] shl 16) or (pixel[1] shl 8) or pixel[2]
            }
        }
    }

    private fun small(
        tensor: String,
        top: String,
        refused: String,
        bytes: String = Texts.SHA,
    ) = """{"schema": 2, "images": [{"name": "dot", "width": 1, "height": 1, "orientation": 1,
        "pixels": {"base64": "AP+A"}, "preprocessing": ${Texts.PREPROCESSING},
        "bytes_sha256": "$bytes", "tensor_sha256": "$tensor", "samples": [[0, -1], [4, 1]]}], "files": [], "frames": [], "photos": [],
        "classification": [{"name": "tie", "image": null, "artefact": null, "logits": [1, 1], "probabilities": [0.5, 0.5], "top": $top}],
        "refused": [{"name": "nan", "logits": $refused}]}"""

    /** The committed cases, written by Python and Pillow. */
    @Test
    fun `every golden case passes`() {
        val folder = File(System.getProperty("edgedeit.golden", "../../tests/golden"))
        val results =
            run(File(folder, Bundle.GOLDEN_SPEC).readText(), File(folder, Bundle.GOLDEN_CASES).readText())
        assertTrue(CaseKind.entries.all { kind -> results.any { it.kind == kind } })
        assertEquals(emptyList<String>(), results.mapNotNull { r -> r.failure?.let { "${r.name}: $it" } })
    }

    @Test
    fun `wrong answers are found`() {
        // one pixel 0, 255, 128 on four places each; (x / 255 - 0.5) / 0.5 in float32
        val blue = (128 / 255f - 0.5f) / 0.5f
        val tensor = FloatArray(12) { listOf(-1f, 1f, blue)[it / 4] }
        val right = sha256(littleEndian(tensor))
        val bytes = sha256(ByteArray(12) { listOf(0, 255, 128)[it % 3].toByte() })
        val good = run(Texts.spec(), small(right, "[0, 1]", "[0, \"nan\"]", bytes))
        assertEquals(listOf(null, null, null), good.map { it.failure })
        val other = run(Texts.spec(), small(right, "[0, 1]", "[0, \"nan\"]"))
        assertEquals(listOf("the bytes differ", null, null), other.map { it.failure })
        val bad = run(Texts.spec(), small(Texts.SHA, "[1, 0]", "[0, 1]"))
        assertEquals(
            listOf(
                "the tensor differs",
                "the order is [0, 1], it must be [1, 0]",
                "it was accepted; it must be refused",
            ),
            bad.map { it.failure },
        )
    }

    @Test
    fun `a decoder that converts colours is found`() {
        val folder = File(System.getProperty("edgedeit.golden", "../../tests/golden"))
        val cases = GoldenCases.parse(File(folder, Bundle.GOLDEN_CASES).readText(), "cases")
        val spec = GoldenSpec.parse(File(folder, Bundle.GOLDEN_SPEC).readText(), "spec")
        // the JVM's decoder ignores profiles: where there is one, other values stand for a conversion
        val converted =
            { png: ByteArray ->
                val image = stored(png)
                val wide = "iCCP" in String(png, Charsets.ISO_8859_1)
                if (wide) image.bytes[0]++
                image
            }
        val results = ArrayList<CaseResult>()
        selfTest(spec, cases, converted) { results.add(it) }
        val failed = results.filter { it.failure != null }
        assertEquals(listOf("a PNG in Display P3"), failed.map { it.name })
        assertTrue("colours converted" in failed[0].failure.orEmpty())
    }

    @Test
    fun `a self-test can be stopped`() {
        var seen = 0
        val cases = GoldenCases.parse(small(Texts.SHA, "[0, 1]", "[0, \"inf\"]"), "cases")
        selfTest(GoldenSpec.parse(Texts.spec(), "spec"), cases, null) { ++seen < 2 }
        assertEquals(2, seen)
    }

    @Test
    fun `hashed pixels are the contract's`() {
        // worked out with Python integers, masked to 32 bits
        assertEquals(HASHED, hashedPixels(2, 1, seed = 7, block = 1).map { it.toInt() and 0xFF })
        val flat = hashedPixels(4, 2, seed = 7, block = 2)
        assertEquals(HASHED.take(3), List(3) { flat[3 + it].toInt() and 0xFF })
        assertEquals(HASHED.drop(3), List(3) { flat[3 * 7 + it].toInt() and 0xFF })
    }

    @Test
    fun `base64 and float bytes`() {
        assertEquals("AB?", String(decodeBase64("QUI/")))
        assertEquals("A", String(decodeBase64("QQ==")))
        assertEquals(listOf(1f, -0.5f), floats(littleEndian(floatArrayOf(1f, -0.5f))).toList())
        assertEquals(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            sha256("abc".byteInputStream()),
        )
    }

    private companion object {
        val HASHED = listOf(114, 58, 16, 179, 164, 160)
    }
}
