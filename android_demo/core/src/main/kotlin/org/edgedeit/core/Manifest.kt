package org.edgedeit.core

/**
 * What the app needs of an artefact's manifest (written by edge_deit/artefacts/manifest.py).
 *
 * The model takes float32 (1, 3, H, W), normalised, or uint8 (1, H, W, 3), and returns float32 (1, K), logits
 * or probabilities, K = `labels.size`; `contract` says which.
 */
class Manifest private constructor(
    val artefact: String,
    val sha256: String,
    val sizeBytes: Long,
    val target: String,
    val backend: String,
    val precision: String,
    val model: String,
    val inputName: String,
    val inputShape: IntArray,
    val outputName: String,
    val contract: Contract,
    val preprocessing: PreprocessSpec,
    val labels: List<String>,
) {
    companion object {
        /** Version of the layout that is read. */
        const val SCHEMA = 1
        private const val FLOATS = "float32"
        private const val BYTES = "uint8"
        private val SHA256 = Regex("[0-9a-f]{64}")

        /**
         * Reads and checks a manifest; `name` stands in front of errors.
         *
         * @throws EdgeDeitException for another schema, a model that does not classify, an input other
         * than float32 NCHW and uint8 NHWC, or parts that do not fit each other.
         */
        fun parse(
            text: String,
            name: String,
        ): Manifest {
            val json = Json.parse(text, name)
            checkSchema(json, SCHEMA)
            if (json["task"].string() != "classification") json["task"].wrong("classification")
            val spec = PreprocessSpec.parse(json["preprocessing"])
            val labels = json["labels"].items().map { it.string() }
            val contract = contract(json["input"], json["output"])
            return Manifest(
                artefact = fileName(json["artefact"]),
                sha256 = sha256Of(json["sha256"]),
                sizeBytes = json["size_bytes"].long(),
                target = json["target"].string(),
                backend = json["backend"].string(),
                precision = json["precision"].string(),
                model = json["model"].string(),
                inputName = json["input"]["name"].string(),
                inputShape = inputShape(json["input"], spec.cropSize, contract.takesImage),
                outputName = json["output"]["name"].string(),
                contract = contract,
                preprocessing = spec,
                labels = labels,
            ).also { checkOutput(json["output"], labels.size) }
        }

        private fun contract(
            input: Json,
            output: Json,
        ): Contract {
            val type = input["dtype"].string()
            if (type !in listOf(FLOATS, BYTES)) input["dtype"].wrong("$FLOATS or $BYTES")
            return Contract(type == BYTES, output["name"].string() == "probabilities")
        }

        private fun inputShape(
            input: Json,
            crop: Int,
            image: Boolean,
        ): IntArray {
            val layout = if (image) "NHWC" else "NCHW"
            if (input["layout"].string() != layout) input["layout"].wrong(layout)
            val shape = input["shape"].ints()
            val expected = if (image) listOf(1, crop, crop, 3) else listOf(1, 3, crop, crop)
            if (shape.toList() != expected) input["shape"].wrong("$expected, as crop_size says")
            return shape
        }

        private fun checkOutput(
            output: Json,
            classes: Int,
        ) {
            if (output["dtype"].string() != FLOATS) output["dtype"].wrong(FLOATS)
            if (!output["shape"].ints().contentEquals(intArrayOf(1, classes))) {
                output["shape"].wrong("[1, $classes], as there are $classes labels")
            }
        }

        internal fun sha256Of(json: Json): String {
            val digest = json.string()
            if (!digest.matches(SHA256)) json.wrong("64 lower-case hexadecimal digits")
            return digest
        }

        /** A name without folders: it becomes part of a path on the phone. */
        internal fun fileName(json: Json): String {
            val name = json.string()
            if (name.isEmpty() || '/' in name || '\\' in name || name.startsWith(".")) {
                json.wrong("a file name without folders")
            }
            return name
        }
    }
}

/** @throws EdgeDeitException where a file's `schema` is not the one that this version reads. */
internal fun checkSchema(
    json: Json,
    schema: Int,
) {
    if (json["schema"].int() != schema) {
        json["schema"].wrong("$schema, which this version reads; bundle the model again")
    }
}
