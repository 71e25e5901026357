package org.edgedeit.core

import kotlin.math.PI
import kotlin.math.abs
import kotlin.math.ceil
import kotlin.math.max
import kotlin.math.min
import kotlin.math.sin

/** Pillow's filters; `support` is the filter's half width in source pixels when enlarging. */
enum class Resample(
    val id: String,
    internal val support: Double,
    internal val weight: (Double) -> Double,
) {
    NEAREST("nearest", 0.0, { 1.0 }),
    BILINEAR("bilinear", 1.0, { max(0.0, 1.0 - abs(it)) }),
    BICUBIC("bicubic", 2.0, ::bicubic),
    LANCZOS("lanczos", 3.0, ::lanczos),
}

private const val CUBIC = -0.5 // Keys' a, as in Pillow; OpenCV uses -0.75

private fun bicubic(distance: Double): Double {
    val x = abs(distance)
    return when {
        x < 1.0 -> ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1
        x < 2.0 -> (((x - 5) * x + 8) * x - 4) * CUBIC
        else -> 0.0
    }
}

private fun lanczos(x: Double): Double = if (-3.0 <= x && x < 3.0) sinc(x) * sinc(x / 3) else 0.0

private fun sinc(x: Double): Double = if (x == 0.0) 1.0 else sin(x * PI) / (x * PI)

/**
 * One axis of a resize, for the output positions `first until first + count` only.
 *
 * Output position `first + i` is the sum of `taps[i]` source pixels from `starts[i]` on, times
 * `weights[i * stride ...]`, which are fixed point with [PRECISION_BITS] bits. When the size does
 * not change each output is its own source pixel, as Pillow skips that pass.
 */
internal class Axis(
    val starts: IntArray,
    val taps: IntArray,
    val weights: IntArray,
    val stride: Int,
) {
    /** First source position that any output needs. */
    val low: Int get() = starts.minOrNull() ?: 0

    /** One past the last source position that any output needs. */
    val high: Int get() = starts.indices.maxOfOrNull { starts[it] + taps[it] } ?: 0

    /** The same axis of an image that begins at source position `low` only. */
    fun fromLow(): Axis = Axis(IntArray(starts.size) { starts[it] - low }, taps, weights, stride)

    companion object {
        /** Bits of fraction that leave room for 8 bits of value and 2 of overshoot in 32. */
        const val PRECISION_BITS = 22
        private const val ONE = 1 shl PRECISION_BITS

        fun of(
            source: Int,
            target: Int,
            first: Int,
            count: Int,
            filter: Resample,
        ): Axis =
            when {
                source == target -> copying(IntArray(count) { first + it })
                filter == Resample.NEAREST -> copying(nearest(source, target, first, count))
                else -> filtered(source, target, first, count, filter)
            }

        private fun copying(starts: IntArray): Axis =
            Axis(starts, IntArray(starts.size) { 1 }, IntArray(starts.size) { ONE }, 1)

        /** Pillow adds the step up instead of multiplying; the last bits of that sum count. */
        private fun nearest(
            source: Int,
            target: Int,
            first: Int,
            count: Int,
        ): IntArray {
            val step = source.toDouble() / target
            var position = step * 0.5
            repeat(first) { position += step }
            return IntArray(count) { position.toInt().also { position += step } }
        }

        /** Coefficients of `precompute_coeffs` and `normalize_coeffs_8bpc` in Pillow's Resample.c. */
        private fun filtered(
            source: Int,
            target: Int,
            first: Int,
            count: Int,
            filter: Resample,
        ): Axis {
            val scale = source.toDouble() / target
            val widening = max(scale, 1.0)
            val support = filter.support * widening
            val stride = ceil(support).toInt() * 2 + 1
            val axis = Axis(IntArray(count), IntArray(count), IntArray(count * stride), stride)
            val real = DoubleArray(stride)
            for (i in 0 until count) {
                val centre = (first + i + 0.5) * scale
                val start = max((centre - support + 0.5).toInt(), 0)
                val taps = min((centre + support + 0.5).toInt(), source) - start
                var sum = 0.0
                for (tap in 0 until taps) {
                    real[tap] = filter.weight((tap + start - centre + 0.5) * (1.0 / widening))
                    sum += real[tap]
                }
                axis.starts[i] = start
                axis.taps[i] = taps
                for (tap in 0 until taps) {
                    axis.weights[i * stride + tap] = fixed(if (sum != 0.0) real[tap] / sum else real[tap])
                }
            }
            return axis
        }

        private fun fixed(weight: Double): Int = (weight * ONE + if (weight < 0) -0.5 else 0.5).toInt()
    }
}
