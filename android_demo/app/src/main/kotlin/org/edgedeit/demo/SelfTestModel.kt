package org.edgedeit.demo

import android.content.Context
import org.edgedeit.core.CaseResult
import org.edgedeit.core.selfTest

/** Runs the bundle's golden cases. Outlives rotations; its fields belong to the main thread. */
class SelfTestModel(
    private val context: Context,
) {
    var running = false
        private set
    var total = 0
        private set
    var finished = 0
        private set
    val failures = ArrayList<CaseResult>()
    var problem: String? = null
        private set
    var onChange: () -> Unit = {}

    @Volatile
    private var stopped = false

    fun start() {
        failures.clear()
        finished = 0
        total = 0
        problem = null
        running = true
        stopped = false
        onChange()
        Background.run(context, ::runAll) { _, problem ->
            this.problem = problem
            running = false
            onChange()
        }
    }

    fun stop() {
        stopped = true
    }

    private fun runAll() {
        val bundle = BundleAssets(context).load() ?: throw Problem(R.string.no_model_text)
        val cases = bundle.goldenCases()
        Background.main { total = cases.size }
        selfTest(bundle.goldenSpec, cases) { result ->
            Background.main {
                finished++
                if (result.failure != null) failures.add(result)
                onChange()
            }
            !stopped
        }
    }
}
