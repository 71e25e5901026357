/*
 * ExecuTorch behind three C functions, so that Python's ctypes can call it.
 *
 * The runtime's own Python module needs all of PyTorch; its C++ libraries need nothing. For the Arm build of
 * PyTorch on PyPI that would be CUDA with it.
 *
 * Source: executorch/extension/module/module.h and executorch/extension/tensor/tensor_ptr.h.
 */
#include <cstdint>
#include <cstring>
#include <vector>

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor_ptr.h>

using executorch::aten::ScalarType;
using executorch::extension::make_tensor_ptr;
using executorch::extension::Module;
using executorch::runtime::Error;

/* A program whose `forward` is loaded, or null. */
extern "C" void *pte_open(const char *path)
{
    auto *module = new Module(path);
    if (module->load_forward() != Error::Ok) {
        delete module;
        return nullptr;
    }
    return module;
}

/* How many floats `forward` returns, or -1 when it returns anything but one float tensor. */
extern "C" int64_t pte_outputs(void *module)
{
    const auto meta = static_cast<Module *>(module)->method_meta("forward");
    if (!meta.ok() || meta->num_outputs() != 1) {
        return -1;
    }
    const auto output = meta->output_tensor_meta(0);
    if (!output.ok() || output->scalar_type() != ScalarType::Float) {
        return -1;
    }
    return static_cast<int64_t>(output->nbytes() / sizeof(float));
}

/*
 * Run on one photo of four `sizes`: floats, or bytes where `bytes` is not 0.
 *
 * 0 when all went well, else ExecuTorch's error code.
 */
extern "C" int pte_run(void *module, void *photo, int bytes, const int32_t *sizes, float *logits)
{
    const auto type = bytes != 0 ? ScalarType::Byte : ScalarType::Float;
    const auto input = make_tensor_ptr({sizes[0], sizes[1], sizes[2], sizes[3]}, photo, type);
    const auto outputs = static_cast<Module *>(module)->forward(input);
    if (!outputs.ok()) {
        return static_cast<int>(outputs.error());
    }
    const executorch::aten::Tensor result = outputs->at(0).toTensor();
    std::memcpy(logits, result.const_data_ptr(), result.nbytes());
    return 0;
}
