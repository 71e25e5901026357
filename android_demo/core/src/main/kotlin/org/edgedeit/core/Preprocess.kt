package org.edgedeit.core

import kotlin.math.max
import kotlin.math.min

/**
 * An upright photo as a model's input: (3, crop, crop) float32, all red values first.
 *
 * Bit for bit what edge_deit/data/preprocess.py makes of the same pixels.
 *
 * @throws EdgeDeitException where the resized photo would be wider than an Int counts.
 */
fun preprocess(
    image: RgbImage,
    spec: PreprocessSpec,
): FloatArray = normalise(square(image, spec), spec)

/**
 * The square of an upright photo that a model sees: `crop` rows of `crop` red, green, blue bytes.
 *
 * @throws EdgeDeitException where the resized photo would be wider than an Int counts.
 */
fun square(
    image: RgbImage,
    spec: PreprocessSpec,
): ByteArray {
    val (width, height) = resizedTo(image, spec)
    val crop = spec.cropSize
    val across = Cut.of(width, crop, spec.cropRounding)
    val down = Cut.of(height, crop, spec.cropRounding)
    val window = Window(across.start, down.start, across.length, down.length)
    val part = resize(image, width, height, spec.resample, window).bytes
    val square = ByteArray(3 * crop * crop) // black where the photo does not reach
    for (row in 0 until down.length) {
        val to = 3 * ((row + down.padding) * crop + across.padding)
        part.copyInto(square, to, 3 * row * across.length, 3 * (row + 1) * across.length)
    }
    return square
}

private fun resizedTo(
    image: RgbImage,
    spec: PreprocessSpec,
): Pair<Int, Int> {
    val size = spec.resizeSize
    return when (spec.resize) {
        Resize.NONE -> {
            Pair(image.width, image.height)
        }

        Resize.EXACT -> {
            Pair(size, size)
        }

        Resize.SHORTEST -> {
            if (image.width <= image.height) {
                Pair(size, longSide(size, image.height, image.width))
            } else {
                Pair(longSide(size, image.width, image.height), size)
            }
        }
    }
}

/** `size * long / short`, rounded down, but not below `size`. */
private fun longSide(
    size: Int,
    long: Int,
    short: Int,
): Int {
    val exact = (size.toLong() * long).toDouble() / short
    if (exact > Int.MAX_VALUE) {
        throw EdgeDeitException("a photo of $long x $short is too narrow to be resized to $size")
    }
    return max(size, exact.toInt())
}

/** Along one axis: which resized pixels are kept, and how many black ones stand before them. */
private class Cut(
    val start: Int,
    val length: Int,
    val padding: Int,
) {
    companion object {
        fun of(
            resized: Int,
            crop: Int,
            rounding: CropRounding,
        ): Cut {
            val before = (max(0, crop - resized) + 1) / 2
            val spare = max(resized, crop) - crop
            val offset =
                when (rounding) {
                    CropRounding.FLOOR -> spare / 2
                    CropRounding.HALF_EVEN -> Math.rint(spare / 2.0).toInt()
                }
            return Cut(start = offset, length = min(crop, resized), padding = before)
        }
    }
}

/** Rows of RGB bytes to planes of (x / 255 - mean) / std, every step rounded to float32. */
fun normalise(
    rgb: ByteArray,
    spec: PreprocessSpec,
): FloatArray {
    val plane = rgb.size / 3
    val out = FloatArray(rgb.size)
    for (channel in 0 until 3) {
        val table = FloatArray(256) { (it / 255f - spec.mean[channel]) / spec.std[channel] }
        for (pixel in 0 until plane) {
            out[channel * plane + pixel] = table[rgb[3 * pixel + channel].toInt() and 0xFF]
        }
    }
    return out
}
