package org.edgedeit.core.cli

import org.edgedeit.core.Bundle
import org.edgedeit.core.EdgeDeitException
import org.edgedeit.core.FolderPhoto
import org.edgedeit.core.FolderResult
import org.edgedeit.core.GoldenCases
import org.edgedeit.core.GoldenSpec
import org.edgedeit.core.Json
import org.edgedeit.core.Manifest
import org.edgedeit.core.ModelInput
import org.edgedeit.core.RgbImage
import org.edgedeit.core.StoredPhoto
import org.edgedeit.core.floats
import org.edgedeit.core.littleEndian
import org.edgedeit.core.rank
import org.edgedeit.core.runFolder
import org.edgedeit.core.selfTest
import org.edgedeit.core.sha256
import java.io.File
import java.io.IOException
import kotlin.system.exitProcess

private const val TOP = 5
private const val FAILED = 1
private const val BAD_INPUT = 2
private const val USAGE = """
preprocess MANIFEST.json RAW.rgb WIDTH HEIGHT ORIENTATION OUT
rank MANIFEST.json RETURNED.f32
golden SPEC.json CASES.json
folder CASES.json MANIFEST.json RETURNED
bundle FOLDER"""

/** The core from a command line, for tests on a computer: 0 done, 1 a case failed, 2 bad input. */
fun main(arguments: Array<String>) {
    val code =
        try {
            command(arguments.toList())
        } catch (error: EdgeDeitException) {
            complain(error)
        } catch (error: IOException) {
            complain(error)
        }
    exitProcess(code)
}

private fun complain(error: Exception): Int {
    System.err.println("error: ${error.message}")
    return BAD_INPUT
}

private fun command(arguments: List<String>): Int {
    val files = arguments.drop(1)
    return when (Pair(arguments.firstOrNull(), files.size)) {
        Pair("preprocess", 6) -> preprocessFile(files)
        Pair("rank", 2) -> rankFile(files[0], files[1])
        Pair("golden", 2) -> golden(files[0], files[1])
        Pair("folder", 3) -> folder(files[0], files[1], File(files[2]))
        Pair("bundle", 1) -> bundle(File(files[0]))
        else -> throw EdgeDeitException("not a command; these are:$USAGE")
    }
}

private fun manifest(path: String) = Manifest.parse(File(path).readText(), path)

private fun preprocessFile(files: List<String>): Int {
    val (width, height, orientation) =
        files.subList(2, 5).map {
            it.toIntOrNull() ?: throw EdgeDeitException("$it is no whole number")
        }
    val raw = File(files[1]).readBytes()
    val image = RgbImage.upright(width, height, orientation, raw)
    val manifest = manifest(files[0])
    val bytes =
        when (val input = manifest.contract.input(image, manifest.preprocessing)) {
            is ModelInput.Pixels -> littleEndian(input.values)
            is ModelInput.Image -> input.bytes
        }
    File(files[5]).writeBytes(bytes)
    return 0
}

private fun rankFile(
    path: String,
    returned: String,
): Int {
    val manifest = manifest(path)
    val logits = manifest.contract.logits(floats(File(returned).readBytes()))
    val ranked = rank(logits, manifest.labels, TOP)
    val rows =
        ranked.map {
            linkedMapOf(
                "index" to it.index,
                "label" to it.label,
                "probability" to it.probability,
                "logit" to it.logit,
            )
        }
    println(Json.write(rows))
    return 0
}

private fun golden(
    spec: String,
    cases: String,
): Int {
    var passed = 0
    var failed = 0
    selfTest(
        GoldenSpec.parse(File(spec).readText(), spec),
        GoldenCases.parse(File(cases).readText(), cases),
        decode = null,
    ) { result ->
        if (result.failure == null) {
            passed++
        } else {
            failed++
            println("${result.kind} ${result.name}: ${result.failure}")
        }
        true
    }
    println("$passed passed, $failed failed")
    return if (failed == 0) 0 else FAILED
}

/** A folder run over what a model returned for each photo: NAME.f32 in a folder. */
private fun folder(
    cases: String,
    path: String,
    returned: File,
): Int {
    val answers = GoldenCases.parse(File(cases).readText(), cases).photos
    val manifest = manifest(path)
    var name = ""
    val black = RgbImage(1, 1, ByteArray(3))
    val photos =
        answers.map { answer ->
            FolderPhoto(answer.name) {
                name = answer.name
                val found = File(returned, "$name.f32")
                if (!found.exists()) throw EdgeDeitException("$name cannot be read")
                StoredPhoto(answer.sha256, black)
            }
        }
    val result =
        runFolder(photos, answers, manifest, { floats(File(returned, "$name.f32").readBytes()) }) { true }
    println(Json.write(plain(result)))
    return 0
}

private fun plain(result: FolderResult): Map<String, Any?> =
    linkedMapOf(
        "artefact" to result.artefact,
        "reference" to result.reference,
        "photos" to result.photos,
        "compared" to result.compared,
        "same_top" to result.sameTop,
        "snr_db" to result.snrDb,
        "worst" to
            result.worst.map {
                linkedMapOf(
                    "name" to it.name,
                    "answer" to it.answer,
                    "expected" to it.expected,
                    "snr_db" to it.snrDb,
                )
            },
        "skipped" to result.skipped.map { linkedMapOf("name" to it.name, "reason" to it.reason) },
        "skipped_count" to result.skippedCount,
    )

/** Reads a bundle as the app does, and checks the files' sha256. */
private fun bundle(folder: File): Int {
    for (artefact in Bundle.parse { File(folder, it).readText() }.artefacts) {
        val manifest = artefact.manifest
        val found = File(folder, artefact.file).inputStream().use { sha256(it) }
        if (found != manifest.sha256) throw EdgeDeitException("${artefact.file} is damaged")
        println("${artefact.file}: ${manifest.model}, ${manifest.target}, ${manifest.precision}")
    }
    return 0
}
