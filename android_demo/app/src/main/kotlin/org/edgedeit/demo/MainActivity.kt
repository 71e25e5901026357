package org.edgedeit.demo

import android.Manifest
import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.Intent
import android.content.pm.PackageManager
import android.os.Build
import android.os.Bundle
import android.provider.MediaStore
import android.view.View
import android.widget.ImageView
import android.widget.LinearLayout
import android.widget.ProgressBar
import android.widget.Spinner
import android.widget.TextView
import android.widget.Toast
import org.edgedeit.core.Ranked
import org.edgedeit.demo.engine.Engines
import java.text.NumberFormat

/** Choose or take a photo, choose a model, read what it sees and how long that took. */
class MainActivity : Activity() {
    private lateinit var model: MainModel

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        setContentView(R.layout.activity_main)
        val retained = lastNonConfigurationInstance as? MainModel
        model = retained ?: MainModel(applicationContext)
        if (retained == null) restore(state)
        find<View>(R.id.pick).setOnClickListener { pick() }
        find<View>(R.id.take).setOnClickListener { take() }
        find<View>(R.id.sample).setOnClickListener { model.samples(::chooseSample) }
        find<View>(R.id.folder).setOnClickListener { show(FolderActivity::class.java) }
        find<View>(R.id.live).setOnClickListener { show(LiveActivity::class.java) }
        find<View>(R.id.benchmark).setOnClickListener { show(BenchmarkActivity::class.java) }
        find<View>(R.id.self_test).setOnClickListener { show(SelfTestActivity::class.java) }
        model.onChange = ::render
        render()
    }

    /** After the system ended the app: the same choices and the same photo. */
    private fun restore(state: Bundle?) {
        if (state == null) {
            model.forget()
            return
        }
        model.selected = state.getInt(SELECTED)
        model.placement = Placements.read(state) ?: model.placement
        if (state.getBoolean(ANSWERED)) model.repeat()
    }

    override fun onSaveInstanceState(out: Bundle) {
        super.onSaveInstanceState(out)
        out.putInt(SELECTED, model.selected)
        Placements.write(model.placement, out)
        out.putBoolean(ANSWERED, model.answer != null)
    }

    override fun onRetainNonConfigurationInstance(): Any = model

    override fun onDestroy() {
        model.onChange = {}
        if (!isChangingConfigurations) model.close()
        super.onDestroy()
    }

    /** The other screens run what is chosen here. */
    private fun show(screen: Class<out Activity>) {
        val choice = Bundle().apply { putInt(SELECTED, model.selected) }
        Placements.write(model.placement, choice)
        startActivity(Intent(this, screen).putExtras(choice))
    }

    private fun chooseSample(names: List<String>) {
        if (isFinishing) return
        AlertDialog
            .Builder(this)
            .setTitle(R.string.sample)
            .setItems(names.toTypedArray()) { _, index -> model.openSample(names[index]) }
            .show()
    }

    private fun pick() {
        val intent =
            if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.TIRAMISU) {
                Intent(MediaStore.ACTION_PICK_IMAGES)
            } else {
                Intent(Intent.ACTION_GET_CONTENT).addCategory(Intent.CATEGORY_OPENABLE)
            }
        ask(intent.setType("image/*"), PICK, R.string.no_picker)
    }

    /** A camera app may only be asked by an app that may use the camera, or never names it. */
    private fun take() {
        if (checkSelfPermission(Manifest.permission.CAMERA) != PackageManager.PERMISSION_GRANTED) {
            requestPermissions(arrayOf(Manifest.permission.CAMERA), ASK_CAMERA)
            return
        }
        // a photo of an earlier time would be taken for the one that a camera app failed to write
        SharedFilesProvider.file(this, SharedFilesProvider.CAMERA).delete()
        val uri = SharedFilesProvider.uri(this, SharedFilesProvider.CAMERA)
        val intent =
            Intent(MediaStore.ACTION_IMAGE_CAPTURE)
                .putExtra(MediaStore.EXTRA_OUTPUT, uri)
                .addFlags(Intent.FLAG_GRANT_WRITE_URI_PERMISSION or Intent.FLAG_GRANT_READ_URI_PERMISSION)
        intent.clipData = ClipData.newRawUri(null, uri) // what carries the grant
        ask(intent, TAKE, R.string.no_camera)
    }

    override fun onRequestPermissionsResult(
        request: Int,
        permissions: Array<String>,
        results: IntArray,
    ) {
        if (request != ASK_CAMERA) return
        if (results.firstOrNull() == PackageManager.PERMISSION_GRANTED) {
            take()
        } else {
            Toast.makeText(this, R.string.camera_denied, Toast.LENGTH_LONG).show()
        }
    }

    private fun ask(
        intent: Intent,
        request: Int,
        otherwise: Int,
    ) {
        try {
            startActivityForResult(intent, request)
        } catch (_: ActivityNotFoundException) {
            Toast.makeText(this, otherwise, Toast.LENGTH_LONG).show()
        }
    }

    override fun onActivityResult(
        request: Int,
        result: Int,
        data: Intent?,
    ) {
        super.onActivityResult(request, result, data)
        if (result != RESULT_OK) return
        when (request) {
            PICK -> data?.data?.let(model::open)
            TAKE -> model.open(SharedFilesProvider.uri(this, SharedFilesProvider.CAMERA))
        }
    }

    private fun render() {
        val bundle = model.bundle
        find<View>(R.id.busy).visibility = if (model.running > 0) View.VISIBLE else View.INVISIBLE
        find<View>(R.id.ready).visibility = visible(bundle != null)
        find<View>(R.id.tools).visibility = visible(bundle != null)
        find<TextView>(R.id.message).text = message()
        if (bundle != null) {
            fillChoices(bundle)
            showAnswer(model.answer)
        }
    }

    private fun message(): String {
        val answer = model.answer
        val problem = model.problem
        return when {
            model.loading -> {
                getString(R.string.working)
            }

            model.bundle == null && problem == null -> {
                getString(R.string.no_model_title) + "\n\n" + getString(R.string.no_model_text)
            }

            model.bundle == null -> {
                getString(R.string.broken_bundle) + "\n\n" + problem
            }

            problem != null -> {
                problem
            }

            answer == null -> {
                getString(R.string.choose_first)
            }

            else -> {
                timing(answer)
            }
        }
    }

    private fun timing(answer: Answer): String {
        val timing =
            getString(
                R.string.timing,
                answer.preprocessMs,
                answer.inferenceMs,
                MainModel.RUNS,
                answer.runner,
            )
        val photo = answer.photo
        val python = model.expected?.let { getString(R.string.expected, it) }
        val note =
            if (photo.scale == 1) {
                null
            } else {
                getString(R.string.scaled_down, photo.storedWidth, photo.storedHeight, photo.scale)
            }
        return listOfNotNull(python, timing, note).joinToString("\n\n")
    }

    private fun fillChoices(bundle: org.edgedeit.core.Bundle) {
        val artefacts = find<Spinner>(R.id.artefact)
        if (artefacts.adapter != null) return
        val names =
            bundle.artefacts.map {
                val manifest = it.manifest
                val engine = getString(Engines.name(manifest.target))
                getString(R.string.artefact, manifest.model, engine, manifest.precision)
            }
        model.selected = model.selected.coerceIn(names.indices)
        Choices.fill(artefacts, names, model.selected) { index ->
            if (model.selected != index) {
                model.selected = index
                model.repeat()
            }
        }
        val places = Placements.all()
        val texts = places.map { Placements.text(this, it) }
        Choices.fill(
            find(R.id.placement),
            texts,
            places.indexOf(model.placement).coerceAtLeast(0),
        ) { index ->
            if (model.placement != places[index]) {
                model.placement = places[index]
                model.repeat()
            }
        }
    }

    private fun showAnswer(answer: Answer?) {
        val photo = find<ImageView>(R.id.photo)
        photo.visibility = visible(answer != null)
        photo.setImageBitmap(answer?.preview)
        val rows = find<LinearLayout>(R.id.classes)
        rows.removeAllViews()
        if (answer == null) return
        photo.contentDescription =
            getString(R.string.photo_shown, answer.photo.width, answer.photo.height)
        for (ranked in answer.ranked) rows.addView(row(rows, ranked))
    }

    private fun row(
        parent: LinearLayout,
        ranked: Ranked,
    ): View {
        val format = NumberFormat.getPercentInstance()
        format.minimumFractionDigits = 1
        format.maximumFractionDigits = 1
        val percent = format.format(ranked.probability)
        val row = layoutInflater.inflate(R.layout.row_class, parent, false)
        row.findViewById<TextView>(R.id.label).text = ranked.label
        row.findViewById<TextView>(R.id.percent).text = percent
        val bar = row.findViewById<ProgressBar>(R.id.bar)
        bar.progress = Math.round(bar.max * ranked.probability).toInt()
        row.contentDescription = getString(R.string.class_row, ranked.label, percent)
        return row
    }

    private fun visible(yes: Boolean) = if (yes) View.VISIBLE else View.GONE

    private fun <T : View> find(id: Int): T = findViewById(id)

    companion object {
        /** Index into the bundle's artefacts, for the screens that run one. */
        const val SELECTED = "selected"

        private const val PICK = 1
        private const val TAKE = 2
        private const val ASK_CAMERA = 3
        private const val ANSWERED = "answered"
    }
}
