package org.edgedeit.demo

import android.app.Activity
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.os.Bundle
import android.view.View
import android.view.WindowManager
import android.widget.Button
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TableLayout
import android.widget.TextView
import android.widget.Toast
import org.edgedeit.core.BenchmarkChoice
import org.edgedeit.core.Measurement
import org.edgedeit.core.Protocol
import org.edgedeit.core.benchmarkThreads
import org.edgedeit.core.percentile

/** Measures all bundled models and shares the figures as a device report. */
class BenchmarkActivity : Activity() {
    private lateinit var model: BenchmarkModel

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_work)
        model = BenchmarkModel.of(this)
        findViewById<TextView>(R.id.heading).setText(R.string.benchmark)
        findViewById<TextView>(R.id.explanation).text = explanation()
        findViewById<View>(
            R.id.start,
        ).setOnClickListener { if (model.running) model.stop() else model.start() }
        findViewById<View>(R.id.share).setOnClickListener { share() }
        fillChoice()
        model.onChange = ::render
        render()
    }

    private fun fillChoice() {
        val placements = Placements.all()
        val names =
            listOf(getString(R.string.measure_everything)) + placements.map { Placements.text(this, it) }
        val kept = (model.choice as? BenchmarkChoice.Only)?.placement
        val spinner = findViewById<Spinner>(R.id.choice)
        Choices.fill(spinner, names, placements.indexOf(kept) + 1) { index ->
            model.choice =
                placements.getOrNull(index - 1)?.let(BenchmarkChoice::Only) ?: BenchmarkChoice.Everything
        }
        findViewById<View>(R.id.choice_label).visibility = View.VISIBLE
        spinner.visibility = View.VISIBLE
    }

    private fun explanation(): String {
        val counts = benchmarkThreads(BenchmarkModel.CORES).joinToString()
        val text = getString(R.string.benchmark_text, Protocol.RUNS, Protocol.WARM_UP, counts)
        return if (BuildConfig.DEBUG) text + "\n\n" + getString(R.string.debug_build) else text
    }

    override fun onStop() {
        if (model.running && !isChangingConfigurations) model.leftForeground = true
        super.onStop()
    }

    override fun onDestroy() {
        model.onChange = {}
        if (!isChangingConfigurations) model.stop()
        super.onDestroy()
    }

    private fun render() {
        findViewById<Button>(R.id.start).setText(if (model.running) R.string.stop else R.string.start)
        findViewById<View>(R.id.choice).isEnabled = !model.running
        keepScreenOn(model.running) // a dimmed phone clocks down
        val busy = findViewById<ProgressBar>(R.id.busy)
        busy.visibility = if (model.running) View.VISIBLE else View.INVISIBLE
        busy.max = model.total
        busy.progress = model.rows.size
        val problems = model.rows.mapNotNull { row -> row.problem?.let { "${name(row)}: $it" } }
        findViewById<TextView>(R.id.message).text =
            model.current?.let { getString(R.string.measuring, it) }
                ?: (listOfNotNull(model.problem) + problems).joinToString("\n\n")
        findViewById<View>(R.id.share).visibility = if (model.shareable) View.VISIBLE else View.GONE
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
                    listOf(getString(R.string.failed_row), "", "", "")
                } else {
                    listOf(
                        percentileOf(measured.timings.latencyMs, 0.5),
                        percentileOf(measured.timings.latencyMs, 0.9),
                        getString(R.string.milliseconds, measured.timings.loadMs),
                        agreement(measured),
                    )
                }
            addRow(table, listOf(name(row)) + figures)
        }
    }

    private fun name(row: BenchmarkRow): String = row.file + ", " + Placements.text(this, row.placement)

    private fun agreement(measured: Measurement): String =
        measured.check?.let { getString(R.string.self_test_progress, it.sameTop, it.images) }.orEmpty()

    private fun keepScreenOn(on: Boolean) {
        val flag = WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON
        if (on) window.addFlags(flag) else window.clearFlags(flag)
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
        val cells = listOf(R.id.name, R.id.p50, R.id.p90, R.id.load, R.id.same)
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
            listOf(
                R.string.column_model,
                R.string.column_p50,
                R.string.column_p90,
                R.string.column_load,
                R.string.column_same,
            )
    }
}
