import EdgeCore
import PhotosUI
import SwiftUI

/// Photo in, classes out.
struct ClassifyView: View {
    @Bindable var model: AppModel
    let library: Library
    @State private var selection: PhotosPickerItem?
    @State private var showsCamera = false
    @State private var showsLive = false
    @State private var live: LiveModel?

    var body: some View {
        NavigationStack {
            List {
                Section { photo }
                if let failure = model.failure {
                    Section {
                        Label { Text(verbatim: failure) } icon: { Image(systemName: "exclamationmark.triangle") }
                            .foregroundStyle(.red)
                    }
                }
                if let result = model.result { ResultSection(result: result, expected: model.expected) }
                Section("Model") { settings }
            }
            .navigationTitle("Edge DeiT")
            .fullScreenCover(isPresented: $showsCamera) {
                CameraPicker { model.use($0) }
                    .ignoresSafeArea()
            }
            .onChange(of: selection) { _, item in
                guard let item else { return }
                selection = nil  // so that the same photo can be chosen again
                model.use { try await item.loadTransferable(type: Data.self) }
            }
        }
    }

    @ViewBuilder private var photo: some View {
        if let image = model.photo {
            Image(uiImage: image)
                .resizable()
                .scaledToFit()
                .frame(maxWidth: .infinity, maxHeight: 280)
                .accessibilityLabel("Chosen photo")
        }
        PhotosPicker(selection: $selection, matching: .images, preferredItemEncoding: .current) {
            Label("Choose photo", systemImage: "photo.on.rectangle")
        }
        if CameraPicker.isAvailable {
            Button { takePhoto() } label: { Label("Take photo", systemImage: "camera") }
        }
        if let golden = library.golden {
            Menu {
                ForEach(golden.samples, id: \.name) { sample in
                    Button { model.use(sample, of: golden) } label: { Text(verbatim: sample.name) }
                }
            } label: {
                Label("Sample photo", systemImage: "photo.stack")
            }
        }
        if let artefact = model.artefact, LiveView.isAvailable {
            Button {
                live = LiveModel(worker: model.worker, artefact: artefact, units: model.units)
                showsLive = true
            } label: {
                Label("Live camera", systemImage: "video")
            }
            .fullScreenCover(isPresented: $showsLive) {
                if let live { LiveView(model: live) }
            }
        }
        if model.isBusy {
            ProgressView().accessibilityLabel("Working")
        }
    }

    private func takePhoto() {
        if CameraPicker.isDenied {
            model.refuse(String(localized: "This app may not use the camera. Allow it in Settings, Privacy, Camera."))
        } else {
            showsCamera = true
        }
    }

    @ViewBuilder private var settings: some View {
        Picker("File", selection: $model.artefactID) {
            ForEach(library.artefacts) { artefact in
                Text(verbatim: artefact.id).tag(artefact.id)
            }
        }
        Picker("Compute units", selection: $model.units) {
            ForEach(ComputeUnits.allCases) { units in
                Text(units.title).tag(units)
            }
        }
        if model.artefact?.manifest.isForVision == true {
            Picker("Preprocessing", selection: $model.way) {
                ForEach(PhotoWay.allCases) { way in
                    Text(way.title).tag(way)
                }
            }
            if model.way == .vision {
                Text(
                    "Vision cuts and scales photos in its own way, which in a simulation on 300 photos changed one answer in eight."
                )
                    .font(.footnote)
                    .foregroundStyle(.secondary)
            }
        }
        Picker("Runs", selection: $model.runs) {
            ForEach(AppModel.runChoices, id: \.self) { runs in
                Text(verbatim: String(runs)).tag(runs)
            }
        }
    }
}

/// The five classes as bars, and the times.
struct ResultSection: View {
    let result: Classification
    /// Python's first answer, where it is known.
    let expected: String?

    var body: some View {
        Section("Result") {
            ForEach(result.top, id: \.index) { found in
                VStack(alignment: .leading) {
                    HStack {
                        Text(verbatim: found.label)
                        Spacer()
                        Text(found.probability, format: .percent.precision(.fractionLength(1)))
                            .monospacedDigit()
                    }
                    ProgressView(value: found.probability)
                }
                .accessibilityElement(children: .combine)
            }
            if let expected {
                LabeledContent("Python's answer") { Text(verbatim: expected) }
            }
        }
        Section("Time (median)") {
            if let preprocessMs = result.preprocessMs {
                LabeledContent("Preprocessing") { Text(verbatim: milliseconds(preprocessMs)) }
                LabeledContent("Inference") { Text(verbatim: milliseconds(result.inferenceMs)) }
            } else {
                LabeledContent("Preprocessing and inference") { Text(verbatim: milliseconds(result.inferenceMs)) }
            }
            LabeledContent("Runs") { Text(verbatim: String(result.runs)) }
            LabeledContent("Runtime") { Text(verbatim: result.runner) }
        }
    }
}

/// `12.3 ms` in the user's number format.
func milliseconds(_ value: Double) -> String {
    value.formatted(.number.precision(.fractionLength(1))) + " ms"
}

extension PhotoWay {
    var title: LocalizedStringKey {
        switch self {
        case .golden: return "As Python does"
        case .vision: return "Vision"
        }
    }
}

extension ComputeUnits {
    var title: LocalizedStringKey {
        switch self {
        case .all: return "All"
        case .cpuOnly: return "CPU only"
        case .cpuAndGPU: return "CPU and GPU"
        case .cpuAndNeuralEngine: return "CPU and Neural Engine"
        }
    }
}
