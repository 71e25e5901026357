package org.edgedeit.demo.engine

import com.google.ai.edge.litert.LiteRtException
import org.edgedeit.core.EdgeDeitException

/**
 * Calls a runtime and turns what it throws into something that the user is shown.
 *
 * Both throw unchecked exceptions of several kinds for files and runs that they refuse, those of native code among
 * them; without this each would end the app.
 */
internal fun <T> guarded(
    runtime: String,
    call: () -> T,
): T =
    try {
        call()
    } catch (error: LiteRtException) {
        throw EdgeDeitException("$runtime: ${said(error)}", error)
    } catch (error: RuntimeException) {
        throw EdgeDeitException("$runtime: ${said(error)}", error)
    }

/** Closes what was made so far where the next step fails. */
internal fun <T> closingOnFailure(
    close: () -> Unit,
    next: () -> T,
): T {
    var done = false
    try {
        return next().also { done = true }
    } finally {
        if (!done) close()
    }
}

private fun said(error: Exception): String = error.message ?: error.javaClass.simpleName
