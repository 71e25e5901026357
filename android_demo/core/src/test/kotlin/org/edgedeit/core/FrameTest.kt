package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.nio.ByteBuffer

class FrameTest {
    /** 3 x 2 pixels, luma 10 to 60 in rows of 4, U and V in turn with the last V as the last byte. */
    private val bytes = byteArrayOf(10, 20, 30, 0, 40, 50, 60, 0, 100, -56, -56, 100)

    private fun frame(
        colors: YuvColors = YuvColors.BT601_FULL,
        width: Int = 3,
        rowStride: Int = 4,
        pixelStride: Int = 2,
        size: Int = bytes.size,
    ): Frame {
        val buffer = ByteBuffer.wrap(bytes).duplicate().apply { limit(size) }
        val u = Plane(buffer, 8, rowStride, pixelStride)
        return Frame(
            width,
            2,
            Plane(buffer, 0, rowStride, 1),
            u,
            Plane(buffer, 9, rowStride, pixelStride),
            colors,
        )
    }

    @Test
    fun `a pixel worked out by hand`() {
        // y 10, u 100, v 200: 10 + 1.402 * 72, 10 + 0.344136 * 28 - 0.714136 * 72, 10 - 1.772 * 28
        assertEquals((111 shl 16) or (0 shl 8) or 0, YuvColors.BT601_FULL.rgb(10, 100, 200))
        assertEquals(0xFFFFFF, YuvColors.BT601_VIDEO.rgb(235, 128, 128))
        assertEquals(0, YuvColors.BT709_VIDEO.rgb(16, 128, 128))
        assertEquals(0x808080, YuvColors.BT709_FULL.rgb(128, 128, 128))
        val first = frame().upright(0).bytes
        assertEquals(listOf(111, 0, 0), first.take(3).map { it.toInt() and 0xFF })
    }

    @Test
    fun `every turn moves the pixels`() {
        val reds = { turn: Int -> frame().upright(turn).bytes.filterIndexed { at, _ -> at % 3 == 0 } }
        val upright = reds(0)
        assertEquals(listOf(3, 0, 4, 1, 5, 2).map { upright[it] }, reds(90))
        assertEquals(upright.reversed(), reds(180))
        assertEquals(listOf(2, 5, 1, 4, 0, 3).map { upright[it] }, reds(270))
        assertEquals(listOf(2, 3), listOf(frame().upright(90).width, frame().upright(90).height))
        assertThrows(EdgeDeitException::class.java) { frame().upright(45) }
    }

    @Test
    fun `planes that do not hold the frame are refused`() {
        val calls =
            listOf<() -> Frame>(
                { frame(size = 11) },
                { frame(rowStride = 1) },
                { frame(rowStride = Int.MAX_VALUE) },
                { frame(pixelStride = 0) },
                { frame(pixelStride = Int.MAX_VALUE) },
                { frame(width = 0) },
                { frame(width = Int.MAX_VALUE) },
            )
        for (call in calls) {
            val said = assertThrows(EdgeDeitException::class.java) { call() }.message.orEmpty()
            assertTrue("plane of" in said || "no pixels" in said, said)
        }
    }

    @Test
    fun `the smallest frames that are large enough are asked for`() {
        val offered = listOf(Pair(1920, 1080), Pair(320, 240), Pair(640, 480))
        assertEquals(Pair(640, 480), frameSize(offered, 256))
        assertEquals(Pair(320, 240), frameSize(offered, 240))
        assertEquals(Pair(1920, 1080), frameSize(offered, 2000))
        assertThrows(EdgeDeitException::class.java) { frameSize(emptyList(), 1) }
    }

    @Test
    fun `a frame is turned as sensor and screen say`() {
        // a phone's back camera lies at 90 degrees, its front camera at 270
        assertEquals(
            listOf(90, 0, 270, 180),
            listOf(0, 90, 180, 270).map { Frame.turn(90, it, front = false) },
        )
        assertEquals(
            listOf(270, 0, 90, 180),
            listOf(0, 90, 180, 270).map { Frame.turn(270, it, front = true) },
        )
    }
}
