package org.edgedeit.core

import java.io.InputStream
import java.io.OutputStream
import java.security.MessageDigest

private const val BLOCK_BYTES = 1 shl 16

/** sha256 of some bytes, in lower-case hexadecimal. */
fun sha256(bytes: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(bytes))

/** sha256 of a stream, which is read to its end and, where `copy` is given, written there. */
fun sha256(
    stream: InputStream,
    copy: OutputStream? = null,
): String {
    val digest = MessageDigest.getInstance("SHA-256")
    val block = ByteArray(BLOCK_BYTES)
    while (true) {
        val count = stream.read(block)
        if (count < 0) return hex(digest.digest())
        digest.update(block, 0, count)
        copy?.write(block, 0, count)
    }
}

/** A tensor's values as little-endian bytes, four each. */
fun littleEndian(values: FloatArray): ByteArray {
    val bytes = ByteArray(4 * values.size)
    for ((index, value) in values.withIndex()) {
        val bits = value.toRawBits()
        for (byte in 0 until 4) bytes[4 * index + byte] = (bits shr (8 * byte)).toByte()
    }
    return bytes
}

/** The reverse of [littleEndian]. */
fun floats(bytes: ByteArray): FloatArray {
    if (bytes.size % 4 != 0) throw EdgeDeitException("${bytes.size} bytes are no float32 values")
    return FloatArray(bytes.size / 4) { index ->
        var bits = 0
        for (byte in 3 downTo 0) bits = (bits shl 8) or (bytes[4 * index + byte].toInt() and 0xFF)
        Float.fromBits(bits)
    }
}

private fun hex(bytes: ByteArray): String = bytes.joinToString("") { "%02x".format(it) }
