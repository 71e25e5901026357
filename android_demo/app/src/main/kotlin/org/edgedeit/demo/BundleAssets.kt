package org.edgedeit.demo

import android.content.Context
import org.edgedeit.core.Bundle
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.sha256
import java.io.File
import java.io.FileNotFoundException

/** The folder that `python -m edge_deit.bundle` wrote into the app's assets. */
class BundleAssets(
    private val context: Context,
) {
    /** The bundle, or null when the app was built without one. */
    fun load(): Bundle? {
        try {
            context.assets.open(path(Bundle.INDEX)).close()
        } catch (_: FileNotFoundException) {
            return null
        }
        return Bundle.parse { name ->
            context.assets.open(path(name)).use { it.readBytes().toString(Charsets.UTF_8) }
        }
    }

    /** A file's name as the asset manager takes it. */
    fun path(name: String): String = "$FOLDER/$name"

    /**
     * Checks that an artefact is the one its manifest describes, once in the app's run: assets do not change.
     *
     * @throws Problem when its sha256 differs.
     */
    fun verify(artefact: BundledArtefact) {
        if (artefact.manifest.sha256 in verified) return
        context.assets.open(path(artefact.file)).use { check(artefact, sha256(it)) }
        verified.add(artefact.manifest.sha256)
    }

    /**
     * Copies an artefact to the app's own files, for a runtime that loads from a path only.
     *
     * The copy is named by its sha256 and made once; older copies are removed.
     *
     * @throws Problem when its sha256 differs.
     */
    fun extract(artefact: BundledArtefact): File {
        val folder = File(context.filesDir, FOLDER).apply { mkdirs() }
        val target = File(folder, "${artefact.manifest.sha256}-${artefact.file}")
        if (target.length() == artefact.manifest.sizeBytes) return target
        val partial = File(folder, "${target.name}.part")
        try {
            context.assets.open(path(artefact.file)).use { from ->
                partial.outputStream().use { to -> check(artefact, sha256(from, to)) }
            }
            if (!partial.renameTo(target)) throw FileNotFoundException("${target.path} cannot be written")
        } finally {
            partial.delete()
        }
        folder
            .listFiles { file -> file.name.endsWith("-${artefact.file}") && file != target }
            .orEmpty()
            .forEach { it.delete() }
        return target
    }

    private fun check(
        artefact: BundledArtefact,
        sha256: String,
    ) {
        if (sha256 != artefact.manifest.sha256) throw Problem(R.string.damaged, artefact.file)
    }

    private companion object {
        const val FOLDER = "edge_deit"
        private val verified = HashSet<String>() // of the background thread
    }
}
