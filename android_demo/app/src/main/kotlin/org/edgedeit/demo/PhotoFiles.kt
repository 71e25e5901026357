package org.edgedeit.demo

import android.content.ContentResolver
import android.content.Context
import android.graphics.Bitmap
import android.net.Uri
import android.provider.DocumentsContract
import org.edgedeit.core.RgbImage
import org.edgedeit.core.sha256
import java.io.File
import java.io.FileNotFoundException

/** A file of a folder that the user lent, by its path in there. */
class FolderFile(
    val path: String,
    val uri: Uri,
    val isPhoto: Boolean,
)

/** Photos that other apps lend, as files that can be decoded. */
object PhotoFiles {
    /**
     * Copies what a provider lends, and returns its sha256.
     *
     * @throws Problem where the provider fails, whatever it throws.
     */
    fun copy(
        context: Context,
        uri: Uri,
        file: File,
    ): String =
        guarded {
            val source =
                context.contentResolver.openInputStream(uri) ?: throw FileNotFoundException("$uri")
            source.use { from -> file.outputStream().use { sha256(from, it) } }
        }

    /** Writes pixels so that reading them gives the same ones. */
    fun write(
        image: RgbImage,
        file: File,
    ) {
        val bitmap = PhotoReader.preview(image, maxOf(image.width, image.height))
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, LOSSLESS, it) }
        bitmap.recycle()
    }

    /**
     * All files below a folder that the user chose, sorted by path; names that begin with a dot are left out.
     *
     * @throws Problem where the provider fails, whatever it throws.
     */
    fun list(
        context: Context,
        tree: Uri,
    ): List<FolderFile> =
        guarded {
            val found = ArrayList<FolderFile>()
            val waiting = ArrayDeque(listOf(Pair(DocumentsContract.getTreeDocumentId(tree), "")))
            while (waiting.isNotEmpty()) {
                val (id, path) = waiting.removeFirst()
                for ((child, name, type) in children(context.contentResolver, tree, id)) {
                    if (type == DocumentsContract.Document.MIME_TYPE_DIR) {
                        waiting.add(Pair(child, "$path$name/"))
                    } else {
                        val uri = DocumentsContract.buildDocumentUriUsingTree(tree, child)
                        found.add(FolderFile(path + name, uri, type.startsWith("image/")))
                    }
                }
            }
            found.sortedBy { it.path }
        }

    /** Id, name and type of what lies in a folder. */
    private fun children(
        resolver: ContentResolver,
        tree: Uri,
        id: String,
    ): List<Triple<String, String, String>> {
        val folder = DocumentsContract.buildChildDocumentsUriUsingTree(tree, id)
        val rows = ArrayList<Triple<String, String, String>>()
        resolver.query(folder, COLUMNS, null, null, null)?.use { cursor ->
            while (cursor.moveToNext()) {
                val name = cursor.getString(1).orEmpty()
                val type = cursor.getString(2).orEmpty()
                if (!name.startsWith(".")) rows.add(Triple(cursor.getString(0), name, type))
            }
        }
        return rows
    }

    private fun <T> guarded(call: () -> T): T =
        try {
            call()
        } catch (error: RuntimeException) {
            // the app that lent the files took them back, or failed itself
            throw Problem(
                R.string.unreadable_photo,
                error.message ?: error.javaClass.simpleName,
                cause = error,
            )
        }

    private const val LOSSLESS = 100
    private val COLUMNS =
        arrayOf(
            DocumentsContract.Document.COLUMN_DOCUMENT_ID,
            DocumentsContract.Document.COLUMN_DISPLAY_NAME,
            DocumentsContract.Document.COLUMN_MIME_TYPE,
        )
}
