package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

class ModelCheckTest {
    private val folder = File(System.getProperty("edgedeit.golden", "../../tests/golden"))
    private val specText = File(folder, Bundle.GOLDEN_SPEC).readText()
    private val casesText = File(folder, Bundle.GOLDEN_CASES).readText()
    private val spec = GoldenSpec.parse(specText, "spec")
    private val cases = GoldenCases.parse(casesText, "cases")

    /** The manifest of a file that holds the committed cases' model, made of their spec. */
    private fun manifest(change: (String) -> String = { it }): Manifest {
        val more =
            """"sha256": "${Texts.SHA}", "size_bytes": 1, "target": "tflite", "backend": "xnnpack",
            "precision": "fp32", "task": "classification","""
        return Manifest.parse(change(specText.replaceFirst("{", "{$more")), "manifest")
    }

    /** A right model: what Python's answered, found by the pixels that it was given. */
    private fun right(cases: GoldenCases): (ModelInput) -> FloatArray {
        val images = cases.images.associateBy { it.name }
        val known =
            cases.classification.filter { it.image != null }.associate { answer ->
                val image = images.getValue(checkNotNull(answer.image))
                image.tensorSha256 to FloatArray(answer.logits.size) { answer.logits[it].toFloat() }
            }
        return { input -> known.getValue(sha256(littleEndian((input as ModelInput.Pixels).values))) }
    }

    @Test
    fun `a right model answers the committed photos as Python did`() {
        val found = checkNotNull(checkModel(spec, cases, manifest(), "r", right(cases)))
        assertEquals(listOf(4, 4), listOf(found.images, found.sameTop))
        assertTrue(found.agreed)
        assertEquals(1.0, found.cosine, 1e-6)
        assertEquals(spec.artefact, found.reference)
        assertEquals(cases.classification.count { it.image != null }, found.images)
    }

    @Test
    fun `a wrong model is told from a right one`() {
        val good = right(cases)
        val turned = checkModel(spec, cases, manifest(), "r") { good(it).reversedArray() }
        assertFalse(checkNotNull(turned).agreed)
        assertTrue(turned.cosine < 0.9)
        val shifted =
            checkModel(spec, cases, manifest(), "r") { input -> good(input).map { it + 5f }.toFloatArray() }
        assertEquals(1.0, checkNotNull(shifted).cosine, 1e-5)
        val flat = checkModel(spec, cases, manifest(), "r") { FloatArray(spec.labels.size) { 1f } }
        assertEquals(0.0, checkNotNull(flat).cosine)
        for (bad in listOf(floatArrayOf(1f), FloatArray(spec.labels.size) { Float.NaN })) {
            assertThrows(EdgeDeitException::class.java) { checkModel(spec, cases, manifest(), "r") { bad } }
        }
    }

    @Test
    fun `a file is compared with its own answers where Python ran it`() {
        val answer = Regex("\"artefact\": \"${Regex.escape(spec.artefact)}\", \"logits\"")
        val own = manifest { it.replaceFirst(spec.artefact, "own.tflite") }
        val text = casesText.replace(answer, "\"artefact\": \"own.tflite\", \"logits\"")
        val named = GoldenCases.parse(text, "cases")
        assertEquals("own.tflite", checkModel(spec, named, own, "r", right(named))?.reference)
        assertEquals(spec.artefact, checkModel(spec, cases, own, "r", right(cases))?.reference)
        assertNull(checkModel(spec, named, manifest(), "r", right(named)))
        assertNotNull(checkModel(spec, cases, manifest(), "r", right(cases)))
    }

    @Test
    fun `cases of another model are refused`() {
        val other = manifest { it.replaceFirst("\"mean\": [0.485", "\"mean\": [0.5") }
        val foreign =
            assertThrows(EdgeDeitException::class.java) {
                checkModel(spec, cases, other, "r", right(cases))
            }
        assertTrue("another model" in foreign.message.orEmpty())
        val renamed = casesText.replaceFirst("\"name\": \"photo ", "\"name\": \"gone ")
        val lost = GoldenCases.parse(renamed, "cases")
        assertThrows(EdgeDeitException::class.java) {
            checkModel(spec, lost, manifest(), "r", right(cases))
        }
    }
}
