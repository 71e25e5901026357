import Foundation

/// How every app measures, so that the figures of two phones can be compared.
///
/// `edge_deit/report/device_records.py` says what each figure is, and refuses reports of another protocol.
public struct MeasuringProtocol: Encodable, Equatable, Sendable {
    public static let current = MeasuringProtocol()

    public let photoWidth = 4032
    public let photoHeight = 3024
    public let warmUp = 5
    public let runs = 100
    public let preprocessRuns = 5

    enum CodingKeys: String, CodingKey {
        case photoWidth = "photo_width"
        case photoHeight = "photo_height"
        case warmUp = "warm_up"
        case runs
        case preprocessRuns = "preprocess_runs"
    }

    /// The generated photo, of the size that a phone's camera takes.
    public func photo() throws -> RGBImage {
        try GoldenPixels.hash(seed: 1, block: 8).image(width: photoWidth, height: photoHeight)
    }
}

/// Times of one artefact, in milliseconds, one entry a run.
public struct Timings: Equatable, Sendable {
    public let loadMs: Double
    public let loadWarmMs: Double
    public let firstRunMs: Double
    public let preprocessMs: [Double]
    public let latencyMs: [Double]

    public init(
        loadMs: Double, loadWarmMs: Double, firstRunMs: Double, preprocessMs: [Double], latencyMs: [Double]
    ) {
        self.loadMs = loadMs
        self.loadWarmMs = loadWarmMs
        self.firstRunMs = firstRunMs
        self.preprocessMs = preprocessMs
        self.latencyMs = latencyMs
    }
}

/// Measures one file as `MeasuringProtocol` says; stops when the task is cancelled.
///
/// `load` loads it and returns what runs it; `close` closes whatever is loaded.
public func measureFile(
    _ manifest: Manifest, photo: RGBImage, close: () -> Void, load: () throws -> (ModelInput) throws -> [Float]
) throws -> Timings {
    let rules = MeasuringProtocol.current
    let (input, preprocessMs) = try repeatTimed(runs: rules.preprocessRuns, warmUps: 1) {
        try manifest.contract.input(photo, spec: manifest.preprocessing)
    }
    close()
    let loadMs = try timed(load).ms
    close()
    let (predict, loadWarmMs) = try timed(load)
    let firstRunMs = try timed { try predict(input) }.ms
    let (returned, latencyMs) = try repeatTimed(runs: rules.runs, warmUps: rules.warmUp) { try predict(input) }
    _ = try rank(manifest.contract.logits(returned), labels: manifest.labels, top: 1)  // refuses what is not finite
    return Timings(
        loadMs: loadMs, loadWarmMs: loadWarmMs, firstRunMs: firstRunMs, preprocessMs: preprocessMs,
        latencyMs: latencyMs
    )
}

/// What a function returned and how long it took.
public func timed<Result>(_ work: () throws -> Result) rethrows -> (result: Result, ms: Double) {
    let clock = ContinuousClock()
    let start = clock.now
    let result = try work()
    let (seconds, attoseconds) = start.duration(to: clock.now).components
    return (result, Double(seconds) * 1e3 + Double(attoseconds) * 1e-15)
}

/// Runs `work` `warmUps` times unmeasured and `runs` times measured; stops when the task is cancelled.
public func repeatTimed<Result>(
    runs: Int, warmUps: Int = 0, _ work: () throws -> Result
) throws -> (last: Result, ms: [Double]) {
    guard runs > 0 else { throw EdgeError("nothing can be measured in \(runs) runs") }
    for _ in 0..<warmUps {
        try Task.checkCancellation()
        _ = try work()
    }
    var samples: [Double] = []
    var (last, ms) = try timed(work)
    samples.append(ms)
    for _ in 1..<runs {
        try Task.checkCancellation()
        (last, ms) = try timed(work)
        samples.append(ms)
    }
    return (last, samples)
}
