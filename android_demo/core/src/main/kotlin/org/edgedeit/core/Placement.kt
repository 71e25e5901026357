package org.edgedeit.core

/** A kind of processor that a user may choose. */
enum class Processor { CPU, GPU, NPU }

/**
 * Where a model runs: on which processor, and on the CPU with how many threads.
 *
 * @throws IllegalArgumentException for threads on another processor, or none on the CPU.
 */
data class Placement(
    val processor: Processor,
    val threads: Int?,
) {
    init {
        require((threads != null) == (processor == Processor.CPU)) { "$processor with $threads threads" }
        require(threads == null || threads > 0) { "$threads threads" }
    }

    companion object {
        fun cpu(threads: Int) = Placement(Processor.CPU, threads)

        val GPU = Placement(Processor.GPU, null)
        val NPU = Placement(Processor.NPU, null)
    }
}

/**
 * Refuses a processor that a file cannot run on, before a runtime is asked.
 *
 * Only what is known for every phone is refused here; whether a phone's GPU takes a file, its runtime says.
 *
 * @throws EdgeDeitException that says what to choose instead.
 */
fun checkPlacement(
    manifest: Manifest,
    placement: Placement,
) {
    val processor = placement.processor
    if (processor == Processor.CPU) return
    if (manifest.target == "executorch") {
        throw EdgeDeitException(
            "${manifest.artefact} was exported for ${manifest.backend}, which runs on the CPU only; " +
                "choose the CPU, or bundle a .tflite file for the $processor",
        )
    }
    if (processor == Processor.NPU) {
        throw EdgeDeitException(
            "${manifest.artefact} cannot be asked to run on the NPU: this app has no maker's library " +
                "for one, and LiteRT adds the CPU to the NPU without telling which ran; choose the CPU or the GPU",
        )
    }
}

/** What a user wants measured: everything, or one placement for all files. */
sealed class BenchmarkChoice {
    object Everything : BenchmarkChoice()

    class Only(
        val placement: Placement,
    ) : BenchmarkChoice()
}

/** One row of a benchmark that is still to come. */
class PlannedRow(
    val artefact: BundledArtefact,
    val placement: Placement,
)

/**
 * The rows of a benchmark, fixed before it begins: a choice that changes meanwhile is for the next one.
 *
 * Everything is the CPU with 1, 2 and 4 threads, as far as the phone has the cores, and the GPU where the file's
 * runtime has one. A single placement is tried with every file, and says why where it cannot be.
 */
fun benchmarkPlan(
    artefacts: List<BundledArtefact>,
    choice: BenchmarkChoice,
    cores: Int,
): List<PlannedRow> =
    artefacts.flatMap { artefact ->
        when (choice) {
            is BenchmarkChoice.Only -> {
                listOf(choice.placement)
            }

            is BenchmarkChoice.Everything -> {
                val gpu = if (artefact.manifest.target == "tflite") listOf(Placement.GPU) else emptyList()
                benchmarkThreads(cores).map(Placement::cpu) + gpu
            }
        }.map { PlannedRow(artefact, it) }
    }

/** 1, 2 and 4, as far as a phone has so many cores. */
fun benchmarkThreads(cores: Int): List<Int> = listOf(1, 2, 4).filter { it <= maxOf(cores, 1) }
