package org.edgedeit.core

/**
 * What the app needs of an artefact's manifest (written by edge_deit/artefacts/manifest.py).
 *
 * The model takes float32 (1, 3, `height`, `width`) and returns float32 (1, K), K = `labels.size`.
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
    val preprocessing: PreprocessSpec,
    val labels: List<String>,
) {
    companion object {
        /** Version of the layout that is read. */
        const val SCHEMA = 1
        private val SHA256 = Regex("[0-9a-f]{64}")

        /**
         * Reads and checks a manifest; `name` stands in front of errors.
         *
         * @throws EdgeDeitException for another schema, a model that does not classify, a layout
         * other than float32 NCHW, or parts that do not fit each other.
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
            return Manifest(
                artefact = fileName(json["artefact"]),
                sha256 = sha256Of(json["sha256"]),
                sizeBytes = json["size_bytes"].long(),
                target = json["target"].string(),
                backend = json["backend"].string(),
                precision = json["precision"].string(),
                model = json["model"].string(),
                inputName = json["input"]["name"].string(),
                inputShape = inputShape(json["input"], spec.cropSize),
                outputName = json["output"]["name"].string(),
                preprocessing = spec,
                labels = labels,
            ).also { checkOutput(json["output"], labels.size) }
        }

        private fun inputShape(
            input: Json,
            crop: Int,
        ): IntArray {
            if (input["dtype"].string() != "float32") input["dtype"].wrong("float32")
            if (input["layout"].string() != "NCHW") input["layout"].wrong("NCHW")
            val shape = input["shape"].ints()
            if (!shape.contentEquals(intArrayOf(1, 3, crop, crop))) {
                input["shape"].wrong("[1, 3, $crop, $crop], as crop_size says")
            }
            return shape
        }

        private fun checkOutput(
            output: Json,
            classes: Int,
        ) {
            if (output["dtype"].string() != "float32") output["dtype"].wrong("float32")
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
