package org.edgedeit.core

/** A loaded model on some runtime. It is used by one thread at a time. */
interface Engine : AutoCloseable {
    /** Runtime, version, processor and threads, for the report. */
    val runner: String

    /** What the runtime gives the work to, for the report. */
    val delegate: String

    /** What the file takes, as its manifest's contract makes it, to what it returns, one value a class. */
    fun run(input: ModelInput): FloatArray
}
