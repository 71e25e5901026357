package org.edgedeit.demo.engine

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import org.edgedeit.core.EdgeDeitException
import org.edgedeit.core.Engine
import org.edgedeit.core.ModelInput
import org.edgedeit.core.Placement
import org.edgedeit.core.Processor
import org.edgedeit.demo.BuildConfig

/**
 * A .tflite on LiteRT's CPU path (XNNPACK) or on the GPU alone, mapped straight from the APK's assets.
 *
 * The GPU is asked for without the CPU beside it: then LiteRT refuses a file that the GPU cannot run as a whole, in
 * place of running parts of it on the CPU without a word.
 *
 * @throws EdgeDeitException where LiteRT refuses the file or a run.
 */
class LiteRtEngine(
    assets: AssetManager,
    path: String,
    placement: Placement,
) : Engine {
    private val place =
        placement.processor.name + placement.threads?.let { ", $it threads" }.orEmpty()
    override val runner = "LiteRT ${BuildConfig.LITERT_VERSION}, $place"
    override val delegate = if (placement.processor == Processor.CPU) "XNNPACK" else "GPU"

    private val model =
        guarded {
            val options = CompiledModel.Options(accelerator(placement.processor))
            placement.threads?.let { options.cpuOptions = CompiledModel.CpuOptions(numThreads = it) }
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

    private fun accelerator(processor: Processor) =
        when (processor) {
            Processor.CPU -> Accelerator.CPU
            Processor.GPU -> Accelerator.GPU
            Processor.NPU -> Accelerator.NPU
        }

    private fun <T> guarded(call: () -> T): T = guarded("LiteRT", call)
}
