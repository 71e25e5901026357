import CoreGraphics
import EdgeCore
import Foundation

/// The top classes of a photo and what they cost, in milliseconds.
struct Classification: Sendable {
    let top: [RankedClass]
    let preprocessMs: Double
    let inferenceMs: Double
    let runs: Int
    let runner: String
}

/// Does everything that takes long, one thing after the other, away from the main actor.
actor Worker {
    private struct Loaded {
        let artefact: String
        let units: ComputeUnits
        let engine: any Engine
        let loadMs: Double
    }

    static let topCount = 5
    private static let warmUps = 3

    private var loaded: Loaded?
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
        _ photo: DecodedPhoto, with artefact: BundledArtefact, units: ComputeUnits, runs: Int
    ) throws -> Classification {
        let loaded = try load(artefact, units)
        let spec = artefact.manifest.preprocessing
        let (pixels, preprocessMs) = try repeatTimed(runs: runs) {
            try spec.tensor(from: photo.image, orientation: photo.orientation)
        }
        let (logits, inferenceMs) = try repeatTimed(runs: runs, warmUps: runs > 1 ? 1 : 0) {
            try loaded.engine.predict(pixels)
        }
        return Classification(
            top: try rank(logits, labels: artefact.manifest.labels, top: Self.topCount),
            preprocessMs: try median(preprocessMs), inferenceMs: try median(inferenceMs), runs: runs,
            runner: loaded.engine.runner
        )
    }

    /// One row of the device report; the photo is generated, of the size that a phone's camera takes.
    func benchmark(_ artefact: BundledArtefact, units: ComputeUnits, runs: Int) throws -> ArtefactReport {
        loaded = nil  // loading is measured too
        let fresh = try load(artefact, units)
        let spec = artefact.manifest.preprocessing
        let photo = try GoldenPixels.hash(seed: 1, block: 8).image(width: 4032, height: 3024)
        let (pixels, preprocessMs) = try repeatTimed(runs: 3, warmUps: 1) { try spec.tensor(from: photo) }
        let (logits, latencyMs) = try repeatTimed(runs: runs, warmUps: Self.warmUps) {
            try fresh.engine.predict(pixels)
        }
        _ = try rank(logits, labels: artefact.manifest.labels, top: 1)  // refuses what is not finite
        return try ArtefactReport(
            manifest: artefact.manifest, runner: fresh.engine.runner, threads: fresh.engine.threads,
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

    private func load(_ artefact: BundledArtefact, _ units: ComputeUnits) throws -> Loaded {
        if let loaded, loaded.artefact == artefact.id, loaded.units == units { return loaded }
        loaded = nil  // two models at a time would need the memory of both
        try verify(artefact)
        let (engine, loadMs) = try timed { try loadEngine(artefact, units: units) }
        let fresh = Loaded(artefact: artefact.id, units: units, engine: engine, loadMs: loadMs)
        loaded = fresh
        return fresh
    }

    /// Compares a plain file with its manifest, once. What Xcode compiled is no longer the file that was hashed.
    private func verify(_ artefact: BundledArtefact) throws {
        guard artefact.url.lastPathComponent == artefact.id, !verified.contains(artefact.id) else { return }
        let data = try Data(contentsOf: artefact.url, options: .mappedIfSafe)
        guard SHA256Digest.hex(data) == artefact.manifest.sha256 else {
            throw EdgeError("\(artefact.id) is not the file its manifest describes; bundle the model again")
        }
        verified.insert(artefact.id)
    }
}
