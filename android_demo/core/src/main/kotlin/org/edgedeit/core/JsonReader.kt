package org.edgedeit.core

/** Deepest nesting that is read; the project's own files need five levels. */
private const val MAX_DEPTH = 64

/**
 * Reads one strict JSON text (RFC 8259) into maps, lists, strings, doubles, booleans and null.
 *
 * Refused, because each hides a mistake: duplicate keys, NaN, infinities and numbers beyond a
 * double, anything after the value, raw control characters in strings.
 */
internal class JsonReader(
    private val text: String,
) {
    private var at = 0

    /** @throws EdgeDeitException with the character's position, where the text is not JSON. */
    fun read(): Any? {
        val value = value(0)
        skipSpace()
        if (at != text.length) fail("something follows the value")
        return value
    }

    private fun value(depth: Int): Any? {
        if (depth > MAX_DEPTH) fail("more than $MAX_DEPTH levels")
        skipSpace()
        return when (peek()) {
            '{' -> objectAt(depth)
            '[' -> arrayAt(depth)
            '"' -> string()
            't' -> word("true", true)
            'f' -> word("false", false)
            'n' -> word("null", null)
            else -> number()
        }
    }

    private fun objectAt(depth: Int): Map<String, Any?> {
        val members = LinkedHashMap<String, Any?>()
        at++
        if (closes('}')) return members
        do {
            skipSpace()
            if (peek() != '"') fail("a name in quotes must stand here")
            val name = string()
            skipSpace()
            expect(':')
            if (members.containsKey(name)) fail("\"$name\" occurs twice")
            members[name] = value(depth + 1)
        } while (continues('}'))
        return members
    }

    private fun arrayAt(depth: Int): List<Any?> {
        val items = ArrayList<Any?>()
        at++
        if (closes(']')) return items
        do {
            items.add(value(depth + 1))
        } while (continues(']'))
        return items
    }

    private fun closes(end: Char): Boolean {
        skipSpace()
        if (peek() != end) return false
        at++
        return true
    }

    private fun continues(end: Char): Boolean {
        if (closes(end)) return false
        expect(',')
        return true
    }

    private fun string(): String {
        val out = StringBuilder()
        at++
        while (true) {
            when (val char = peek()) {
                '"' -> {
                    at++
                    return out.toString()
                }

                '\\' -> {
                    out.append(escape())
                }

                else -> {
                    if (char < ' ') fail("a control character in a string must be escaped")
                    out.append(char)
                    at++
                }
            }
        }
    }

    private fun escape(): Char {
        at++
        val char = peek()
        at++
        return when (char) {
            '"', '\\', '/' -> char
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> unicode()
            else -> fail("\\$char is no escape")
        }
    }

    private fun unicode(): Char {
        val digits = text.substring(at, minOf(at + 4, text.length))
        if (!digits.matches(HEX)) fail("\\u needs four hexadecimal digits")
        at += 4
        return digits.toInt(16).toChar()
    }

    private fun number(): Double {
        val start = at
        while (at < text.length && text[at] in "+-.0123456789eE") at++
        val token = text.substring(start, at)
        if (!token.matches(NUMBER)) fail("no JSON value")
        val number = token.toDouble()
        if (number.isInfinite()) fail("$token is beyond a double")
        return number
    }

    private fun <T> word(
        word: String,
        value: T,
    ): T {
        if (!text.startsWith(word, at)) fail("no JSON value")
        at += word.length
        return value
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the text ends too early")

    private fun expect(char: Char) {
        if (peek() != char) fail("'$char' must stand here")
        at++
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun fail(reason: String): Nothing =
        throw EdgeDeitException("not JSON, at character ${minOf(at, text.length)}: $reason")

    private companion object {
        val HEX = Regex("[0-9a-fA-F]{4}")
        val NUMBER = Regex("-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][+-]?[0-9]+)?")
    }
}
