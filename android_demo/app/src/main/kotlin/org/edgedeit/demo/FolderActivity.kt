package org.edgedeit.demo

import android.content.ActivityNotFoundException
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TextView
import android.widget.Toast
import org.edgedeit.core.FolderResult

/** Runs over a folder of photos, or the golden ones, and shows how far the answers are from Python's. */
class FolderActivity : WorkActivity<FolderModel>() {
    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_work)
        val choice = intent.extras ?: Bundle.EMPTY
        val placement = Placements.read(choice) ?: MainModel.defaultPlacement()
        model = lastNonConfigurationInstance as? FolderModel
            ?: FolderModel(applicationContext, choice.getInt(MainActivity.SELECTED), placement)
        findViewById<TextView>(R.id.heading).setText(R.string.folder)
        val text = getString(R.string.folder_text, Placements.text(this, placement))
        findViewById<TextView>(R.id.explanation).text = text
        findViewById<View>(R.id.start).setOnClickListener { if (model.running) model.stop() else choose() }
        val golden = findViewById<Button>(R.id.second)
        golden.setText(R.string.folder_golden)
        golden.visibility = View.VISIBLE
        golden.setOnClickListener { model.start(null) }
        model.onChange = ::render
        render()
    }

    private fun choose() {
        try {
            startActivityForResult(Intent(Intent.ACTION_OPEN_DOCUMENT_TREE), CHOOSE)
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(this, R.string.no_picker, Toast.LENGTH_LONG).show()
        }
    }

    override fun onActivityResult(
        request: Int,
        result: Int,
        data: Intent?,
    ) {
        super.onActivityResult(request, result, data)
        if (request == CHOOSE && result == RESULT_OK) data?.data?.let(model::start)
    }

    private fun render() {
        findViewById<Button>(
            R.id.start,
        ).setText(if (model.running) R.string.stop else R.string.folder_choose)
        findViewById<View>(R.id.second).isEnabled = !model.running
        val busy = findViewById<ProgressBar>(R.id.busy)
        busy.visibility = if (model.running) View.VISIBLE else View.INVISIBLE
        busy.max = model.total
        busy.progress = model.finished
        val result = model.result
        findViewById<TextView>(R.id.message).text =
            when {
                model.problem != null -> model.problem
                model.running -> getString(R.string.self_test_progress, model.finished, model.total)
                result == null -> ""
                else -> text(result)
            }
    }

    private fun text(found: FolderResult): String {
        val snrDb = found.snrDb
        val head =
            if (snrDb == null) {
                getString(R.string.folder_nothing, found.photos)
            } else {
                val reference = found.reference.orEmpty()
                val same =
                    getString(
                        R.string.folder_same,
                        found.artefact,
                        found.sameTop,
                        found.compared,
                        reference,
                    )
                same + "\n" + getString(R.string.folder_snr, snrDb)
            }
        val worst =
            found.worst.map {
                getString(R.string.folder_row, it.name, it.snrDb, it.answer, it.expected)
            }
        val skipped = found.skipped.map { getString(R.string.case_failed, it.name, it.reason) }
        val parts = ArrayList<String>()
        parts.add(head)
        if (worst.isNotEmpty()) {
            parts.add(
                getString(R.string.folder_worst) + "\n" + worst.joinToString("\n"),
            )
        }
        if (skipped.isNotEmpty()) {
            val title = getString(R.string.folder_skipped, found.skippedCount)
            parts.add(title + "\n" + skipped.joinToString("\n"))
        }
        return parts.joinToString("\n\n")
    }

    private companion object {
        const val CHOOSE = 1
    }
}
