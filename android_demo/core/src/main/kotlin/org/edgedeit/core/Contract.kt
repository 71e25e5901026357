package org.edgedeit.core

import kotlin.math.ln

/** What a model is fed with. */
sealed class ModelInput {
    /** Normalised pixels, (1, 3, H, W): all red values first. */
    class Pixels(
        val values: FloatArray,
    ) : ModelInput()

    /** A photo's bytes, (1, H, W, 3): rows of red, green, blue, 0 to 255. */
    class Image(
        val bytes: ByteArray,
    ) : ModelInput()
}

/**
 * What lies between a photo and a file, and between the file and logits, as its manifest says.
 *
 * The same as edge_deit/artefacts/contract.py: a file takes pixels or a photo's bytes, and returns logits or
 * probabilities.
 */
class Contract(
    val takesImage: Boolean,
    val returnsProbabilities: Boolean,
) {
    /**
     * What the file is fed with for an upright photo.
     *
     * @throws EdgeDeitException where the resized photo would be wider than an Int counts.
     */
    fun input(
        image: RgbImage,
        spec: PreprocessSpec,
    ): ModelInput {
        val rgb = square(image, spec)
        return if (takesImage) ModelInput.Image(rgb) else ModelInput.Pixels(normalise(rgb, spec))
    }

    /** Logits of what the file returned; of probabilities their logarithms, up to a constant the logits. */
    fun logits(returned: FloatArray): DoubleArray =
        DoubleArray(returned.size) { index ->
            val value = returned[index]
            when {
                !returnsProbabilities -> value
                value < LEAST -> ln(LEAST)
                else -> ln(value)
            }.toDouble()
        }

    private companion object {
        const val LEAST = 1.17549435e-38f // float32's least normal value, for a probability that became 0
    }
}
