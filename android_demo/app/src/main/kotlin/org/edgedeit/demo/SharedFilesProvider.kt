package org.edgedeit.demo

import android.content.ContentProvider
import android.content.ContentValues
import android.content.Context
import android.database.Cursor
import android.database.MatrixCursor
import android.net.Uri
import android.os.ParcelFileDescriptor
import android.provider.OpenableColumns
import java.io.File
import java.io.FileNotFoundException

/**
 * Lends exactly two files to other apps, each only for the grant of one intent: the camera may
 * write its photo, and the app that the user shares with may read the device report.
 *
 * It does what AndroidX's FileProvider would; this app has no dependency but the two runtimes.
 */
class SharedFilesProvider : ContentProvider() {
    override fun onCreate(): Boolean = true

    override fun openFile(
        uri: Uri,
        mode: String,
    ): ParcelFileDescriptor = ParcelFileDescriptor.open(fileOf(uri), ParcelFileDescriptor.parseMode(mode))

    override fun getType(uri: Uri): String =
        if (uri.lastPathSegment == REPORT) "application/json" else "image/jpeg"

    override fun query(
        uri: Uri,
        projection: Array<String>?,
        selection: String?,
        selectionArgs: Array<String>?,
        sortOrder: String?,
    ): Cursor {
        val file = fileOf(uri)
        val columns = projection ?: arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        val row =
            columns.map { column ->
                when (column) {
                    OpenableColumns.DISPLAY_NAME -> file.name
                    OpenableColumns.SIZE -> file.length()
                    else -> null
                }
            }
        return MatrixCursor(columns, 1).apply { addRow(row) }
    }

    override fun insert(
        uri: Uri,
        values: ContentValues?,
    ): Uri? = throw UnsupportedOperationException("nothing can be added")

    override fun update(
        uri: Uri,
        values: ContentValues?,
        selection: String?,
        selectionArgs: Array<String>?,
    ): Int = throw UnsupportedOperationException("nothing can be changed")

    override fun delete(
        uri: Uri,
        selection: String?,
        selectionArgs: Array<String>?,
    ): Int = throw UnsupportedOperationException("nothing can be removed")

    private fun fileOf(uri: Uri): File {
        val name = uri.lastPathSegment
        if (name != CAMERA && name != REPORT) throw FileNotFoundException("$uri")
        return file(checkNotNull(context) { "a provider has a context once it was created" }, name)
    }

    companion object {
        /** The photo that the camera app writes. */
        const val CAMERA = "camera.jpg"

        /** The benchmark's device report. */
        const val REPORT = "edge-deit-device-report.json"

        fun file(
            context: Context,
            name: String,
        ): File = File(File(context.cacheDir, "shared").apply { mkdirs() }, name)

        fun uri(
            context: Context,
            name: String,
        ): Uri = Uri.parse("content://${context.packageName}.files/$name")
    }
}
