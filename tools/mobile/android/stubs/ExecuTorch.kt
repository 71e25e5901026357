// Compile-only declarations of what the app uses of org.pytorch:executorch-android:1.5.1, written from
// its documentation: they let a compiler check the calls where Maven Central cannot be reached.

package org.pytorch.executorch

class ExecutorchRuntimeException : RuntimeException()

class Tensor private constructor() {
    val dataAsFloatArray: FloatArray get() = TODO()

    companion object {
        fun fromBlob(
            data: FloatArray,
            shape: LongArray,
        ): Tensor = TODO("$data $shape")

        fun fromBlobUnsigned(
            data: ByteArray,
            shape: LongArray,
        ): Tensor = TODO("$data $shape")
    }
}

class EValue private constructor() {
    fun toTensor(): Tensor = TODO()

    companion object {
        fun from(tensor: Tensor): EValue = TODO("$tensor")
    }
}

class Module private constructor() {
    fun loadMethod(methodName: String): Unit = TODO(methodName)

    fun forward(vararg inputs: EValue): Array<EValue> = TODO("$inputs")

    fun destroy(): Unit = TODO()

    companion object {
        const val LOAD_MODE_MMAP = 1

        fun load(
            modelPath: String,
            loadMode: Int,
            numThreads: Int,
        ): Module = TODO("$modelPath $loadMode $numThreads")
    }
}
