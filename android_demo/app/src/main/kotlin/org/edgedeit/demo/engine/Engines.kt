package org.edgedeit.demo.engine

import android.content.Context
import android.os.Build
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.Engine
import org.edgedeit.core.EngineSlot
import org.edgedeit.core.Placement
import org.edgedeit.core.checkPlacement
import org.edgedeit.demo.BundleAssets
import org.edgedeit.demo.Problem
import org.edgedeit.demo.R

/** Which runtime runs which target, and the process's one loaded model. Only the background thread uses it. */
object Engines {
    /**
     * Holds at most one loaded model, whichever screen asked for it.
     *
     * ExecuTorch's threads belong to the process: loading a second model with another number of them ends the
     * threads that the first one runs on.
     */
    val slot = EngineSlot()

    /** The runtime's name in the user's language. */
    fun name(target: String): Int =
        if (target ==
            "executorch"
        ) {
            R.string.engine_executorch
        } else {
            R.string.engine_litert
        }

    /** The loaded model; where another one is loaded, that is closed first. */
    fun open(
        context: Context,
        artefact: BundledArtefact,
        placement: Placement,
    ): Engine {
        val load = prepare(context, artefact, placement)
        return slot.get(Pair(artefact.file, placement), load)
    }

    /**
     * Checks an artefact's sha256, and returns what loads it.
     *
     * What is returned throws [Problem] for a runtime that is not in this app or does not run on this phone: its
     * Java classes or its native library are missing.
     *
     * @throws Problem for a damaged file.
     * @throws org.edgedeit.core.EdgeDeitException for a processor that the file cannot run on.
     */
    fun prepare(
        context: Context,
        artefact: BundledArtefact,
        placement: Placement,
    ): () -> Engine {
        checkPlacement(artefact.manifest, placement)
        val assets = BundleAssets(context)
        val manifest = artefact.manifest
        if (manifest.target == "executorch") {
            val file = assets.extract(artefact)
            return {
                load(context, manifest.target) {
                    ExecuTorchEngine(file, manifest.inputShape, checkNotNull(placement.threads))
                }
            }
        }
        assets.verify(artefact)
        return {
            load(context, manifest.target) {
                LiteRtEngine(context.assets, assets.path(artefact.file), placement)
            }
        }
    }

    private fun load(
        context: Context,
        target: String,
        create: () -> Engine,
    ): Engine =
        try {
            create()
        } catch (error: LinkageError) {
            // NoClassDefFoundError, UnsatisfiedLinkError and their kin
            throw Problem(
                R.string.no_runtime,
                context.getString(name(target)),
                error.javaClass.simpleName,
                Build.SUPPORTED_ABIS.first(),
                cause = error,
            )
        }
}
