package org.edgedeit.core

/**
 * At which part of its size a photo is read: 1, or 2, 4, ... for a half, a quarter, as decoders have it.
 *
 * It depends on the photo and the phone alone, never on what else is in memory: the same photo must give the same
 * pixels each time.
 *
 * @param heapBytes the most that the app's heap may hold.
 * @param bytesAPixel what a pixel of the photo takes of that heap while it is read.
 */
fun photoScale(
    pixels: Long,
    heapBytes: Long,
    bytesAPixel: Int,
): Int {
    require(pixels > 0 && heapBytes > 0 && bytesAPixel > 0) { "$pixels pixels in $heapBytes bytes" }
    var scale = 1
    while (pixels / (scale.toLong() * scale) * bytesAPixel > heapBytes * SHARE) scale *= 2
    return scale
}

private const val SHARE = 0.6 // of the heap; the rest is for the app and the model's input
