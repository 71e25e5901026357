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
        let loadMs: Double

        func fits(_ other: BundledArtefact, _ units: ComputeUnits) -> Bool {
            artefact == other.id && self.units == units
        }
    }

    static let topCount = 5
    private static let warmUps = 3

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

    /// Classifies `runs` times; times are medians.
    func classify(
        _ photo: DecodedPhoto, with artefact: BundledArtefact, units: ComputeUnits, way: PhotoWay, runs: Int
    ) throws -> Classification {
        if way == .vision { return try classifyByVision(photo, with: artefact, units: units, runs: runs) }
        let loaded = try load(artefact, units)
        let manifest = artefact.manifest
        let (input, preprocessMs) = try repeatTimed(runs: runs) {
            try manifest.contract.input(photo.image, orientation: photo.orientation, spec: manifest.preprocessing)
        }
        let (returned, inferenceMs) = try repeatTimed(runs: runs, warmUps: runs > 1 ? 1 : 0) {
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
        let (returned, inferenceMs) = try repeatTimed(runs: runs, warmUps: runs > 1 ? 1 : 0) {
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

    /// One row of the device report; the photo is generated, of the size that a phone's camera takes.
    func benchmark(_ artefact: BundledArtefact, units: ComputeUnits, runs: Int) throws -> ArtefactReport {
        loaded = nil  // loading is measured too
        let fresh = try load(artefact, units)
        let manifest = artefact.manifest
        let photo = try GoldenPixels.hash(seed: 1, block: 8).image(width: 4032, height: 3024)
        let (input, preprocessMs) = try repeatTimed(runs: 3, warmUps: 1) {
            try manifest.contract.input(photo, spec: manifest.preprocessing)
        }
        let (returned, latencyMs) = try repeatTimed(runs: runs, warmUps: Self.warmUps) {
            try fresh.engine.predict(input)
        }
        _ = try top(returned, manifest)  // refuses what is not finite
        return try ArtefactReport(
            manifest: manifest, runner: fresh.engine.runner, threads: fresh.engine.threads,
            timings: Timings(loadMs: fresh.loadMs, preprocessMs: preprocessMs, latencyMs: latencyMs),
            peakRssBytes: nil,
            notes: ["peak_rss_bytes": "iOS tells the peak of the whole app, not of one artefact"]
        )
    }

    func selfTest(_ golden: GoldenFiles, progress: @Sendable (Int, Int) -> Void) throws -> SelfTestResult {
        try golden.selfTest(progress: progress)
    }

    /// Runs the model on the golden images; nil when the bundle has none for it.
    func check(_ artefact: BundledArtefact, with golden: GoldenFiles) throws -> ModelCheck? {
        let engine = try load(artefact, .all).engine
        return try golden.check(artefact, runner: engine.runner) { try engine.predict($0) }
    }

    private func load(_ artefact: BundledArtefact, _ units: ComputeUnits) throws -> Loaded<any Engine> {
        if let loaded, loaded.fits(artefact, units) { return loaded }
        (loaded, vision) = (nil, nil)  // two models at a time would need the memory of both
        try verify(artefact)
        let (engine, loadMs) = try timed { try loadEngine(artefact, units: units) }
        let fresh = Loaded<any Engine>(artefact: artefact.id, units: units, engine: engine, loadMs: loadMs)
        loaded = fresh
        return fresh
    }

    private func loadVision(_ artefact: BundledArtefact, _ units: ComputeUnits) throws -> Loaded<VisionEngine> {
        if let vision, vision.fits(artefact, units) { return vision }
        (loaded, vision) = (nil, nil)
        let (engine, loadMs) = try timed { try VisionEngine(artefact, units: units) }
        let fresh = Loaded(artefact: artefact.id, units: units, engine: engine, loadMs: loadMs)
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
