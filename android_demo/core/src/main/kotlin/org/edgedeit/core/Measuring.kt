package org.edgedeit.core

/**
 * How every app measures, so that the figures of two phones can be compared.
 *
 * edge_deit/report/device_records.py says what each figure is, and refuses reports of another protocol.
 */
object Protocol {
    const val PHOTO_WIDTH = 4032
    const val PHOTO_HEIGHT = 3024
    const val WARM_UP = 5
    const val RUNS = 100
    const val PREPROCESS_RUNS = 5
    private const val SEED = 1
    private const val BLOCK = 8

    /** The generated photo, of the size that a phone's camera takes. */
    fun photo() = RgbImage(PHOTO_WIDTH, PHOTO_HEIGHT, hashedPixels(PHOTO_WIDTH, PHOTO_HEIGHT, SEED, BLOCK))
}

/** Times of one file with one runner, in milliseconds, one sample a run. */
class Timings(
    val loadMs: Double,
    val loadWarmMs: Double,
    val firstRunMs: Double,
    val latencyMs: DoubleArray,
    val preprocessMs: DoubleArray,
)

/** The user stopped what was running. */
class StoppedException : Exception()

/**
 * Measures one file as [Protocol] says.
 *
 * `load` loads it, into a slot that is closed before; `now` is a clock in nanoseconds; `goOn` is asked before every
 * run.
 *
 * @throws StoppedException where `goOn` says no.
 * @throws EdgeDeitException where the runtime refuses the file, or it returns what cannot be ranked.
 */
fun measure(
    manifest: Manifest,
    photo: RgbImage,
    slot: EngineSlot,
    now: () -> Long,
    goOn: () -> Boolean,
    load: () -> Engine,
): Timings {
    val stopwatch = Stopwatch(now, goOn)
    val contract = manifest.contract
    val input = contract.input(photo, manifest.preprocessing)
    val preprocessMs =
        stopwatch.samples(Protocol.PREPROCESS_RUNS) { contract.input(photo, manifest.preprocessing) }
    slot.close()
    val loadMs = stopwatch.sample { slot.get(manifest.artefact, load) }
    slot.close()
    val loadWarmMs = stopwatch.sample { slot.get(manifest.artefact, load) }
    val engine = slot.get(manifest.artefact, load)
    val firstRunMs = stopwatch.sample { engine.run(input) }
    stopwatch.samples(Protocol.WARM_UP) { engine.run(input) }
    val latencyMs = stopwatch.samples(Protocol.RUNS) { engine.run(input) }
    rank(contract.logits(engine.run(input)), manifest.labels, 1)
    return Timings(loadMs, loadWarmMs, firstRunMs, latencyMs, preprocessMs)
}

private class Stopwatch(
    private val now: () -> Long,
    private val goOn: () -> Boolean,
) {
    fun sample(action: () -> Unit): Double {
        if (!goOn()) throw StoppedException()
        val started = now()
        action()
        return (now() - started) / NANOSECONDS
    }

    fun samples(
        runs: Int,
        action: () -> Unit,
    ) = DoubleArray(runs) { sample(action) }

    private companion object {
        const val NANOSECONDS = 1e6 // a millisecond
    }
}
