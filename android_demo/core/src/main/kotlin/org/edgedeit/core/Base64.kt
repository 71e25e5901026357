package org.edgedeit.core

private const val ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

/**
 * Standard base64 with padding to bytes; `java.util.Base64` needs Android 8, this app Android 7.
 *
 * @throws EdgeDeitException for other characters or a length that is no multiple of four.
 */
internal fun decodeBase64(text: String): ByteArray {
    val data = text.trimEnd('=')
    val padding = text.length - data.length
    if (text.length % 4 != 0 || padding > 2) throw EdgeDeitException("base64 is cut short")
    val out = ByteArray(data.length * 6 / 8)
    var bits = 0
    var held = 0
    var to = 0
    for (char in data) {
        val value = ALPHABET.indexOf(char)
        if (value < 0) throw EdgeDeitException("'$char' is no base64 character")
        bits = (bits shl 6) or value
        held += 6
        if (held >= 8) {
            held -= 8
            out[to++] = (bits shr held).toByte()
        }
    }
    return out
}
