package org.edgedeit.demo.engine

/** A loaded model on some runtime. It is used by one thread at a time. */
interface Engine : AutoCloseable {
    /** Runtime, version, processor and threads, for the report. */
    val runner: String

    /** Normalised pixels, 3 * H * W values, all red ones first, to logits, one a class. */
    fun run(pixels: FloatArray): FloatArray
}
