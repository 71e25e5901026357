package org.edgedeit.demo.engine

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import org.edgedeit.core.EdgeDeitException
import org.edgedeit.core.Engine
import org.edgedeit.core.ModelInput
import org.edgedeit.demo.BuildConfig

/**
 * A .tflite on LiteRT's CPU path (XNNPACK), mapped straight from the APK's assets.
 *
 * @throws EdgeDeitException where LiteRT refuses the file or a run.
 */
class LiteRtEngine(
    assets: AssetManager,
    path: String,
    threads: Int,
) : Engine {
    override val runner = "LiteRT ${BuildConfig.LITERT_VERSION}, CPU, $threads threads"

    private val model =
        guarded {
            val options = CompiledModel.Options(Accelerator.CPU)
            options.cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
            CompiledModel.create(assets, path, options)
        }
    private val inputs = guarded { closingOnFailure(model::close) { model.createInputBuffers() } }
    private val outputs = guarded { closingOnFailure(::closeInputs) { model.createOutputBuffers() } }

    override fun run(input: ModelInput): FloatArray =
        guarded {
            when (input) {
                is ModelInput.Pixels -> inputs[0].writeFloat(input.values)
                is ModelInput.Image -> inputs[0].writeInt8(input.bytes) // LiteRT copies bytes as they are
            }
            model.run(inputs, outputs)
            outputs[0].readFloat()
        }

    override fun close() {
        for (buffer in outputs) buffer.close()
        closeInputs()
    }

    private fun closeInputs() {
        for (buffer in inputs) buffer.close()
        model.close()
    }

    private fun <T> guarded(call: () -> T): T = guarded("LiteRT", call)
}
