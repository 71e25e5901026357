package org.edgedeit.demo

import android.graphics.Bitmap
import android.graphics.BitmapFactory
import android.graphics.Color
import android.graphics.ColorSpace
import android.media.ExifInterface
import android.os.Build
import org.edgedeit.core.RgbImage
import org.edgedeit.core.photoScale
import java.io.File

/** How large a photo is, upright and as it is stored. `scale` is 1, or 2, 4, ... when it was read smaller. */
class PhotoSize(
    val width: Int,
    val height: Int,
    val scale: Int,
    val storedWidth: Int,
    val storedHeight: Int,
)

/** A photo as it is classified. */
class Photo(
    val image: RgbImage,
    val size: PhotoSize,
)

/**
 * Reads photos as edge_deit.data.preprocess.load_image does: upright, 8-bit RGB as stored, transparency dropped.
 *
 * A photo is read at full size as long as this phone's heap can hold it, as every other size changes its pixels.
 * One that is too large is read at a half, a quarter, ... of its size and says so in [PhotoSize.scale].
 */
object PhotoReader {
    private const val BYTES_A_PIXEL = 3 // our own copy; a bitmap's pixels lie outside the heap

    /** @throws Problem for a file that is no photo. */
    fun read(file: File): Photo {
        val bounds = BitmapFactory.Options().apply { inJustDecodeBounds = true }
        BitmapFactory.decodeFile(file.path, bounds)
        if (bounds.outWidth < 1) throw unreadable("${file.length()} bytes of no known format")
        val pixels = bounds.outWidth.toLong() * bounds.outHeight
        val options = options(photoScale(pixels, Runtime.getRuntime().maxMemory(), BYTES_A_PIXEL))
        val bitmap =
            BitmapFactory.decodeFile(file.path, options) ?: throw unreadable(bounds.outMimeType.orEmpty())
        try {
            // no conversion: the bitmap's values are read as they are stored, whichever colours they mean
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.Q) {
                bitmap.setColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
            }
            val image =
                RgbImage.upright(bitmap.width, bitmap.height, orientation(file)) { y, row ->
                    bitmap.getPixels(row, 0, bitmap.width, 0, y, bitmap.width, 1)
                }
            val scale = options.inSampleSize
            return Photo(
                image,
                PhotoSize(image.width, image.height, scale, bounds.outWidth, bounds.outHeight),
            )
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
