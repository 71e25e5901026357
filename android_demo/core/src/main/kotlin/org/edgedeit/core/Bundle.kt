package org.edgedeit.core

/** One artefact of a bundle and its manifest. */
class BundledArtefact(
    val file: String,
    val manifest: Manifest,
)

/**
 * What `python -m edge_deit.bundle` put into the app: artefacts that share weights and labels.
 *
 * @property read returns a text file of the bundle's folder.
 */
class Bundle private constructor(
    val artefacts: List<BundledArtefact>,
    val goldenSpec: GoldenSpec,
    private val read: (String) -> String,
) {
    /** The self-test's cases; they are large, so they are read when they are asked for. */
    fun goldenCases(): GoldenCases = GoldenCases.parse(read(GOLDEN_CASES), GOLDEN_CASES)

    companion object {
        const val INDEX = "bundle.json"
        const val GOLDEN_SPEC = "golden_spec.json"
        const val GOLDEN_CASES = "golden_cases.json"
        private const val SCHEMA = 1

        /** Targets that an Android app runs. */
        val TARGETS = listOf("tflite", "executorch")

        /**
         * Reads `bundle.json`, every manifest and the golden spec.
         *
         * @throws EdgeDeitException where a file is not what it must be or two do not fit.
         */
        fun parse(read: (String) -> String): Bundle {
            val index = Json.parse(read(INDEX), INDEX)
            checkSchema(index, SCHEMA)
            val entries = index["artefacts"].items()
            if (entries.isEmpty()) index["artefacts"].wrong("a list of at least one artefact")
            val spec = GoldenSpec.parse(read(GOLDEN_SPEC), GOLDEN_SPEC)
            val artefacts = entries.map { entry -> artefact(entry, read) }
            for (artefact in artefacts) {
                if (artefact.manifest.labels != spec.labels) {
                    throw EdgeDeitException(
                        "${artefact.file} has other labels than $GOLDEN_SPEC; bundle it again",
                    )
                }
            }
            return Bundle(artefacts, spec, read)
        }

        private fun artefact(
            entry: Json,
            read: (String) -> String,
        ): BundledArtefact {
            val file = Manifest.fileName(entry["file"])
            val name = Manifest.fileName(entry["manifest"])
            val manifest = Manifest.parse(read(name), name)
            if (manifest.target !in TARGETS) {
                entry["target"].wrong("one of $TARGETS, which an Android app runs")
            }
            val same =
                manifest.artefact == file &&
                    manifest.sha256 == entry["sha256"].string() &&
                    manifest.sizeBytes == entry["size_bytes"].long() &&
                    manifest.target == entry["target"].string() &&
                    manifest.precision == entry["precision"].string()
            if (!same) throw EdgeDeitException("$INDEX and $name describe two files; bundle again")
            return BundledArtefact(file, manifest)
        }
    }
}
