package org.edgedeit.core

/** Small texts of the kinds that the bundle command writes. */
internal object Texts {
    const val PREPROCESSING =
        """{"resize": "shortest", "resize_size": 4, "crop_size": 2, "crop_rounding": "half-even",
        "resample": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}"""
    val SHA = "0123456789abcdef".repeat(4)

    fun manifest(
        file: String = "tiny.int8.tflite",
        target: String = "tflite",
    ) = """{"schema": 1, "artefact": "$file", "sha256": "$SHA", "size_bytes": 10, "target": "$target",
        "backend": "xnnpack", "precision": "int8", "model": "tiny", "task": "classification",
        "input": {"name": "pixels", "shape": [1, 3, 2, 2], "dtype": "float32", "layout": "NCHW"},
        "output": {"name": "logits", "shape": [1, 2], "dtype": "float32"},
        "preprocessing": $PREPROCESSING, "labels": ["cat", "dog"], "unknown": {"is": "ignored"}}"""

    /** The same model as a file that takes a photo's bytes and returns probabilities. */
    fun imageManifest() =
        manifest()
            .replace("[1, 3, 2, 2]", "[1, 2, 2, 3]")
            .replace("NCHW", "NHWC")
            .replaceFirst("float32", "uint8")
            .replace("logits", "probabilities")

    fun spec(resize: String = """"precision_bits": 22, "bicubic_a": -0.5""") =
        """{"schema": 1, "artefact": "tiny.fp32.onnx", "preprocessing": $PREPROCESSING,
        "resize": {"implementation": "Pillow", $resize, "passes": ["horizontal", "vertical"],
          "vertical_first_if": "rows lost > max(0, 2 * columns lost)"},
        "labels": ["cat", "dog"], "labels_sha256": "${sha256("cat\ndog".toByteArray())}",
        "top_k": 5, "ties": "lower index first"}"""

    fun index(
        file: String = "tiny.int8.tflite",
        target: String = "tflite",
    ) = """{"schema": 1, "created_by": "test", "artefacts": [{"file": "$file", "manifest": "$file.json",
        "sha256": "$SHA", "size_bytes": 10, "target": "$target", "precision": "int8", "model": "tiny"}]}"""
}
