package org.edgedeit.demo.engine

import android.content.Context
import android.os.Build
import org.edgedeit.core.BundledArtefact
import org.edgedeit.demo.BundleAssets
import org.edgedeit.demo.Problem
import org.edgedeit.demo.R

/** Which runtime runs which target. */
object Engines {
    /** The runtime's name in the user's language. */
    fun name(target: String): Int =
        if (target ==
            "executorch"
        ) {
            R.string.engine_executorch
        } else {
            R.string.engine_litert
        }

    /**
     * Checks an artefact's sha256 and loads it.
     *
     * @throws Problem for a damaged file, or a runtime that is not in this app or does not run on
     * this phone: its Java classes or its native library are missing.
     */
    fun open(
        context: Context,
        artefact: BundledArtefact,
        threads: Int,
    ): Engine {
        val assets = BundleAssets(context)
        val target = artefact.manifest.target
        return try {
            if (target == "executorch") {
                ExecuTorchEngine(assets.extract(artefact), artefact.manifest.inputShape, threads)
            } else {
                assets.verify(artefact)
                LiteRtEngine(context.assets, assets.path(artefact.file), threads)
            }
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
}
