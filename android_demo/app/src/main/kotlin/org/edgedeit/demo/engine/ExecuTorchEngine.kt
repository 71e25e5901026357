package org.edgedeit.demo.engine

import org.edgedeit.core.EdgeDeitException
import org.edgedeit.core.Engine
import org.edgedeit.core.ModelInput
import org.edgedeit.demo.BuildConfig
import org.pytorch.executorch.EValue
import org.pytorch.executorch.Module
import org.pytorch.executorch.Tensor
import java.io.File

/**
 * A .pte on ExecuTorch with the XNNPACK backend.
 *
 * @param shape of the input, (1, 3, H, W) or (1, H, W, 3).
 * @throws EdgeDeitException where ExecuTorch refuses the file or a run.
 */
class ExecuTorchEngine(
    file: File,
    shape: IntArray,
    threads: Int,
) : Engine {
    override val runner = "ExecuTorch ${BuildConfig.EXECUTORCH_VERSION}, XNNPACK, $threads threads"
    override val delegate = "XNNPACK"

    private val shape = LongArray(shape.size) { shape[it].toLong() }
    private val module =
        guarded {
            // the method is loaded here, so that the first run is not slower than the others
            val loaded = Module.load(file.path, Module.LOAD_MODE_MMAP, threads)
            closingOnFailure({ loaded.destroy() }) { loaded.loadMethod("forward") }
            loaded
        }

    override fun run(input: ModelInput): FloatArray =
        guarded {
            val tensor =
                when (input) {
                    is ModelInput.Pixels -> Tensor.fromBlob(input.values, shape)
                    is ModelInput.Image -> Tensor.fromBlobUnsigned(input.bytes, shape)
                }
            val returned = module.forward(EValue.from(tensor)).firstOrNull()
            val logits = returned ?: throw EdgeDeitException("ExecuTorch: the model returned nothing")
            logits.toTensor().dataAsFloatArray
        }

    override fun close() = module.destroy()

    private fun <T> guarded(call: () -> T): T = guarded("ExecuTorch", call)
}
