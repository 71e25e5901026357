package org.edgedeit.core

/**
 * The one place for a loaded model in a process: another one is loaded only after it was closed.
 *
 * Two at once would need the memory of both, and a runtime that shares its threads between models ends those of the
 * first when the second one asks for another number of them. It is used by one thread at a time.
 */
class EngineSlot {
    private var key: Any? = null
    private var engine: Engine? = null

    /** The model of this key as it is loaded; otherwise what `load` returns, after the former one was closed. */
    fun get(
        key: Any,
        load: () -> Engine,
    ): Engine {
        engine?.let { if (this.key == key) return it }
        close()
        return load().also {
            engine = it
            this.key = key
        }
    }

    fun close() {
        val former = engine
        engine = null
        key = null
        former?.close()
    }
}
