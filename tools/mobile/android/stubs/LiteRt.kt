// Compile-only declarations of what the app uses of com.google.ai.edge.litert:litert:2.3.0, written
// from its documentation: they let a compiler check the calls where Google's Maven cannot be reached.

package com.google.ai.edge.litert

import android.content.res.AssetManager

class LiteRtException : Exception()

enum class Accelerator { CPU, GPU, NPU }

abstract class JniHandle : AutoCloseable {
    override fun close(): Unit = TODO()
}

class TensorBuffer private constructor() : JniHandle() {
    fun writeFloat(data: FloatArray): Unit = TODO("$data")

    fun writeInt8(data: ByteArray): Unit = TODO("$data")

    fun readFloat(): FloatArray = TODO()
}

class CompiledModel private constructor() : JniHandle() {
    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options(
        vararg val accelerators: Accelerator,
    ) {
        var cpuOptions: CpuOptions? = null
    }

    fun createInputBuffers(): List<TensorBuffer> = TODO()

    fun createOutputBuffers(): List<TensorBuffer> = TODO()

    fun run(
        inputs: List<TensorBuffer>,
        outputs: List<TensorBuffer>,
    ): Unit = TODO("$inputs $outputs")

    companion object {
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options,
        ): CompiledModel = TODO("$assetManager $assetName $options")
    }
}
