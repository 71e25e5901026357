package org.edgedeit.core

import kotlin.math.ceil
import kotlin.math.floor

/**
 * Percentile `share` (0 to 1) of some samples, interpolated linearly as numpy does by default.
 *
 * @throws EdgeDeitException for no samples.
 */
fun percentile(
    samples: DoubleArray,
    share: Double,
): Double {
    require(share in 0.0..1.0) { "percentile $share is not within 0 and 1" }
    if (samples.isEmpty()) throw EdgeDeitException("there are no samples to take a percentile of")
    val sorted = samples.sortedArray()
    val position = share * (sorted.size - 1)
    val below = sorted[floor(position).toInt()]
    val above = sorted[ceil(position).toInt()]
    return below + (above - below) * (position - floor(position))
}

/** The middle one of the samples, or the mean of the two in the middle. */
fun median(samples: DoubleArray): Double = percentile(samples, 0.5)
