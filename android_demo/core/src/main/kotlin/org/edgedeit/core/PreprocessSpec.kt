package org.edgedeit.core

/** What happens to the photo's size before the crop. */
enum class Resize(
    val id: String,
) {
    /** The short side becomes `resizeSize`, the aspect stays. */
    SHORTEST("shortest"),

    /** The photo is squashed to a square of `resizeSize`. */
    EXACT("exact"),
    NONE("none"),
}

/** How half of an odd margin is rounded. */
enum class CropRounding(
    val id: String,
) {
    HALF_EVEN("half-even"),
    FLOOR("floor"),
}

/**
 * How a photo becomes a model's input; the seven fields of a manifest's `preprocessing`.
 *
 * The rules are those of edge_deit/data/preprocess.py. `mean` and `std` belong to red, green, blue.
 */
class PreprocessSpec(
    val resize: Resize,
    val resizeSize: Int,
    val cropSize: Int,
    val cropRounding: CropRounding,
    val resample: Resample,
    val mean: FloatArray,
    val std: FloatArray,
) {
    /** Whether both make the same pixels of a photo. */
    fun sameAs(other: PreprocessSpec): Boolean =
        resize == other.resize &&
            resizeSize == other.resizeSize &&
            cropSize == other.cropSize &&
            cropRounding == other.cropRounding &&
            resample == other.resample &&
            mean.contentEquals(other.mean) &&
            std.contentEquals(other.std)

    companion object {
        private const val LARGEST_CROP = 4096
        private val FIELDS =
            setOf(
                "resize",
                "resize_size",
                "crop_size",
                "crop_rounding",
                "resample",
                "mean",
                "std",
            )

        /** @throws EdgeDeitException for unknown, missing or impossible values. */
        fun parse(json: Json): PreprocessSpec {
            val extra = json.names - FIELDS
            if (extra.isNotEmpty()) json.wrong("without $extra, which this version does not know")
            val crop = json["crop_size"].int(least = 1)
            if (crop > LARGEST_CROP) json["crop_size"].wrong("at most $LARGEST_CROP")
            return PreprocessSpec(
                resize = choice(json["resize"], Resize.entries) { it.id },
                resizeSize = json["resize_size"].int(least = 1),
                cropSize = crop,
                cropRounding = choice(json["crop_rounding"], CropRounding.entries) { it.id },
                resample = choice(json["resample"], Resample.entries) { it.id },
                mean = threeFloats(json["mean"]),
                std =
                    threeFloats(json["std"]).also { std ->
                        if (std.any { it <= 0f }) json["std"].wrong("positive")
                    },
            )
        }

        private fun <T> choice(
            json: Json,
            all: List<T>,
            id: (T) -> String,
        ): T = all.find { id(it) == json.string() } ?: json.wrong("one of ${all.map(id)}")

        private fun threeFloats(json: Json): FloatArray {
            val values = json.doubles()
            val floats = FloatArray(values.size) { values[it].toFloat() }
            if (floats.size != 3 || floats.any { it.isInfinite() }) json.wrong("three numbers")
            return floats
        }
    }
}
