package org.edgedeit.core

import java.nio.ByteBuffer

/** Where a plane's samples lie: (x, y) at `offset + y * rowStride + x * pixelStride` of its buffer. */
class Plane(
    val buffer: ByteBuffer,
    val offset: Int,
    val rowStride: Int,
    val pixelStride: Int,
)

/**
 * How YUV becomes RGB, in 1/65536: docs/mobile.md has the formula, edge_deit/mobile/golden_frames.py its source.
 *
 * @property black the luma of black.
 */
enum class YuvColors(
    val matrix: String,
    val range: String,
    val black: Int,
    val luma: Int,
    val redV: Int,
    val greenU: Int,
    val greenV: Int,
    val blueU: Int,
) {
    /** What Android's cameras deliver, and JPEG. */
    BT601_FULL("bt601", "full", 0, 65536, 91881, 22553, 46802, 116130),
    BT601_VIDEO("bt601", "video", 16, 76309, 104597, 25675, 53279, 132201),
    BT709_FULL("bt709", "full", 0, 65536, 103206, 12276, 30679, 121609),
    BT709_VIDEO("bt709", "video", 16, 76309, 117489, 13975, 34925, 138438),
    ;

    /** One pixel as 0xRRGGBB. */
    fun rgb(
        y: Int,
        u: Int,
        v: Int,
    ): Int {
        val grey = luma * (y - black) + HALF
        val red = level(grey + redV * (v - CENTRE))
        val green = level(grey - greenU * (u - CENTRE) - greenV * (v - CENTRE))
        return (red shl 16) or (green shl 8) or level(grey + blueU * (u - CENTRE))
    }

    private fun level(sum: Int): Int = (sum shr SHIFT).coerceIn(0, 255)

    private companion object {
        const val SHIFT = 16
        const val HALF = 1 shl 15
        const val CENTRE = 128
    }
}

/**
 * A camera's frame in YUV 4:2:0: U and V have one sample for 2 x 2 pixels, whatever the planes' layout
 * (I420, NV12, NV21, rows with padding).
 *
 * @throws EdgeDeitException for planes that do not hold so many pixels.
 */
class Frame(
    private val width: Int,
    private val height: Int,
    private val y: Plane,
    private val u: Plane,
    private val v: Plane,
    private val colors: YuvColors,
) {
    init {
        if (width < 1 || height < 1) throw EdgeDeitException("a frame of $width x $height has no pixels")
        check("Y", y, width, height)
        check("U", u, half(width), half(height))
        check("V", v, half(width), half(height))
    }

    /**
     * The RGB pixels, turned clockwise by `turn` degrees.
     *
     * @throws EdgeDeitException for another angle than 0, 90, 180 and 270.
     */
    fun upright(turn: Int): RgbImage {
        val orientation =
            ORIENTATIONS[turn] ?: throw EdgeDeitException("a frame cannot be turned by $turn degrees")
        return RgbImage.upright(width, height, orientation) { row, out ->
            val lumas = y.offset + row * y.rowStride
            val us = u.offset + row / 2 * u.rowStride
            val vs = v.offset + row / 2 * v.rowStride
            for (x in 0 until width) {
                out[x] =
                    colors.rgb(
                        sample(y, lumas + x * y.pixelStride),
                        sample(u, us + x / 2 * u.pixelStride),
                        sample(v, vs + x / 2 * v.pixelStride),
                    )
            }
        }
    }

    private fun sample(
        plane: Plane,
        at: Int,
    ): Int = plane.buffer.get(at).toInt() and 0xFF

    private fun check(
        name: String,
        plane: Plane,
        columns: Int,
        rows: Int,
    ) {
        val (row, pixel) = Pair(plane.rowStride.toLong(), plane.pixelStride.toLong())
        val length = (columns - 1) * pixel + 1
        val strides = "a row stride of $row and a pixel stride of $pixel"
        if (plane.offset < 0 || pixel < 1 || row < 1 || (rows > 1 && row < length)) {
            throw EdgeDeitException("the camera's $name plane of $columns x $rows has $strides")
        }
        // by division, as the product of two strides' worth may be more than a Long holds
        val left = plane.buffer.limit().toLong() - plane.offset - length
        if (left < 0 || rows - 1 > left / row) {
            val found = "${plane.buffer.limit()} bytes"
            throw EdgeDeitException("the camera's $name plane of $columns x $rows has $found for $strides")
        }
    }

    companion object {
        /** Degrees clockwise -> EXIF's number for a photo that needs them. */
        private val ORIENTATIONS = mapOf(0 to 1, 90 to 6, 180 to 3, 270 to 8)

        private fun half(length: Int): Int = length / 2 + length % 2

        /**
         * By how many degrees clockwise a frame must be turned to stand upright on the screen.
         *
         * @param sensor how far the sensor is turned in the phone (SENSOR_ORIENTATION).
         * @param display how far the screen's content is turned: 0, 90, 180, 270 (Surface.ROTATION_*).
         * @param front whether the camera looks at the user; it turns the other way.
         */
        fun turn(
            sensor: Int,
            display: Int,
            front: Boolean,
        ): Int = Math.floorMod(if (front) sensor + display else sensor - display, FULL)

        private const val FULL = 360
    }
}

/**
 * The size at which a camera is asked for frames: the smallest whose short side is at least `shortSide`, otherwise the
 * largest.
 *
 * @throws EdgeDeitException for a camera that offers none.
 */
fun frameSize(
    offered: List<Pair<Int, Int>>,
    shortSide: Int,
): Pair<Int, Int> {
    val area = { size: Pair<Int, Int> -> size.first.toLong() * size.second }
    return offered.filter { minOf(it.first, it.second) >= shortSide }.minByOrNull(area)
        ?: offered.maxByOrNull(area)
        ?: throw EdgeDeitException("the camera offers no frames that this app can read")
}
