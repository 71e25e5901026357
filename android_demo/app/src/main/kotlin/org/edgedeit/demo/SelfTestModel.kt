package org.edgedeit.demo

import android.content.Context
import org.edgedeit.core.Bundle
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.CaseResult
import org.edgedeit.core.GoldenCases
import org.edgedeit.core.ModelCheck
import org.edgedeit.core.RgbImage
import org.edgedeit.core.checkModel
import org.edgedeit.core.selfTest
import org.edgedeit.demo.engine.Engines
import java.io.File

/** Runs the bundle's golden cases, then every file on the photos that Python's answered. */
class SelfTestModel(
    context: Context,
) : Work(context) {
    val failures = ArrayList<CaseResult>()

    /** What each file answered beside Python, in the user's words. */
    val models = ArrayList<String>()

    /** Whether a file did not load, or answered otherwise than in Python. */
    var differs = false
        private set

    fun start() {
        failures.clear()
        models.clear()
        differs = false
        begin(::runAll) {}
    }

    private fun runAll() {
        val bundle = BundleAssets(context).load() ?: throw Problem(R.string.no_model_text)
        val cases = bundle.goldenCases()
        Background.main { total = cases.size + bundle.artefacts.size }
        selfTest(bundle.goldenSpec, cases, ::decode) { result ->
            Background.main {
                finished++
                if (result.failure != null) failures.add(result)
                onChange()
            }
            !stopped
        }
        for (artefact in bundle.artefacts) if (!stopped) check(bundle, cases, artefact)
        Engines.slot.close()
    }

    /** As the first screen reads a photo. */
    private fun decode(png: ByteArray): RgbImage {
        val file = File(context.cacheDir, "golden.png")
        try {
            file.writeBytes(png)
            return PhotoReader.read(file).image
        } finally {
            file.delete()
        }
    }

    private fun check(
        bundle: Bundle,
        cases: GoldenCases,
        artefact: BundledArtefact,
    ) {
        val (found, problem) =
            Background.attempt(context) {
                val engine = Engines.open(context, artefact, MainModel.defaultPlacement())
                checkModel(bundle.goldenSpec, cases, artefact.manifest, engine.runner, engine::run)
            }
        Background.main {
            finished++
            models.add(line(artefact.file, found, problem))
            if (problem != null || found?.agreed == false) differs = true
            onChange()
        }
    }

    private fun line(
        file: String,
        found: ModelCheck?,
        problem: String?,
    ): String =
        when {
            problem != null -> context.getString(R.string.case_failed, file, problem)
            found == null -> context.getString(R.string.model_not_compared, file)
            else -> agreement(found)
        }

    private fun agreement(found: ModelCheck): String =
        context.getString(
            R.string.model_compared,
            found.artefact,
            found.runner,
            found.sameTop,
            found.images,
            found.reference,
            found.cosine,
        )
}
