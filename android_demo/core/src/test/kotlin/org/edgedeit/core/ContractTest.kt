package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import kotlin.math.ln

class ContractTest {
    private val photo = RgbImage(1, 1, byteArrayOf(0, -1, -128)) // one pixel 0, 255, 128
    private val spec = Manifest.parse(Texts.manifest(), "m").preprocessing

    @Test
    fun `a file gets pixels or the bytes they are made of`() {
        val image = Contract(takesImage = true, returnsProbabilities = false).input(photo, spec)
        val bytes = (image as ModelInput.Image).bytes
        assertArrayEquals(ByteArray(12) { listOf(0, 255, 128)[it % 3].toByte() }, bytes)
        val pixels = Contract(takesImage = false, returnsProbabilities = false).input(photo, spec)
        assertArrayEquals(normalise(bytes, spec), (pixels as ModelInput.Pixels).values)
    }

    @Test
    fun `probabilities become logits up to a constant`() {
        val returned = floatArrayOf(0.25f, 0.75f)
        val plain = Contract(takesImage = false, returnsProbabilities = false)
        assertArrayEquals(doubleArrayOf(0.25, 0.75), plain.logits(returned))
        val contract = Contract(takesImage = true, returnsProbabilities = true)
        val logits = contract.logits(returned)
        assertEquals(ln(3.0), logits[1] - logits[0], 1e-6)
        assertArrayEquals(doubleArrayOf(0.25, 0.75), softmax(logits), 1e-7)
    }

    @Test
    fun `a probability of 0 is ranked and one that is no number is refused`() {
        val contract = Contract(takesImage = true, returnsProbabilities = true)
        val labels = listOf("cat", "dog")
        val best = rank(contract.logits(floatArrayOf(0f, 1f)), labels, 2)
        assertEquals(listOf("dog", "cat"), best.map { it.label })
        for (bad in listOf(Float.NaN, Float.POSITIVE_INFINITY)) {
            val logits = contract.logits(floatArrayOf(0f, bad))
            assertThrows(EdgeDeitException::class.java) { rank(logits, labels, 1) }
        }
    }
}
