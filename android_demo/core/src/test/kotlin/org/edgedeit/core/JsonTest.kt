package org.edgedeit.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class JsonTest {
    private fun refusal(action: () -> Any?): String =
        assertThrows(EdgeDeitException::class.java) { action() }.message.orEmpty()

    @Test
    fun `values come back as they were written`() {
        val text = """{"a": [1, -2.5e3, 0.1], "b": {"c": null, "d": true}, "e": "\u00e4\n\"\\\/"}"""
        val json = Json.parse(text, "file")
        assertEquals(listOf(1.0, -2500.0, 0.1), json["a"].doubles().toList())
        assertTrue(json["b"]["c"].isNull)
        assertEquals("ä\n\"\\/", json["e"].string())
        val value =
            mapOf(
                "text" to "ä\n\"\\\u0001",
                "list" to listOf(1, 2.5, null, false),
                "none" to emptyList<Int>(),
            )
        val again = Json.parse(Json.write(value), "again")
        assertEquals("ä\n\"\\\u0001", again["text"].string())
        assertEquals(2.5, again["list"].items()[1].double())
        assertEquals(0, again["none"].items().size)
        assertEquals("{\n  \"a\": [\n    1\n  ]\n}", Json.write(mapOf("a" to listOf(1.0))))
    }

    @Test
    fun `what is no strict JSON is refused`() {
        val bad =
            listOf(
                "",
                "{",
                "[1,]",
                "[1 2]",
                "{\"a\":1,}",
                "{\"a\":1,\"a\":2}",
                "01",
                "1.",
                ".5",
                "+1",
                "NaN",
                "Infinity",
                "1e999",
                "nul",
                "\"a",
                "\"\\x\"",
                "\"\\u12g4\"",
                "\"\t\"",
                "1 2",
                "{a:1}",
                "'a'",
                "[".repeat(100) + "]".repeat(100),
            )
        for (text in bad) {
            assertTrue(refusal { Json.parse(text, "file") }.startsWith("file is not JSON, at"), text)
        }
    }

    @Test
    fun `an error says where and what`() {
        val json = Json.parse("""{"a": {"b": [1, "x"]}}""", "m.json")
        assertEquals("m.json: a has no \"c\"", refusal { json["a"]["c"] })
        assertEquals(
            "m.json: a.b[1] is \"x\"; it must be a number",
            refusal { json["a"]["b"].items()[1].double() },
        )
        assertEquals(
            "m.json: a.b[0] is 1; it must be a whole number, 2 up",
            refusal { json["a"]["b"].items()[0].int(least = 2) },
        )
    }

    @Test
    fun `numbers that are not finite are never written`() {
        assertTrue(refusal { Json.write(mapOf("a" to Double.NaN)) }.startsWith("NaN cannot"))
    }
}
