package org.edgedeit.core

import java.nio.ByteBuffer
import kotlin.Double.Companion.POSITIVE_INFINITY as INFINITY

/** What the golden cases belong to: the model's preprocessing, labels and rules of ranking. */
class GoldenSpec private constructor(
    val artefact: String,
    val preprocessing: PreprocessSpec,
    val labels: List<String>,
    val topK: Int,
) {
    companion object {
        private const val SCHEMA = 1

        /** @throws EdgeDeitException for rules that this port does not follow. */
        fun parse(
            text: String,
            name: String,
        ): GoldenSpec {
            val json = Json.parse(text, name)
            checkSchema(json, SCHEMA)
            checkResize(json["resize"])
            if (json["ties"].string() != "lower index first") json["ties"].wrong("lower index first")
            val labels = json["labels"].items().map { it.string() }
            if (sha256(labels.joinToString("\n").toByteArray()) != json["labels_sha256"].string()) {
                json["labels_sha256"].wrong("the sha256 of the labels")
            }
            return GoldenSpec(
                artefact = json["artefact"].string(),
                preprocessing = PreprocessSpec.parse(json["preprocessing"]),
                labels = labels,
                topK = json["top_k"].int(least = 1),
            )
        }

        private fun checkResize(rule: Json) {
            if (rule["implementation"].string() != "Pillow") rule["implementation"].wrong("Pillow")
            val bits = Axis.PRECISION_BITS
            if (rule["precision_bits"].int() != bits) rule["precision_bits"].wrong("$bits")
            if (rule["bicubic_a"].double() != -0.5) rule["bicubic_a"].wrong("-0.5")
            val passes = rule["passes"].items().map { it.string() }
            if (passes != listOf("horizontal", "vertical")) {
                rule["passes"].wrong("horizontal, then vertical")
            }
            if (rule["vertical_first_if"].string() != VERTICAL_FIRST_IF) {
                rule["vertical_first_if"].wrong(VERTICAL_FIRST_IF)
            }
        }
    }
}

/** Pixels, as stored, and what must come of them: a square of bytes, and a tensor. */
class ImageCase(
    val name: String,
    val width: Int,
    val height: Int,
    val orientation: Int,
    private val pixels: Json,
    val preprocessing: PreprocessSpec,
    val bytesSha256: String,
    val tensorSha256: String,
    val samples: List<Pair<Int, Float>>,
) {
    /** Whether the pixels are those of a photo, not made by the contract's hash. */
    val isStored: Boolean get() = "base64" in pixels

    /** The photo as it is meant to be seen. */
    fun upright(): RgbImage = RgbImage.upright(width, height, orientation, raw())

    /** The stored rows of red, green, blue bytes: written out, or made by the contract's hash. */
    fun raw(): ByteArray {
        if (isStored) return decodeBase64(pixels["base64"].string())
        val hash = pixels["hash"]
        return hashedPixels(width, height, hash["seed"].int(), hash["block"].int(least = 1))
    }
}

/** An image file, and the rows of red, green, blue bytes that the phone's decoder must make of it. */
class FileCase(
    val name: String,
    val png: ByteArray,
    val width: Int,
    val height: Int,
    val rgbSha256: String,
)

/** A camera's frame and the upright pixels that must come of it; one without an answer must be refused. */
class FrameCase internal constructor(
    val name: String,
    private val json: Json,
    val rgbSha256: String?,
) {
    /** @throws EdgeDeitException where the planes do not hold the frame, or it cannot be turned so. */
    fun upright(): RgbImage {
        val source = json["buffer"]
        val bytes =
            if ("base64" in source) decodeBase64(source["base64"].string()) else hashed(source["hash"])
        val buffer = ByteBuffer.wrap(bytes)
        val planes =
            json["planes"].items().map {
                Plane(buffer, it["offset"].int(), it["row_stride"].int(), it["pixel_stride"].int())
            }
        if (planes.size != PLANES) json["planes"].wrong("three planes")
        val (y, u, v) = planes
        return Frame(
            json["width"].int(),
            json["height"].int(),
            y,
            u,
            v,
            colors(),
        ).upright(json["turn"].int())
    }

    private fun colors(): YuvColors =
        YuvColors.entries.find {
            it.matrix == json["matrix"].string() && it.range == json["range"].string()
        }
            ?: json["matrix"].wrong("one of ${YuvColors.entries.map { it.matrix }.distinct()}")

    private fun hashed(hash: Json): ByteArray {
        val size = hash["bytes"].int(least = 1)
        return hashedPixels((size + 2) / 3, 1, hash["seed"].int(), 1).copyOf(size)
    }

    private companion object {
        const val PLANES = 3
    }
}

