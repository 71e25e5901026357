package org.edgedeit.demo

import android.content.Context
import android.net.Uri
import org.edgedeit.core.Bundle
import org.edgedeit.core.EdgeDeitException
import org.edgedeit.core.FolderPhoto
import org.edgedeit.core.FolderResult
import org.edgedeit.core.GoldenCases
import org.edgedeit.core.GoldenSpec
import org.edgedeit.core.PhotoAnswer
import org.edgedeit.core.Placement
import org.edgedeit.core.StoredPhoto
import org.edgedeit.core.goldenFolder
import org.edgedeit.core.runFolder
import org.edgedeit.demo.engine.Engines
import java.io.File

/** Runs one artefact over a folder and compares with Python's answers. */
class FolderModel(
    context: Context,
    private val selected: Int,
    private val placement: Placement,
) : Work(context) {
    var result: FolderResult? = null
        private set

    /** Runs over the folder that the user lent, which holds what `edge_deit.golden` wrote; null: the golden photos. */
    fun start(tree: Uri?) {
        if (running) return
        result = null
        begin({ runAll(tree) }) { result = it }
    }

    private fun runAll(tree: Uri?): FolderResult {
        val bundle = BundleAssets(context).load() ?: throw Problem(R.string.no_model_text)
        val artefact = bundle.artefacts[selected.coerceIn(bundle.artefacts.indices)]
        val (photos, answers) =
            if (tree == null) {
                goldenFolder(bundle.goldenSpec, bundle.goldenCases(), artefact.file)
            } else {
                folder(bundle, PhotoFiles.list(context, tree))
            }
        Background.main { total = photos.size }
        try {
            val engine = Engines.open(context, artefact, placement)
            return runFolder(photos, answers, artefact.manifest, engine::run) { done ->
                Background.main {
                    finished = done
                    onChange()
                }
                !stopped
            }
        } finally {
            Engines.slot.close()
        }
    }

    private fun folder(
        bundle: Bundle,
        files: List<FolderFile>,
    ): Pair<List<FolderPhoto>, List<PhotoAnswer>> {
        val photos = files.filter { it.isPhoto }.map { file -> FolderPhoto(file.path) { read(file.uri) } }
        if (photos.isEmpty()) throw Problem(R.string.folder_empty)
        val named = files.associateBy { it.path }
        val spec = named[Bundle.GOLDEN_SPEC] ?: throw Problem(R.string.folder_without_answers)
        val cases = named[Bundle.GOLDEN_CASES] ?: throw Problem(R.string.folder_without_answers)
        val rules = GoldenSpec.parse(text(spec), spec.path)
        val own = bundle.goldenSpec
        if (rules.labels != own.labels || !rules.preprocessing.sameAs(own.preprocessing)) {
            throw Problem(R.string.folder_of_another_model)
        }
        return Pair(photos, GoldenCases.parse(text(cases), cases.path).photos)
    }

    private fun text(file: FolderFile): String {
        val copy = File(context.cacheDir, "folder.json")
        try {
            PhotoFiles.copy(context, file.uri, copy)
            return copy.readText()
        } finally {
            copy.delete()
        }
    }

    /** What is wrong with one photo becomes its reason; the run goes on. */
    private fun read(uri: Uri): StoredPhoto {
        val copy = File(context.cacheDir, "folder-photo")
        val (found, problem) =
            try {
                Background.attempt(context) {
                    val sha256 = PhotoFiles.copy(context, uri, copy)
                    val photo = PhotoReader.read(copy)
                    val size = photo.size
                    if (size.scale > 1) {
                        throw Problem(R.string.scaled_down, size.storedWidth, size.storedHeight, size.scale)
                    }
                    StoredPhoto(sha256, photo.image)
                }
            } finally {
                copy.delete()
            }
        return found ?: throw EdgeDeitException(problem.orEmpty())
    }
}
