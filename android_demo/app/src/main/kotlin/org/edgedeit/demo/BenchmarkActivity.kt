package org.edgedeit.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.TableLayout
import android.widget.TextView
import android.widget.Toast
import org.edgedeit.core.percentile

/** Measures all bundled models and shares the figures as a device report. */
class BenchmarkActivity : Activity() {
    private lateinit var model: BenchmarkModel

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_work)
        model = lastNonConfigurationInstance as? BenchmarkModel ?: BenchmarkModel(applicationContext)
        findViewById<TextView>(R.id.heading).setText(R.string.benchmark)
        val threads = resources.getQuantityString(R.plurals.thread_count, model.threads, model.threads)
        findViewById<TextView>(R.id.explanation).text =
            getString(R.string.benchmark_text, BenchmarkModel.RUNS, BenchmarkModel.WARM_UP, threads)
        findViewById<View>(
            R.id.start,
        ).setOnClickListener { if (model.running) model.stop() else model.start() }
        findViewById<View>(R.id.share).setOnClickListener { share() }
        model.onChange = ::render
        render()
    }

    override fun onRetainNonConfigurationInstance(): Any = model

    override fun onDestroy() {
        model.onChange = {}
        if (!isChangingConfigurations) model.stop()
        super.onDestroy()
    }

    private fun render() {
        findViewById<Button>(R.id.start).setText(if (model.running) R.string.stop else R.string.start)
        val busy = findViewById<ProgressBar>(R.id.busy)
        busy.visibility = if (model.running) View.VISIBLE else View.INVISIBLE
        busy.max = model.total
        busy.progress = model.rows.size
        val problems = model.rows.mapNotNull { row -> row.problem?.let { "${row.file}: $it" } }
        findViewById<TextView>(R.id.message).text =
            model.current?.let { getString(R.string.measuring, it) }
                ?: (listOfNotNull(model.problem) + problems).joinToString("\n\n")
        val done = !model.running && model.rows.any { it.measurement != null }
        findViewById<View>(R.id.share).visibility = if (done) View.VISIBLE else View.GONE
        fillTable()
    }

    private fun fillTable() {
        val table = findViewById<TableLayout>(R.id.table)
        table.removeAllViews()
        if (model.rows.isEmpty()) return
        addRow(table, HEADINGS.map { getString(it) })
        for (row in model.rows) {
            val measured = row.measurement
            val figures =
                if (measured == null) {
                    listOf(getString(R.string.failed_row), "", "")
                } else {
                    listOf(
                        percentileOf(measured.latencyMs, 0.5),
                        percentileOf(measured.latencyMs, 0.9),
                        getString(R.string.milliseconds, measured.loadMs),
                    )
                }
            addRow(table, listOf(row.file) + figures)
        }
    }

    private fun percentileOf(
        samples: DoubleArray,
        share: Double,
    ) = getString(R.string.milliseconds, percentile(samples, share))

    private fun addRow(
        table: TableLayout,
        texts: List<String>,
    ) {
        val row = layoutInflater.inflate(R.layout.row_benchmark, table, false)
        val cells = listOf(R.id.name, R.id.p50, R.id.p90, R.id.load)
        for ((cell, text) in cells.zip(texts)) row.findViewById<TextView>(cell).text = text
        table.addView(row)
    }

    private fun share() {
        val measurements = model.rows.mapNotNull { it.measurement }
        Background.run(applicationContext, { model.writeReport(measurements) }) { _, problem ->
            if (problem != null) {
                Toast.makeText(this, problem, Toast.LENGTH_LONG).show()
            } else {
                send()
            }
        }
    }

    private fun send() {
        val uri = SharedFilesProvider.uri(this, SharedFilesProvider.REPORT)
        val intent =
            Intent(Intent.ACTION_SEND)
                .setType("application/json")
                .putExtra(Intent.EXTRA_STREAM, uri)
                .addFlags(Intent.FLAG_GRANT_READ_URI_PERMISSION)
        intent.clipData = ClipData.newRawUri(null, uri) // what carries the grant through the chooser
        try {
            startActivity(Intent.createChooser(intent, getString(R.string.share_report)))
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(this, R.string.no_share, Toast.LENGTH_LONG).show()
        }
    }

    private companion object {
        val HEADINGS =
            listOf(R.string.column_model, R.string.column_p50, R.string.column_p90, R.string.column_load)
    }
}
