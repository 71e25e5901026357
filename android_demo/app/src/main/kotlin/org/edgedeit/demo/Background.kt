package org.edgedeit.demo

import android.content.Context
import android.os.Handler
import android.os.Looper
import org.edgedeit.core.EdgeDeitException
import java.io.IOException
import java.util.concurrent.Executors

/**
 * The one thread for everything slow, so that two models never run, or are measured, at once.
 *
 * What is posted to [main] runs on the main thread.
 */
object Background {
    private val worker = Executors.newSingleThreadExecutor { Thread(it, "edge-deit") }
    private val handler = Handler(Looper.getMainLooper())

    fun main(action: () -> Unit) {
        handler.post(action)
    }

    fun run(action: () -> Unit) {
        worker.execute(action)
    }

    /**
     * Does `work` on the thread and hands its result, or the text of what went wrong, to `done` on
     * the main thread. Only what a user can do something about is caught; a bug still crashes.
     */
    fun <T> run(
        context: Context,
        work: () -> T,
        done: (result: T?, problem: String?) -> Unit,
    ) {
        run {
            val outcome = attempt(context, work)
            main { done(outcome.first, outcome.second) }
        }
    }

    /** The result of `work`, or the text of what went wrong. */
    fun <T> attempt(
        context: Context,
        work: () -> T,
    ): Pair<T?, String?> =
        try {
            Pair(work(), null)
        } catch (problem: Problem) {
            Pair(null, problem.text(context))
        } catch (error: EdgeDeitException) {
            Pair(null, error.message)
        } catch (error: IOException) {
            Pair(null, error.message ?: error.javaClass.simpleName)
        } catch (_: OutOfMemoryError) {
            Pair(null, context.getString(R.string.out_of_memory))
        }
}
