package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** Checks by hand-made numbers; equality with Pillow is what the golden cases prove. */
class ImageTest {
    private fun grey(
        width: Int,
        vararg values: Int,
    ) = RgbImage(width, values.size / width, ByteArray(3 * values.size) { values[it / 3].toByte() })

    private fun greys(image: RgbImage) = List(image.bytes.size / 3) { image.bytes[3 * it].toInt() and 0xFF }

    private fun resized(
        image: RgbImage,
        width: Int,
        height: Int,
        filter: Resample,
    ): List<Int> = greys(resize(image, width, height, filter, Window(0, 0, width, height)))

    private fun spec(
        resize: Resize,
        size: Int,
        crop: Int,
        rounding: CropRounding = CropRounding.HALF_EVEN,
    ) = PreprocessSpec(
        resize,
        size,
        crop,
        rounding,
        Resample.NEAREST,
        FloatArray(3) { 0f },
        FloatArray(3) { 1f / 255f },
    )

    /** The red plane as grey levels: with this mean and std the tensor is the byte again. */
    private fun levels(
        image: RgbImage,
        spec: PreprocessSpec,
    ) = preprocess(image, spec).take(spec.cropSize * spec.cropSize).map { Math.round(it) }

    @Test
    fun `each orientation is what EXIF defines`() {
        val raw = grey(3, 1, 2, 3, 4, 5, 6).bytes // rows 1 2 3 and 4 5 6
        val expected =
            mapOf(
                1 to listOf(1, 2, 3, 4, 5, 6),
                2 to listOf(3, 2, 1, 6, 5, 4),
                3 to listOf(6, 5, 4, 3, 2, 1),
                4 to listOf(4, 5, 6, 1, 2, 3),
                5 to listOf(1, 4, 2, 5, 3, 6),
                6 to listOf(4, 1, 5, 2, 6, 3),
                7 to listOf(6, 3, 5, 2, 4, 1),
                8 to listOf(3, 6, 2, 5, 1, 4),
            )
        for ((orientation, pixels) in expected) {
            val upright = RgbImage.upright(3, 2, orientation, raw)
            assertEquals(if (orientation < 5) 3 else 2, upright.width, "$orientation")
            assertEquals(pixels, greys(upright), "$orientation")
        }
        for (orientation in listOf(0, 9)) {
            assertThrows(EdgeDeitException::class.java) { RgbImage.upright(3, 2, orientation, raw) }
        }
    }

    @Test
    fun `raw bytes of another size are refused`() {
        assertThrows(EdgeDeitException::class.java) { RgbImage.upright(2, 2, 1, ByteArray(11)) }
        assertThrows(EdgeDeitException::class.java) { RgbImage.upright(50_000, 50_000, 1) { _, _ -> } }
    }

    @Test
    fun `halving averages and widens the filter`() {
        val image = grey(4, 0, 100, 200, 50)
        assertEquals(listOf(100, 50), resized(image, 2, 1, Resample.NEAREST))
        // a triangle of four taps, cut at the edge: (3*0 + 3*100 + 200) / 7, (100 + 3*200 + 3*50) / 7
        assertEquals(listOf(71, 121), resized(image, 2, 1, Resample.BILINEAR))
    }

    @Test
    fun `a constant stays constant and overshoot is clipped`() {
        val flat = grey(5, *IntArray(35) { 37 })
        val edge = grey(4, 0, 0, 255, 255)
        for (filter in Resample.entries) {
            assertTrue(resized(flat, 3, 11, filter).all { it == 37 }, filter.id)
            val wide = resized(edge, 16, 1, filter)
            assertEquals(listOf(0, 255), listOf(wide.min(), wide.max()), filter.id)
        }
    }

    @Test
    fun `a window is a part of the whole`() {
        val sizes = listOf(Pair(31, 23), Pair(20, 80)) // the second one begins with the vertical pass
        for ((width, height) in sizes) {
            val image = RgbImage(width, height, hashedPixels(width, height, seed = 3, block = 1))
            for (filter in Resample.entries) {
                val whole = resize(image, 17, 40, filter, Window(0, 0, 17, 40)).bytes
                val part = resize(image, 17, 40, filter, Window(5, 9, 4, 3)).bytes
                val cut = ByteArray(3 * 4 * 3) { whole[3 * ((9 + it / 12) * 17 + 5) + it % 12] }
                assertArrayEquals(cut, part, "${filter.id} of $width x $height")
            }
        }
    }

    @Test
    fun `an odd margin is rounded as the manifest says`() {
        val row = grey(7, *IntArray(49) { it % 7 })
        val two = spec(Resize.NONE, 1, 2)
        assertEquals(listOf(2, 3), levels(row, two).take(2)) // 2.5 to even
        val four = spec(Resize.NONE, 1, 4)
        assertEquals(listOf(2, 3, 4, 5), levels(row, four).take(4)) // 1.5 to even
        assertEquals(listOf(1, 2, 3, 4), levels(row, spec(Resize.NONE, 1, 4, CropRounding.FLOOR)).take(4))
    }

    @Test
    fun `a small image stands on black, the odd row and column before it`() {
        val levels = levels(grey(2, 1, 2, 3, 4), spec(Resize.NONE, 1, 5))
        val expected = IntArray(25)
        expected[12] = 1
        expected[13] = 2
        expected[17] = 3
        expected[18] = 4
        assertEquals(expected.toList(), levels)
    }

    @Test
    fun `the long side is rounded down`() {
        val ramp = grey(5, *IntArray(15) { it })
        // 5 x 3 to 6 high is 10 wide; nearest takes every column twice, and two columns are cut each side
        assertEquals(listOf(1, 1, 2, 2, 3, 3), levels(ramp, spec(Resize.SHORTEST, 6, 6)).take(6))
    }
}