/**
 * Logits, and the probabilities and order that must come of them.
 *
 * @property image names the image case that the file `artefact` answered with these logits; both are null where
 * they were made up.
 */
class ClassificationCase(
    val name: String,
    val image: String?,
    val artefact: String?,
    val logits: DoubleArray,
    val probabilities: DoubleArray,
    val top: List<Int>,
)

/** Logits that must be refused. */
class RefusedCase(
    val name: String,
    val logits: DoubleArray,
)

/** All cases of a golden_cases.json. */
class GoldenCases private constructor(
    val images: List<ImageCase>,
    val files: List<FileCase>,
    val frames: List<FrameCase>,
    val classification: List<ClassificationCase>,
    val refused: List<RefusedCase>,
    val photos: List<PhotoAnswer>,
) {
    val size: Int get() = images.size + files.size + frames.size + classification.size + refused.size

    companion object {
        private const val SCHEMA = 2

        /** @throws EdgeDeitException where the file is not what the contract says. */
        fun parse(
            text: String,
            name: String,
        ): GoldenCases {
            val json = Json.parse(text, name)
            checkSchema(json, SCHEMA)
            return GoldenCases(
                json["images"].items().map(::image),
                json["files"].items().map(::file),
                json["frames"].items().map(::frame),
                json["classification"].items().map(::classification),
                json["refused"].items().map { RefusedCase(it["name"].string(), anyDoubles(it["logits"])) },
                json["photos"].items().map(::photo),
            )
        }

        private fun image(json: Json): ImageCase {
            val pixels = json["pixels"]
            if (pixels.names != setOf("hash") && pixels.names != setOf("base64")) {
                pixels.wrong("either hash or base64")
            }
            return ImageCase(
                name = json["name"].string(),
                width = json["width"].int(least = 1),
                height = json["height"].int(least = 1),
                orientation = json["orientation"].int(least = 1),
                pixels = pixels,
                preprocessing = PreprocessSpec.parse(json["preprocessing"]),
                bytesSha256 = Manifest.sha256Of(json["bytes_sha256"]),
                tensorSha256 = Manifest.sha256Of(json["tensor_sha256"]),
                samples =
                    json["samples"].items().map { pair ->
                        val (index, value) = pair.items()
                        Pair(index.int(least = 0), value.double().toFloat())
                    },
            )
        }

        private fun file(json: Json): FileCase =
            FileCase(
                json["name"].string(),
                decodeBase64(json["png"].string()),
                json["width"].int(least = 1),
                json["height"].int(least = 1),
                Manifest.sha256Of(json["rgb_sha256"]),
            )

        private fun frame(json: Json): FrameCase {
            val answer = json["rgb_sha256"]
            val digest = if (answer.isNull) null else Manifest.sha256Of(answer)
            return FrameCase(json["name"].string(), json, digest)
        }

        private fun classification(json: Json): ClassificationCase =
            ClassificationCase(
                json["name"].string(),
                textOrNull(json["image"]),
                textOrNull(json["artefact"]),
                json["logits"].doubles(),
                json["probabilities"].doubles(),
                json["top"].ints().toList(),
            )

        private fun photo(json: Json): PhotoAnswer =
            PhotoAnswer(
                json["name"].string(),
                Manifest.sha256Of(json["sha256"]),
                json["artefact"].string(),
                json["logits"].doubles(),
            )

        private fun textOrNull(json: Json): String? = if (json.isNull) null else json.string()

        private fun anyDoubles(json: Json): DoubleArray {
            val words = mapOf("nan" to Double.NaN, "inf" to INFINITY, "-inf" to -INFINITY)
            val items = json.items()
            return DoubleArray(items.size) { index ->
                val item = items[index]
                if (!item.isText) item.double() else words[item.string()] ?: item.wrong("${words.keys}")
            }
        }
    }
}

/**
 * Pixels that cost no space: byte (y, x, c) is a hash of its block and channel, in 32 bits.
 *
 * `block` 1 is noise, larger blocks are flat squares.
 */
fun hashedPixels(
    width: Int,
    height: Int,
    seed: Int,
    block: Int,
): ByteArray {
    val out = ByteArray(3 * width * height)
    val blocks = (width + block - 1) / block
    var to = 0
    for (y in 0 until height) {
        for (x in 0 until width) {
            val first = ((y / block) * blocks + x / block) * 3
            for (channel in 0 until 3) out[to++] = hash(first + channel, seed).toByte()
        }
    }
    return out
}

private fun hash(
    index: Int,
    seed: Int,
): Int {
    var value = index * 2654435761L.toInt() + seed * 2246822519L.toInt()
    value = value xor (value ushr 15)
    value *= 3266489917L.toInt()
    return value xor (value ushr 13)
}
