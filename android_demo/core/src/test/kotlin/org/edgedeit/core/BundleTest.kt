package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class BundleTest {
    private fun refusal(action: () -> Any?): String =
        assertThrows(EdgeDeitException::class.java) { action() }.message.orEmpty()

    private fun bundle(vararg changes: Pair<String, String>): Bundle {
        val files =
            mapOf(
                Bundle.INDEX to Texts.index(),
                Bundle.GOLDEN_SPEC to Texts.spec(),
                "tiny.int8.tflite.json" to Texts.manifest(),
            ) + changes
        return Bundle.parse { files.getValue(it) }
    }

    @Test
    fun `a bundle is read`() {
        val (artefact) = bundle().artefacts
        assertEquals("tiny.int8.tflite", artefact.file)
        assertEquals("int8", artefact.manifest.precision)
        assertArrayEquals(intArrayOf(1, 3, 2, 2), artefact.manifest.inputShape)
        assertEquals(listOf("cat", "dog"), artefact.manifest.labels)
        assertEquals(0.5f, artefact.manifest.preprocessing.mean[2])
    }

    @Test
    fun `parts that do not fit are refused`() {
        val foreign = Texts.index("tiny.mlpackage", "coreml")
        val coreml = "tiny.mlpackage.json" to Texts.manifest("tiny.mlpackage", "coreml")
        assertTrue("tflite, executorch" in refusal { bundle(Bundle.INDEX to foreign, coreml) })
        val other = Texts.manifest().replace("\"size_bytes\": 10", "\"size_bytes\": 11")
        assertTrue("describe two files" in refusal { bundle("tiny.int8.tflite.json" to other) })
        val labels = Texts.manifest().replace("\"dog\"", "\"cow\"")
        assertTrue("other labels" in refusal { bundle("tiny.int8.tflite.json" to labels) })
        val empty = """{"schema": 1, "artefacts": []}"""
        assertTrue("at least one" in refusal { bundle(Bundle.INDEX to empty) })
        val newer = Texts.index().replace("\"schema\": 1", "\"schema\": 2")
        assertTrue("schema is 2" in refusal { bundle(Bundle.INDEX to newer) })
    }

    @Test
    fun `a manifest the app cannot serve is refused and says what is wrong`() {
        val wrong =
            mapOf(
                "\"task\": \"classification\"" to "\"task\": \"features\"",
                "\"layout\": \"NCHW\"" to "\"layout\": \"NHWC\"",
                "[1, 3, 2, 2]" to "[1, 3, 4, 4]",
                "[1, 2]" to "[1, 3]",
                "\"resample\": \"bicubic\"" to "\"resample\": \"area\"",
                "\"crop_size\": 2" to "\"crop_size\": 0",
                "\"std\": [0.5, 0.5, 0.5]" to "\"std\": [0.5, 0, 0.5]",
                "\"mean\": [0.5, 0.5, 0.5]" to "\"mean\": [0.5, 0.5]",
                "\"artefact\": \"tiny" to "\"artefact\": \"../tiny",
                Texts.SHA to "abc",
            )
        for ((good, bad) in wrong) {
            val text = Texts.manifest()
            assertTrue(good in text, good)
            val message = refusal { Manifest.parse(text.replace(good, bad), "m.json") }
            assertTrue(message.startsWith("m.json: ") && "must be" in message, message)
        }
    }

    @Test
    fun `a file of bytes and probabilities is read`() {
        val manifest = Manifest.parse(Texts.imageManifest(), "m.json")
        assertArrayEquals(intArrayOf(1, 2, 2, 3), manifest.inputShape)
        assertTrue(manifest.contract.takesImage && manifest.contract.returnsProbabilities)
        val plain = Manifest.parse(Texts.manifest(), "m.json").contract
        assertTrue(!plain.takesImage && !plain.returnsProbabilities)
        val mixed = Texts.manifest().replace("logits", "probabilities")
        val contract = Manifest.parse(mixed, "m.json").contract
        assertTrue(!contract.takesImage && contract.returnsProbabilities)
        for ((good, bad) in mapOf("NHWC" to "NCHW", "[1, 2, 2, 3]" to "[1, 3, 2, 2]", "uint8" to "int8")) {
            val text = Texts.imageManifest().replace(good, bad)
            assertTrue("must be" in refusal { Manifest.parse(text, "m.json") }, bad)
        }
    }

    @Test
    fun `a golden spec with other rules is refused`() {
        val other = Texts.spec(""""precision_bits": 22, "bicubic_a": -0.75""")
        assertTrue("bicubic_a is -0.75" in refusal { GoldenSpec.parse(other, "spec") })
        val labels = Texts.spec().replace("[\"cat\", \"dog\"]", "[\"dog\", \"cat\"]")
        assertTrue("labels_sha256" in refusal { GoldenSpec.parse(labels, "spec") })
    }
}
