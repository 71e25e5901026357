package org.edgedeit.demo

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Color
import android.graphics.ColorSpace
import android.media.ExifInterface
import android.os.Build
import org.edgedeit.core.RgbImage
import java.io.File

/** A photo as it is classified. `scale` is 1, or 2, 4, ... when it was read smaller. */
class Photo(
    val image: RgbImage,
    val scale: Int,
    val storedWidth: Int,
    val storedHeight: Int,
)

/**
 * Reads photos as edge_deit.data.preprocess.load_image does: upright, 8-bit RGB, transparency dropped.
 *
 * A photo is read at full size when the memory allows, as every other size changes its pixels. One
 * that is too large is read at a half, a quarter, ... of its size and says so in [Photo.scale].
 */
object PhotoReader {
    private const val BYTES_A_PIXEL = 4L + 3L // the bitmap and our own copy, both alive at once
    private const val SHARE = 0.6 // of the memory that is still free; the rest is for the model

    /** @throws Problem for a file that is no photo. */
    fun read(file: File): Photo {
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeFile(file.path, bounds)
        if (bounds.outWidth < 1) throw unreadable("${file.length()} bytes of no known format")
        val options = options(scaleFor(bounds.outWidth.toLong() * bounds.outHeight))
        val bitmap =
            BitmapFactory.decodeFile(file.path, options) ?: throw unreadable(bounds.outMimeType.orEmpty())
        try {
            val image =
                RgbImage.upright(bitmap.width, bitmap.height, orientation(file)) { y, row ->
                    bitmap.getPixels(row, 0, bitmap.width, 0, y, bitmap.width, 1)
                }
            return Photo(image, options.inSampleSize, bounds.outWidth, bounds.outHeight)
        } finally {
            bitmap.recycle()
        }
    }

    /** A bitmap of the upright photo with its longer side at most `size`, for the screen. */
    fun preview(
        image: RgbImage,
        size: Int,
    ): Bitmap {
        val step = maxOf(1, (maxOf(image.width, image.height) + size - 1) / size)
        val width = image.width / step.coerceAtMost(image.width)
        val height = image.height / step.coerceAtMost(image.height)
        val colors =
            IntArray(width * height) { pixel ->
                val at = 3 * ((pixel / width) * step * image.width + (pixel % width) * step)
                Color.rgb(level(image, at), level(image, at + 1), level(image, at + 2))
            }
        return Bitmap.createBitmap(colors, width, height, Bitmap.Config.ARGB_8888)
    }

    private fun level(
        image: RgbImage,
        at: Int,
    ): Int = image.bytes[at].toInt() and 0xFF

    private fun options(scale: Int) =
        BitmapFactory.Options().apply {
            inSampleSize = scale
            inScaled = false
            inPreferredConfig = Bitmap.Config.ARGB_8888 // in memory, not a hardware bitmap
            inPremultiplied = false // the colour below transparency counts
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.O) {
                inPreferredColorSpace = ColorSpace.get(ColorSpace.Named.SRGB)
            }
        }

    /** The least power of two that lets the photo fit; `BitmapFactory` knows no others. */
    private fun scaleFor(pixels: Long): Int {
        val runtime = Runtime.getRuntime()
        val free = runtime.maxMemory() - (runtime.totalMemory() - runtime.freeMemory())
        var scale = 1
        while (pixels / (scale.toLong() * scale) * BYTES_A_PIXEL > free * SHARE) scale *= 2
        return scale
    }

    private fun orientation(file: File): Int {
        val found =
            ExifInterface(file.path).getAttributeInt(
                ExifInterface.TAG_ORIENTATION,
                ExifInterface.ORIENTATION_NORMAL,
            )
        // 0 and what is not 1 to 8 mean "unknown", which Pillow leaves as it is stored
        return if (found in 1..RgbImage.LAST_ORIENTATION) found else ExifInterface.ORIENTATION_NORMAL
    }

    private fun unreadable(reason: String) = Problem(R.string.unreadable_photo, reason)
}
