package org.edgedeit.core

/** The one exception that a user is meant to read: what failed, the value, and the remedy. */
class EdgeDeitException(
    message: String,
    cause: Throwable? = null,
) : Exception(message, cause)
