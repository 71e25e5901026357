package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class MeasuringTest {
    private val events = ArrayList<String>()
    private var time = 0L

    /** Loading takes 30 ms, then 10; the first run 7 ms, others 2. */
    private inner class Counted(
        private val name: String,
        private val answer: FloatArray = floatArrayOf(1f, 2f),
    ) : Engine {
        override val runner = name
        override val delegate = "none"
        private var runs = 0

        init {
            time += if (events.none { it == "open $name" }) 30_000_000 else 10_000_000
            events.add("open $name")
        }

        override fun run(input: ModelInput): FloatArray {
            time += if (runs++ == 0) 7_000_000 else 2_000_000
            events.add("run $name")
            return answer
        }

        override fun close() {
            time += 500_000_000 // counted by nobody
            events.add("close $name")
        }
    }

    private val manifest = Manifest.parse(Texts.manifest(), "m")
    private val photo = RgbImage(5, 4, ByteArray(60))

    @Test
    fun `figures are those of the protocol`() {
        val slot = EngineSlot()
        slot.get("other") { Counted("other") }
        val found = measure(manifest, photo, slot, { time }, { true }) { Counted("new") }
        assertEquals(30.0, found.loadMs)
        assertEquals(10.0, found.loadWarmMs)
        assertEquals(7.0, found.firstRunMs)
        assertEquals(List(Protocol.RUNS) { 2.0 }, found.latencyMs.toList())
        assertEquals(Protocol.PREPROCESS_RUNS, found.preprocessMs.size)
        val loads = listOf("open other", "close other", "open new", "close new", "open new")
        assertEquals(loads, events.filter { !it.startsWith("run") })
        assertEquals(1 + Protocol.WARM_UP + Protocol.RUNS + 1, events.count { it == "run new" })
    }

    @Test
    fun `a slot holds one model and closes it before the next`() {
        val slot = EngineSlot()
        val first = slot.get(Pair("a", 1)) { Counted("a") }
        assertSame(first, slot.get(Pair("a", 1)) { Counted("not made") })
        slot.get(Pair("a", 2)) { Counted("b") }
        assertEquals(listOf("open a", "close a", "open b"), events)
        assertThrows(EdgeDeitException::class.java) {
            slot.get(Pair("c", 1)) {
                assertEquals("close b", events.last())
                throw EdgeDeitException("cannot be loaded")
            }
        }
        slot.close()
        assertEquals("close b", events.last())
    }

    @Test
    fun `what cannot be ranked is no measurement`() {
        val nan = floatArrayOf(1f, Float.NaN)
        assertThrows(EdgeDeitException::class.java) {
            measure(manifest, photo, EngineSlot(), { time }, { true }) { Counted("n", nan) }
        }
    }

    @Test
    fun `a processor that fails while it runs ends its row alone`() {
        val slot = EngineSlot()
        val broken =
            object : Engine by Counted("gpu") {
                override fun run(input: ModelInput): FloatArray =
                    throw EdgeDeitException("LiteRT: the GPU is gone")
            }
        val said =
            assertThrows(EdgeDeitException::class.java) {
                measure(manifest, photo, slot, { time }, { true }) { broken }
            }
        assertEquals("LiteRT: the GPU is gone", said.message)
        val found = measure(manifest, photo, slot, { time }, { true }) { Counted("cpu") }
        assertEquals(Protocol.RUNS, found.latencyMs.size)
        assertTrue(events.lastIndexOf("close gpu") < events.indexOf("open cpu"))
    }

    @Test
    fun `a run that is stopped ends at once`() {
        var asked = 0
        assertThrows(StoppedException::class.java) {
            measure(manifest, photo, EngineSlot(), { time }, { ++asked < 12 }) { Counted("n") }
        }
        assertTrue(events.count { it == "run n" } < Protocol.RUNS)
    }

    @Test
    fun `the protocol's photo has a camera's size`() {
        val photo = Protocol.photo()
        assertEquals(listOf(4032, 3024), listOf(photo.width, photo.height))
    }

    @Test
    fun `a photo is read smaller only where the phone can never hold it`() {
        val heap = 256L shl 20
        assertEquals(1, photoScale(12_000_000, heap, 3))
        assertEquals(1, photoScale(50_000_000, heap, 3))
        assertEquals(2, photoScale(60_000_000, heap, 3))
        assertEquals(4, photoScale(250_000_000, heap, 3))
        assertEquals(2, photoScale(50_000_000, heap, 7))
        assertThrows(IllegalArgumentException::class.java) { photoScale(0, heap, 3) }
    }
}
