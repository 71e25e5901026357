package org.edgedeit.demo

import android.Manifest
import android.app.Activity
import android.content.pm.PackageManager
import android.graphics.Bitmap
import android.os.Bundle
import android.os.SystemClock
import android.view.Surface
import android.view.WindowManager
import android.widget.ImageView
import android.widget.TextView
import org.edgedeit.core.BundledArtefact
import org.edgedeit.core.Placement
import org.edgedeit.core.Ranked
import org.edgedeit.core.RgbImage
import org.edgedeit.core.rank
import org.edgedeit.demo.engine.Engines
import java.text.NumberFormat

/** The camera's frames, as the model is given them, and what it sees in them. */
class LiveActivity : Activity() {
    @Volatile
    private var camera: LiveCamera? = null
    private var resumed = false
    private var asked = false

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_live)
        asked = state?.getBoolean(ASKED) ?: false
        window.addFlags(WindowManager.LayoutParams.FLAG_KEEP_SCREEN_ON)
    }

    override fun onSaveInstanceState(out: Bundle) {
        super.onSaveInstanceState(out)
        out.putBoolean(ASKED, asked)
    }

    override fun onResume() {
        super.onResume()
        resumed = true
        if (checkSelfPermission(Manifest.permission.CAMERA) == PackageManager.PERMISSION_GRANTED) {
            begin()
        } else if (asked) {
            say(getString(R.string.camera_denied))
        } else {
            asked = true
            requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK) // onResume comes again
        }
    }

    override fun onPause() {
        resumed = false
        camera?.close()
        camera = null
        Background.run(Engines.slot::close)
        super.onPause()
    }

    private fun begin() {
        say(getString(R.string.working))
        Background.run(applicationContext, { chosen() }) { found, problem ->
            if (found == null) {
                say(problem.orEmpty())
            } else if (resumed) {
                open(found)
            }
        }
    }

    private fun chosen(): BundledArtefact {
        val bundle = BundleAssets(applicationContext).load() ?: throw Problem(R.string.no_model_text)
        val selected = intent.getIntExtra(MainActivity.SELECTED, 0)
        return bundle.artefacts[selected.coerceIn(bundle.artefacts.indices)]
    }

    private fun open(chosen: BundledArtefact) {
        camera?.close()
        val opened =
            LiveCamera(
                applicationContext,
                display(),
                chosen.manifest.preprocessing.resizeSize,
                onFrame = { frame -> Background.run { answer(chosen, frame) } },
                onProblem = { text -> Background.main { say(text) } },
            )
        camera = opened
        opened.open()
    }

    /** On the background thread: one frame. */
    private fun answer(
        chosen: BundledArtefact,
        frame: RgbImage,
    ) {
        if (camera == null) return // the screen was left, and the model closed
        val started = SystemClock.elapsedRealtimeNanos()
        val (ranked, problem) = Background.attempt(applicationContext) { classify(chosen, frame) }
        val took = MainModel.milliseconds(started)
        val preview = PhotoReader.preview(frame, PREVIEW)
        Background.main {
            val open = camera ?: return@main
            if (ranked == null) {
                say(problem.orEmpty()) // and no further frame: the next one would fail in the same way
            } else {
                show(preview, ranked, took)
                open.ready()
            }
        }
    }

    private fun classify(
        chosen: BundledArtefact,
        frame: RgbImage,
    ): List<Ranked> {
        val manifest = chosen.manifest
        val engine = Engines.open(applicationContext, chosen, placement())
        val returned = engine.run(manifest.contract.input(frame, manifest.preprocessing))
        return rank(manifest.contract.logits(returned), manifest.labels, TOP)
    }

    private fun placement(): Placement =
        intent.extras?.let(Placements::read) ?: MainModel.defaultPlacement()

    private fun show(
        preview: Bitmap,
        ranked: List<Ranked>,
        tookMs: Double,
    ) {
        findViewById<ImageView>(R.id.frame).setImageBitmap(preview)
        val percent = NumberFormat.getPercentInstance()
        val lines = ranked.map { getString(R.string.class_row, it.label, percent.format(it.probability)) }
        findViewById<TextView>(R.id.answer).text = lines.joinToString("\n")
        findViewById<TextView>(R.id.message).text =
            getString(R.string.live_timing, tookMs, Placements.text(this, placement()))
    }

    private fun say(text: String) {
        findViewById<TextView>(R.id.message).text = text
    }

    @Suppress("DEPRECATION") // its successor needs API 30
    private fun display(): Int =
        when (windowManager.defaultDisplay.rotation) {
            Surface.ROTATION_90 -> 90
            Surface.ROTATION_180 -> 180
            Surface.ROTATION_270 -> 270
            else -> 0
        }

    private companion object {
        const val ASK = 1
        const val TOP = 3
        const val PREVIEW = 640
        const val ASKED = "asked"
    }
}
