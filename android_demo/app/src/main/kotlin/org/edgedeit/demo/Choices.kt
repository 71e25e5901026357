package org.edgedeit.demo

import android.content.Context
import android.os.BaseBundle
import android.view.View
import android.widget.AdapterView
import android.widget.ArrayAdapter
import android.widget.Spinner
import org.edgedeit.core.Placement
import org.edgedeit.core.Processor
import org.edgedeit.core.benchmarkThreads

/** Lists that the user chooses from. */
object Choices {
    fun fill(
        spinner: Spinner,
        names: List<String>,
        selected: Int,
        chosen: (Int) -> Unit,
    ) {
        val adapter = ArrayAdapter(spinner.context, android.R.layout.simple_spinner_item, names)
        adapter.setDropDownViewResource(android.R.layout.simple_spinner_dropdown_item)
        spinner.adapter = adapter
        spinner.setSelection(selected)
        spinner.onItemSelectedListener =
            object : AdapterView.OnItemSelectedListener {
                override fun onItemSelected(
                    parent: AdapterView<*>?,
                    view: View?,
                    position: Int,
                    id: Long,
                ) = chosen(position)

                override fun onNothingSelected(parent: AdapterView<*>?) = Unit
            }
    }
}

/** Where a model may be asked to run, as the screens show and hand it on. */
object Placements {
    private const val PROCESSOR = "processor"
    private const val THREADS = "threads"

    /** The CPU with the numbers of threads that are measured, and all cores; the GPU; the NPU. */
    fun all(): List<Placement> {
        val cores = Runtime.getRuntime().availableProcessors()
        val counts =
            (
                benchmarkThreads(
                    cores,
                ) + MainModel.defaultPlacement().threads + cores
            ).filterNotNull()
        return counts.distinct().sorted().map(Placement::cpu) + listOf(Placement.GPU, Placement.NPU)
    }

    fun text(
        context: Context,
        placement: Placement,
    ): String {
        val threads = placement.threads ?: return placement.processor.name
        return context.resources.getQuantityString(R.plurals.cpu_threads, threads, threads)
    }

    fun write(
        placement: Placement,
        out: BaseBundle,
    ) {
        out.putString(PROCESSOR, placement.processor.name)
        out.putInt(THREADS, placement.threads ?: 0)
    }

    /** Null where there is none. */
    fun read(state: BaseBundle): Placement? {
        val processor = Processor.entries.find { it.name == state.getString(PROCESSOR) } ?: return null
        val threads = state.getInt(THREADS)
        return when (processor) {
            Processor.CPU -> if (threads > 0) Placement.cpu(threads) else null
            Processor.GPU -> Placement.GPU
            Processor.NPU -> Placement.NPU
        }
    }
}
