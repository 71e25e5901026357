package org.edgedeit.demo

import android.content.Context

/** A run that a screen starts, follows and stops. Outlives rotations; its fields belong to the main thread. */
abstract class Work(
    protected val context: Context,
) {
    var running = false
        private set
    var total = 0
        protected set
    var finished = 0
        protected set
    var problem: String? = null
        private set
    var onChange: () -> Unit = {}

    @Volatile
    protected var stopped = false
        private set

    fun stop() {
        stopped = true
    }

    /** Does `work` in the background, the former run's progress forgotten; `done` takes its result. */
    protected fun <T> begin(
        work: () -> T,
        done: (T?) -> Unit,
    ) {
        total = 0
        finished = 0
        problem = null
        running = true
        stopped = false
        onChange()
        Background.run(context, work) { result, problem ->
            done(result)
            this.problem = problem
            running = false
            onChange()
        }
    }
}
