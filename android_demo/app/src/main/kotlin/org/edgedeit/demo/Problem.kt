package org.edgedeit.demo

import android.content.Context

/** Something that the user is told in their language: a text and what is filled in. */
class Problem(
    private val text: Int,
    vararg arguments: Any,
    cause: Throwable? = null,
) : Exception(cause) {
    private val arguments = arguments

    fun text(context: Context): String = context.getString(text, *arguments)
}
