package org.edgedeit.demo

import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView

/** Shows whether this phone computes what the golden cases say, the same check as the unit tests'. */
class SelfTestActivity : WorkActivity<SelfTestModel>() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_work)
        model = lastNonConfigurationInstance as? SelfTestModel ?: SelfTestModel(applicationContext)
        findViewById<TextView>(R.id.heading).setText(R.string.self_test)
        findViewById<TextView>(R.id.explanation).setText(R.string.self_test_text)
        findViewById<View>(
            R.id.start,
        ).setOnClickListener { if (model.running) model.stop() else model.start() }
        model.onChange = ::render
        render()
    }

    private fun render() {
        findViewById<Button>(R.id.start).setText(if (model.running) R.string.stop else R.string.start)
        val busy = findViewById<ProgressBar>(R.id.busy)
        busy.visibility = if (model.running) View.VISIBLE else View.INVISIBLE
        busy.max = model.total
        busy.progress = model.finished
        val parts = listOf(message()) + model.models
        findViewById<TextView>(R.id.message).text = parts.filter { it.isNotEmpty() }.joinToString("\n\n")
    }

    private fun message(): String {
        val done = model.finished
        val total = model.total
        val failed = model.failures
        return when {
            model.problem != null -> {
                model.problem.orEmpty()
            }

            model.running -> {
                getString(R.string.self_test_progress, done, total)
            }

            total == 0 -> {
                ""
            }

            failed.isNotEmpty() -> {
                val lines = failed.map { getString(R.string.case_failed, it.name, it.failure) }
                getString(R.string.self_test_failed, failed.size, done) + "\n\n" +
                    lines.joinToString("\n\n")
            }

            done < total -> {
                getString(R.string.self_test_stopped, done, total)
            }

            model.differs -> {
                getString(R.string.models_differ)
            }

            else -> {
                getString(R.string.self_test_passed, total)
            }
        }
    }
}
