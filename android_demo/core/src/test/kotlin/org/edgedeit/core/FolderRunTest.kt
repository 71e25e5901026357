package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

class FolderRunTest {
    private val manifest = Manifest.parse(Texts.manifest(), "m")
    private val dot = RgbImage(1, 1, ByteArray(3))

    private fun answer(
        name: String,
        artefact: String = manifest.artefact,
    ) = PhotoAnswer(name, Texts.SHA, artefact, doubleArrayOf(1.0, 3.0))

    private fun photo(
        name: String,
        sha256: String = Texts.SHA,
    ) = FolderPhoto(name) { StoredPhoto(sha256, dot) }

    private fun run(
        photos: List<FolderPhoto>,
        answers: List<PhotoAnswer>,
        vararg returned: FloatArray,
    ): FolderResult {
        var at = 0
        return runFolder(photos, answers, manifest, { returned[at++ % returned.size] }) { true }
    }

    @Test
    fun `agreement, signal to noise and the worst photo`() {
        val names = listOf("a.jpg", "b/c.jpg", "d.jpg")
        val exact = floatArrayOf(1f, 3f)
        // less their means -1, 1 and 0.5, -0.5: noise 2 * 1.5^2 of a signal of 2
        val found = run(names.map(::photo), names.map(::answer), exact, floatArrayOf(4f, 3f), exact)
        assertEquals(
            listOf(3, 3, 2, 0),
            listOf(found.photos, found.compared, found.sameTop, found.skippedCount),
        )
        assertEquals(10 * kotlin.math.log10(6 / 4.5), checkNotNull(found.snrDb), 1e-12)
        val worst = found.worst.first()
        assertEquals(listOf("b/c.jpg", "cat", "dog"), listOf(worst.name, worst.answer, worst.expected))
        assertEquals(10 * kotlin.math.log10(2 / 4.5), worst.snrDb, 1e-12)
        assertEquals(200.0, found.worst.last().snrDb)
    }

    @Test
    fun `a shift of all logits is no difference`() {
        val found = run(listOf(photo("a")), listOf(answer("a")), floatArrayOf(101f, 103f))
        assertEquals(200.0, found.snrDb)
    }

    @Test
    fun `photos that cannot be compared are skipped with their reason`() {
        val broken = FolderPhoto("broken") { throw EdgeDeitException("no photo") }
        val photos =
            listOf(broken, photo("unknown"), photo("other", "0".repeat(64)), photo("nan"), photo("good"))
        val known = listOf("broken", "other", "nan", "good").map(::answer)
        val nan = floatArrayOf(Float.NaN, 0f)
        val found = run(photos, known, nan, floatArrayOf(1f, 3f))
        assertEquals(listOf(5, 1, 4), listOf(found.photos, found.compared, found.skippedCount))
        val reasons = listOf("no photo", "no such photo", "sha256 differs", "NaN")
        for ((skipped, reason) in found.skipped.zip(
            reasons,
        )) {
            assertTrue(reason in skipped.reason, skipped.reason)
        }
    }

    @Test
    fun `an empty folder, a runtime that fails and another model end the run`() {
        val refusal = { action: () -> Unit ->
            assertThrows(EdgeDeitException::class.java) { action() }.message.orEmpty()
        }
        assertTrue("no photo" in refusal { run(emptyList(), listOf(answer("a")), floatArrayOf(1f)) })
        assertTrue(
            "write them again" in
                refusal {
                    run(
                        listOf(photo("a")),
                        listOf(answer("a")),
                        floatArrayOf(1f),
                    )
                },
        )
        val gone = { _: ModelInput -> throw EdgeDeitException("LiteRT: the GPU is gone") }
        assertEquals(
            "LiteRT: the GPU is gone",
            refusal { runFolder(listOf(photo("a")), listOf(answer("a")), manifest, gone) { true } },
        )
        val found = run(listOf(photo("a")), emptyList(), floatArrayOf(1f))
        assertNull(found.snrDb)
        assertEquals(1, found.skippedCount)
    }

    @Test
    fun `a thousand photos keep ten rows, and a stop ends the run`() {
        val names = List(1000) { "$it.jpg" }
        val missing = names.map { FolderPhoto(it) { throw EdgeDeitException("unreadable") } }
        val all = run(missing, names.map(::answer), floatArrayOf(1f, 3f))
        assertEquals(listOf(1000, 10), listOf(all.skippedCount, all.skipped.size))
        var done = 0
        val found =
            runFolder(
                names.map(::photo),
                names.map(::answer),
                manifest,
                { floatArrayOf(done.toFloat(), 3f) },
            ) {
                done = it
                it < 400
            }
        assertEquals(listOf(400, 10), listOf(found.photos, found.worst.size))
        assertEquals("399.jpg", found.worst.first().name)
    }

    @Test
    fun `another file's answers stand in where Python did not run this one`() {
        val answers =
            listOf(answer("a", "tiny.fp32.onnx"), answer("b", "tiny.fp32.onnx"), answer("a", "third"))
        val found = run(listOf(photo("a"), photo("b")), answers, floatArrayOf(1f, 3f))
        assertEquals(listOf("tiny.fp32.onnx", "2"), listOf(found.reference, "${found.compared}"))
        assertEquals(
            manifest.artefact,
            run(listOf(photo("a")), answers + answer("a"), floatArrayOf(1f, 3f)).reference,
        )
    }

    @Test
    fun `golden photos are a folder, and samples with their answers`() {
        val folder = File(System.getProperty("edgedeit.golden", "../../tests/golden"))
        val spec = GoldenSpec.parse(File(folder, Bundle.GOLDEN_SPEC).readText(), "spec")
        val cases = GoldenCases.parse(File(folder, Bundle.GOLDEN_CASES).readText(), "cases")
        val (photos, answers) = goldenFolder(spec, cases, spec.artefact)
        assertEquals(4, photos.size)
        assertEquals(photos.map { it.name }, answers.map { it.name })
        assertEquals(28, photos[0].read().image.width)
        val samples = samplePhotos(spec, cases)
        assertEquals(photos.map { it.name }, samples.map { it.name })
        assertTrue(samples.all { expectedLabel(spec, cases, it.name) in spec.labels })
        assertNull(expectedLabel(spec, cases, "large"))
    }
}
