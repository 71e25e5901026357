package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import kotlin.math.exp

class RankingTest {
    @Test
    fun `softmax sums to one and does not overflow`() {
        val probabilities = softmax(doubleArrayOf(1000.0, 1001.0))
        assertEquals(exp(1.0) / (1 + exp(1.0)), probabilities[1], 1e-15)
        assertEquals(1.0, probabilities.sum(), 1e-15)
    }

    @Test
    fun `of equal logits the lower index comes first`() {
        assertEquals(listOf(1, 2, 3), topK(doubleArrayOf(1.0, 3.0, 3.0, 2.0), 3))
        assertEquals(listOf(0, 1, 2), topK(doubleArrayOf(-0.0, 0.0, -0.0), 5))
        assertEquals(listOf(3), topK(doubleArrayOf(-4.0, -3.0, -2.0, -1.0), 1))
    }

    @Test
    fun `an answer carries label, probability and logit`() {
        val best = rank(doubleArrayOf(0.0, 2.0), listOf("cat", "dog"), 5)
        assertEquals(listOf("dog", "cat"), best.map { it.label })
        assertEquals(2.0, best[0].logit)
        assertEquals(1 / (1 + exp(-2.0)), best[0].probability, 1e-15)
    }

    @Test
    fun `what is no answer is refused`() {
        val labels = listOf("cat", "dog")
        for (bad in listOf(Double.NaN, Double.POSITIVE_INFINITY, Double.NEGATIVE_INFINITY)) {
            assertThrows(EdgeDeitException::class.java) { rank(doubleArrayOf(0.0, bad), labels, 1) }
        }
        val error = assertThrows(EdgeDeitException::class.java) { rank(doubleArrayOf(1.0), labels, 1) }
        assertTrue(error.message.orEmpty().contains("1 values for 2 labels"))
    }

    @Test
    fun `percentiles are numpy's`() {
        val samples = doubleArrayOf(4.0, 1.0, 3.0, 2.0)
        assertEquals(2.5, median(samples))
        assertEquals(3.7, percentile(samples, 0.9), 1e-12) // numpy.percentile([4, 1, 3, 2], 90)
        assertEquals(4.0, percentile(samples, 1.0))
        assertEquals(7.0, percentile(doubleArrayOf(7.0), 0.9))
        assertThrows(EdgeDeitException::class.java) { median(doubleArrayOf()) }
    }
}
