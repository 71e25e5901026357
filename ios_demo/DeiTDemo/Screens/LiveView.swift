import AVFoundation
import EdgeCore
import SwiftUI

/// State of the live screen.
@MainActor @Observable
final class LiveModel {
    private(set) var frame: UIImage?
    private(set) var top: [RankedClass] = []
    private(set) var frameMs: Double?
    private(set) var failure: String?

    private let worker: Worker
    private let artefact: BundledArtefact
    private let units: ComputeUnits
    private var camera: LiveCamera?

    init(worker: Worker, artefact: BundledArtefact, units: ComputeUnits) {
        (self.worker, self.artefact, self.units) = (worker, artefact, units)
    }

    func start() async {
        guard await AVCaptureDevice.requestAccess(for: .video) else {
            failure = String(localized: "This app may not use the camera. Allow it in Settings, Privacy, Camera.")
            return
        }
        let opened = LiveCamera(
            onFrame: { frame in Task { @MainActor in await self.answer(frame) } },
            onProblem: { reason in Task { @MainActor in self.failure = reason } }
        )
        camera = opened
        opened.start()
    }

    func stop() {
        camera?.stop()
        camera = nil
    }

    /// After a failure no further frame is asked for: the next one would fail in the same way.
    private func answer(_ pixels: RGBImage) async {
        guard let camera else { return }
        let (clock, started) = (ContinuousClock(), ContinuousClock().now)
        do {
            let found = try await worker.classify(pixels, with: artefact, units: units)
            let parts = started.duration(to: clock.now).components
            frameMs = Double(parts.seconds) * 1e3 + Double(parts.attoseconds) * 1e-15
            top = found
            frame = UIImage(cgImage: try pixels.cgImage())
            camera.ready()
        } catch {
            failure = error.localizedDescription
        }
    }
}

/// The camera's frames as the model is given them, and what it sees in them.
struct LiveView: View {
    let model: LiveModel
    @Environment(\.dismiss) private var dismiss

    static var isAvailable: Bool { CameraPicker.isAvailable }

    var body: some View {
        NavigationStack {
            List {
                if let frame = model.frame {
                    Image(uiImage: frame)
                        .resizable()
                        .scaledToFit()
                        .frame(maxWidth: .infinity, maxHeight: 400)
                        .accessibilityLabel("What the camera sees, as the model is given it")
                }
                if let failure = model.failure {
                    Label { Text(verbatim: failure) } icon: { Image(systemName: "exclamationmark.triangle") }
                }
                ForEach(model.top, id: \.index) { found in
                    HStack {
                        Text(verbatim: found.label)
                        Spacer()
                        Text(found.probability, format: .percent.precision(.fractionLength(1)))
                    }
                    .accessibilityElement(children: .combine)
                }
                if let frameMs = model.frameMs {
                    LabeledContent("A frame") { Text(verbatim: milliseconds(frameMs)) }
                }
                Button("Close", role: .cancel) { dismiss() }
            }
            .navigationTitle("Live camera")
            .task { await model.start() }
            .onDisappear { model.stop() }
        }
    }
}
