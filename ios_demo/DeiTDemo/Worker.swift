import CoreGraphics
import EdgeCore
import Foundation

/// The top classes of a photo and what they cost, in milliseconds.
struct Classification: Sendable {
    let top: [RankedClass]
    /// nil where Vision did it; then the inference's time counts it too.
    let preprocessMs: Double?
    let inferenceMs: Double
    let runs: Int
    let runner: String
}

/// Does everything that takes long, one thing after the other, away from the main actor.
actor Worker {
    private struct Loaded<Model> {
        let artefact: String
        let units: ComputeUnits
        let engine: Model

        func fits(_ other: BundledArtefact, _ units: ComputeUnits) -> Bool {
            artefact == other.id && self.units == units
        }
    }

    static let topCount = 5

    private var loaded: Loaded<any Engine>?
    private var vision: Loaded<VisionEngine>?
    private var verified: Set<String> = []

    func readLibrary(_ folder: URL) throws -> Library? {
        try Library.read(folder)
    }

    func decode(_ data: Data) throws -> DecodedPhoto {
        try PhotoDecoder.decode(data)
    }

    func decode(_ image: CGImage, orientation: Int) throws -> DecodedPhoto {
        try PhotoDecoder.decode(image, orientation: orientation)
    }

    /// Classifies `runs` times, after one that is not timed: the first sets the processor up. Times are medians.
    func classify(
        _ photo: DecodedPhoto, with artefact: BundledArtefact, units: ComputeUnits, way: PhotoWay, runs: Int
    ) throws -> Classification {
        if way == .vision { return try classifyByVision(photo, with: artefact, units: units, runs: runs) }
        let loaded = try load(artefact, units)
        let manifest = artefact.manifest
        let (input, preprocessMs) = try repeatTimed(runs: runs) {
            try manifest.contract.input(photo.image, orientation: photo.orientation, spec: manifest.preprocessing)
        }
        let (returned, inferenceMs) = try repeatTimed(runs: runs, warmUps: 1) {
            try loaded.engine.predict(input)
        }
        return Classification(
            top: try top(returned, manifest), preprocessMs: try median(preprocessMs),
            inferenceMs: try median(inferenceMs), runs: runs, runner: loaded.engine.runner
        )
    }

    /// The same with Vision before the model, which takes the photo as it is stored.
    private func classifyByVision(
        _ photo: DecodedPhoto, with artefact: BundledArtefact, units: ComputeUnits, runs: Int
    ) throws -> Classification {
        let engine = try loadVision(artefact, units).engine
        let (returned, inferenceMs) = try repeatTimed(runs: runs, warmUps: 1) {
            try engine.classify(photo.source, orientation: photo.orientation)
        }
        return Classification(
            top: try top(returned, artefact.manifest), preprocessMs: nil, inferenceMs: try median(inferenceMs),
            runs: runs, runner: engine.runner
        )
    }

    private func top(_ returned: [Float], _ manifest: Manifest) throws -> [RankedClass] {
        try rank(manifest.contract.logits(returned), labels: manifest.labels, top: Self.topCount)
    }

    /// One row of the device report, measured as `MeasuringProtocol` says, and then Core ML's plan for the file.
    func benchmark(
        _ artefact: BundledArtefact, units: ComputeUnits, golden: GoldenFiles?
    ) async throws -> ArtefactReport {
        let measured = try measure(artefact, units, golden)
        close()  // a plan may need the memory of a model
        let peak = peakResidentBytes()
        var notes = ["peak_rss_bytes": "of the whole app since its start, files measured earlier included"]
        if peak == nil { notes["peak_rss_bytes"] = "iOS does not tell" }
        if measured.check == nil { notes["check"] = "the bundle has no answers of Python's to golden photos" }
        var residency: Residency?
        do {
            residency = try await plannedResidency(of: artefact, units: units)
        } catch {
            try Task.checkCancellation()
            notes["residency"] = error.localizedDescription
        }
        return try ArtefactReport(
            manifest: artefact.manifest, runner: measured.runner, threads: measured.threads,
            timings: measured.timings, peakRssBytes: peak, check: measured.check, residency: residency, notes: notes
        )
    }

    private struct Measured {
        let runner: String
        let threads: Int?
        let timings: Timings
        let check: ModelCheck?
    }

    private func measure(
        _ artefact: BundledArtefact, _ units: ComputeUnits, _ golden: GoldenFiles?
    ) throws -> Measured {
        try verify(artefact)
        let photo = try MeasuringProtocol.current.photo()
        let timings = try measureFile(artefact.manifest, photo: photo, close: { close() }) {
            let engine = try load(artefact, units).engine
            return { try engine.predict($0) }
        }
        let engine = try load(artefact, units).engine
        let check = try golden?.check(artefact, runner: engine.runner) { try engine.predict($0) }
        return Measured(runner: engine.runner, threads: engine.threads, timings: timings, check: check)
    }

    /// A sample photo of the bundle, as if it had been decoded.
    func sample(_ image: GoldenCases.Image) throws -> DecodedPhoto {
        let stored = try image.stored()
        return DecodedPhoto(image: stored.image, source: try stored.image.cgImage(), orientation: stored.orientation)
    }

    /// The classes of one camera frame, upright.
    func classify(_ frame: RGBImage, with artefact: BundledArtefact, units: ComputeUnits) throws -> [RankedClass] {
        let engine = try load(artefact, units).engine
        let manifest = artefact.manifest
        return try top(engine.predict(manifest.contract.input(frame, spec: manifest.preprocessing)), manifest)
    }

    /// A run over the photos of a folder, which holds what `edge_deit.golden` wrote; over the golden photos without one.
    func runFolder(
        _ folder: URL?, _ golden: GoldenFiles?, with artefact: BundledArtefact, units: ComputeUnits,
        progress: @Sendable (Int, Int) -> Void
    ) throws -> FolderResult {
        let (photos, answers) = try folderPhotos(folder, golden, artefact)
        defer { close() }
        let engine = try load(artefact, units).engine
        let result = try EdgeCore.runFolder(
            photos, answers: answers, manifest: artefact.manifest, predict: { try engine.predict($0) },
            progress: { done in
                progress(done, photos.count)
                return !Task.isCancelled
            }
        )
        return result
    }

    private func folderPhotos(
        _ folder: URL?, _ golden: GoldenFiles?, _ artefact: BundledArtefact
    ) throws -> (photos: [FolderPhoto], answers: [GoldenCases.Photo]) {
        guard let folder else {
            guard let golden else { throw EdgeError("the bundle has no golden cases; bundle the model again") }
            return try golden.folder(for: artefact.id)
        }
        let paths = try photoPaths(in: folder)
        guard let own = try GoldenFiles(in: folder) else {
            throw EdgeError(String(localized: "This folder has no golden_spec.json and golden_cases.json, which edge_deit.golden writes into it."))
        }
        guard own.spec.labels == artefact.manifest.labels, own.spec.preprocessing == artefact.manifest.preprocessing else {
            throw EdgeError(String(localized: "The answers in this folder are those of another model: its labels or its preprocessing differ."))
        }
        let photos = paths.map { path in
            FolderPhoto(name: path) {
                let data = try Data(contentsOf: folder.appendingPathComponent(path))
                let decoded = try PhotoDecoder.decode(data)
                return StoredPhoto(
                    sha256: SHA256Digest.hex([UInt8](data)), image: decoded.image, orientation: decoded.orientation
                )
            }
        }
        return (photos, own.cases.photos)
    }

    func selfTest(_ golden: GoldenFiles, progress: @Sendable (Int, Int) -> Void) throws -> SelfTestResult {
        try golden.selfTest(decode: { try PhotoDecoder.decode($0).image }, progress: progress)
    }

    /// Runs the model on the golden images; nil when the bundle has none for it.
    func check(_ artefact: BundledArtefact, with golden: GoldenFiles) throws -> ModelCheck? {
        let engine = try load(artefact, .all).engine
        return try golden.check(artefact, runner: engine.runner) { try engine.predict($0) }
    }

    /// Two models at a time would need the memory of both: one is closed before another is loaded.
    private func close() {
        (loaded, vision) = (nil, nil)
    }

    private func load(_ artefact: BundledArtefact, _ units: ComputeUnits) throws -> Loaded<any Engine> {
        if let loaded, loaded.fits(artefact, units) { return loaded }
        close()
        try verify(artefact)
        let engine = try loadEngine(artefact, units: units)
        let fresh = Loaded<any Engine>(artefact: artefact.id, units: units, engine: engine)
        loaded = fresh
        return fresh
    }

    private func loadVision(_ artefact: BundledArtefact, _ units: ComputeUnits) throws -> Loaded<VisionEngine> {
        if let vision, vision.fits(artefact, units) { return vision }
        close()
        let fresh = Loaded(artefact: artefact.id, units: units, engine: try VisionEngine(artefact, units: units))
        vision = fresh
        return fresh
    }

    /// Compares a file or folder with its manifest, once. What Xcode compiled is no longer what was hashed.
    private func verify(_ artefact: BundledArtefact) throws {
        guard artefact.url.lastPathComponent == artefact.id, !verified.contains(artefact.id) else { return }
        guard try SHA256Digest.hex(contentsOf: artefact.url) == artefact.manifest.sha256 else {
            throw EdgeError("\(artefact.id) is not the file its manifest describes; bundle the model again")
        }
        verified.insert(artefact.id)
    }
}
