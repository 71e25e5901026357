package org.edgedeit.core

import kotlin.math.abs

/** Integers up to this size are exact in a double. */
private const val LARGEST_EXACT = 9007199254740992.0 // 2^53

/**
 * One value of a JSON text together with where it stands, so that errors can say so.
 *
 * `path` reads like `deit.json: preprocessing.mean[1]`.
 */
class Json private constructor(
    private val value: Any?,
    private val path: String,
) {
    /** Whether this is text. */
    val isText: Boolean get() = value is String

    /** Whether this is JSON's null. */
    val isNull: Boolean get() = value == null

    /** The names of an object's members. */
    val names: Set<String> get() = members().keys.mapTo(LinkedHashSet()) { it as String }

    /** Whether an object has a member of this name. */
    operator fun contains(name: String): Boolean = members().containsKey(name)

    /** An object's member; missing is an error. */
    operator fun get(name: String): Json {
        val members = members()
        if (!members.containsKey(name)) throw EdgeDeitException("$path has no \"$name\"")
        return Json(members[name], join(name))
    }

    /** The items of an array. */
    fun items(): List<Json> {
        val items = value as? List<*> ?: wrong("a list")
        return items.mapIndexed { index, item -> Json(item, "$path[$index]") }
    }

    fun string(): String = value as? String ?: wrong("text")

    fun double(): Double = value as? Double ?: wrong("a number")

    /** A whole number from `least` up to what an Int holds. */
    fun int(least: Int = Int.MIN_VALUE): Int {
        val number = double()
        if (number != Math.rint(number) || number < least || number > Int.MAX_VALUE) {
            wrong(if (least == Int.MIN_VALUE) "a whole number" else "a whole number, $least up")
        }
        return number.toInt()
    }

    /** A whole number that is not negative, up to 2^53. */
    fun long(): Long {
        val number = double()
        if (number != Math.rint(number) || number < 0 || number > LARGEST_EXACT) wrong("a size")
        return number.toLong()
    }

    /** Numbers; a folder's answers have a million, so a place is only written down for one that is none. */
    fun doubles(): DoubleArray {
        val items = value as? List<*> ?: wrong("a list")
        return DoubleArray(items.size) { items[it] as? Double ?: Json(items[it], "$path[$it]").double() }
    }

    fun ints(): IntArray {
        val items = items()
        return IntArray(items.size) { items[it].int() }
    }

    /** Says that this value is not what it must be. */
    fun wrong(expected: String): Nothing {
        val found = write(value).replace(Regex("\\s+"), " ")
        val short = if (found.length > SHOWN) found.take(SHOWN) + "..." else found
        throw EdgeDeitException("$path is $short; it must be $expected")
    }

    private fun members(): Map<*, *> = value as? Map<*, *> ?: wrong("an object")

    private fun join(name: String) = if (path.endsWith(":")) "$path $name" else "$path.$name"

    companion object {
        private const val SHOWN = 60

        /**
         * Reads a whole text; `name` stands in front of every error.
         *
         * @throws EdgeDeitException where it is not strict JSON.
         */
        fun parse(
            text: String,
            name: String,
        ): Json =
            try {
                Json(JsonReader(text).read(), "$name:")
            } catch (error: EdgeDeitException) {
                throw EdgeDeitException("$name is ${error.message}", error)
            }

        /**
         * Maps, lists, strings, numbers, booleans and null as JSON, two spaces a level.
         *
         * @throws EdgeDeitException for a number that is not finite.
         */
        fun write(value: Any?): String = StringBuilder().also { append(it, value, "\n") }.toString()

        private fun append(
            out: StringBuilder,
            value: Any?,
            line: String,
        ) {
            when (value) {
                null, is Boolean -> {
                    out.append(value)
                }

                is String -> {
                    quote(out, value)
                }

                is Number -> {
                    out.append(decimal(value))
                }

                is Map<*, *> -> {
                    block(out, value.entries, "{}", line) { (name, member) ->
                        quote(out, name as String)
                        out.append(": ")
                        append(out, member, "$line  ")
                    }
                }

                is List<*> -> {
                    block(out, value, "[]", line) { append(out, it, "$line  ") }
                }

                else -> {
                    throw IllegalArgumentException("${value.javaClass} has no JSON form")
                }
            }
        }

        private fun <T> block(
            out: StringBuilder,
            items: Collection<T>,
            brackets: String,
            line: String,
            each: (T) -> Unit,
        ) {
            out.append(brackets[0])
            for ((index, item) in items.withIndex()) {
                if (index > 0) out.append(',')
                out.append("$line  ")
                each(item)
            }
            if (items.isNotEmpty()) out.append(line)
            out.append(brackets[1])
        }

        private fun decimal(number: Number): String {
            val double = number.toDouble()
            if (double.isNaN() || double.isInfinite()) {
                throw EdgeDeitException("$double cannot be written as JSON")
            }
            val whole = double == Math.rint(double) && abs(double) < LARGEST_EXACT
            return if (whole) double.toLong().toString() else number.toString()
        }

        private fun quote(
            out: StringBuilder,
            text: String,
        ) {
            out.append('"')
            for (char in text) {
                when {
                    char == '"' || char == '\\' -> out.append('\\').append(char)
                    char == '\n' -> out.append("\\n")
                    char < ' ' -> out.append("\\u%04x".format(char.code))
                    else -> out.append(char)
                }
            }
            out.append('"')
        }
    }
}
