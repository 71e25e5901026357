package org.edgedeit.core

/** An upright photo: rows of red, green, blue bytes, `3 * width * height` of them. */
class RgbImage(
    val width: Int,
    val height: Int,
    val bytes: ByteArray,
) {
    init {
        require(width > 0 && height > 0) { "an image of $width x $height has no pixels" }
        require(bytes.size.toLong() == 3L * width * height) {
            "${bytes.size} bytes are not $width x $height pixels of three"
        }
    }

    companion object {
        /** Largest EXIF orientation; 1 is upright, 5 to 8 swap width and height. */
        const val LAST_ORIENTATION = 8
        private const val FIRST_TRANSPOSED = 5
        private val MIRRORS_X = setOf(2, 3, 7, 8)
        private val MIRRORS_Y = setOf(3, 4, 6, 7)

        /**
         * Turns a stored photo upright while reading it, as Pillow's `ImageOps.exif_transpose`.
         *
         * `readRow(y, row)` fills one stored row with 0xRRGGBB (higher bits do not count), so that
         * a bitmap and raw bytes take the same way and no second copy is needed. `orientation` is
         * EXIF's: pixel (x, y) of the upright photo is found by transposing for 5 to 8, then
         * mirroring the stored axes.
         *
         * @throws EdgeDeitException for another orientation or more pixels than an array holds.
         */
        fun upright(
            width: Int,
            height: Int,
            orientation: Int,
            readRow: (y: Int, row: IntArray) -> Unit,
        ): RgbImage {
            if (orientation !in 1..LAST_ORIENTATION) {
                throw EdgeDeitException("EXIF orientation is $orientation; it must be 1 to 8")
            }
            if (width < 1 || height < 1 || 3L * width * height > Int.MAX_VALUE) {
                throw EdgeDeitException("$width x $height pixels cannot be held; scale the photo")
            }
            val transposed = orientation >= FIRST_TRANSPOSED
            val newWidth = if (transposed) height else width
            val bytes = ByteArray(3 * width * height)
            val row = IntArray(width)
            for (y in 0 until height) {
                readRow(y, row)
                val rightY = if (orientation in MIRRORS_Y) height - 1 - y else y
                for (x in 0 until width) {
                    val rightX = if (orientation in MIRRORS_X) width - 1 - x else x
                    val pixel = if (transposed) rightX * newWidth + rightY else rightY * newWidth + rightX
                    val color = row[x]
                    bytes[3 * pixel] = (color shr 16).toByte()
                    bytes[3 * pixel + 1] = (color shr 8).toByte()
                    bytes[3 * pixel + 2] = color.toByte()
                }
            }
            return RgbImage(newWidth, if (transposed) width else height, bytes)
        }

        /** The same from raw rows of red, green, blue bytes. */
        fun upright(
            width: Int,
            height: Int,
            orientation: Int,
            raw: ByteArray,
        ): RgbImage {
            if (raw.size.toLong() != 3L * width * height) {
                throw EdgeDeitException(
                    "${raw.size} bytes are not $width x $height pixels of three bytes",
                )
            }
            return upright(width, height, orientation) { y, row ->
                for (x in 0 until width) {
                    val at = 3 * (y * width + x)
                    row[x] = (byte(raw, at) shl 16) or (byte(raw, at + 1) shl 8) or byte(raw, at + 2)
                }
            }
        }

        private fun byte(
            bytes: ByteArray,
            at: Int,
        ): Int = bytes[at].toInt() and 0xFF
    }
}
