package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class PlacementTest {
    private val tflite = Manifest.parse(Texts.manifest(), "m")
    private val pte = Manifest.parse(Texts.manifest("tiny.int8.pte", "executorch"), "m")
    private val files = listOf(tflite, pte).map { BundledArtefact(it.artefact, it) }

    private fun refusal(
        manifest: Manifest,
        placement: Placement,
    ): String =
        assertThrows(
            EdgeDeitException::class.java,
        ) { checkPlacement(manifest, placement) }.message.orEmpty()

    @Test
    fun `what a file cannot run on is refused with what to choose`() {
        for (threads in listOf(1, 2, 4)) {
            checkPlacement(tflite, Placement.cpu(threads))
            checkPlacement(pte, Placement.cpu(threads))
        }
        checkPlacement(tflite, Placement.GPU)
        assertTrue("xnnpack, which runs on the CPU only" in refusal(pte, Placement.GPU))
        assertTrue("choose the CPU or the GPU" in refusal(tflite, Placement.NPU))
        assertTrue("xnnpack" in refusal(pte, Placement.NPU))
        assertThrows(IllegalArgumentException::class.java) { Placement(Processor.GPU, 2) }
        assertThrows(IllegalArgumentException::class.java) { Placement(Processor.CPU, null) }
        assertThrows(IllegalArgumentException::class.java) { Placement.cpu(0) }
    }

    @Test
    fun `everything is one, two and four threads, and the GPU where there is one`() {
        val rows = benchmarkPlan(files, BenchmarkChoice.Everything, cores = 8)
        val said =
            rows.map {
                "${it.artefact.manifest.target} ${it.placement.processor} ${it.placement.threads}"
            }
        assertEquals(
            listOf("tflite CPU 1", "tflite CPU 2", "tflite CPU 4", "tflite GPU null") +
                listOf("executorch CPU 1", "executorch CPU 2", "executorch CPU 4"),
            said,
        )
        assertEquals(listOf(1, 2), benchmarkThreads(cores = 3))
        assertEquals(listOf(1), benchmarkThreads(cores = 0))
    }

    @Test
    fun `one choice is obeyed, and a later one does not change the plan`() {
        var chosen = Placement.cpu(3)
        val rows = benchmarkPlan(files, BenchmarkChoice.Only(chosen), cores = 8)
        chosen = Placement.cpu(1)
        assertEquals(listOf(3, 3), rows.map { it.placement.threads })
        assertEquals(1, chosen.threads)
    }
}
