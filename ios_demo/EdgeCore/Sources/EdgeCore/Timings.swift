import Foundation

/// Times of one artefact, in milliseconds, one entry a run.
public struct Timings: Equatable, Sendable {
    public let loadMs: Double
    public let preprocessMs: [Double]
    public let latencyMs: [Double]

    public init(loadMs: Double, preprocessMs: [Double], latencyMs: [Double]) {
        self.loadMs = loadMs
        self.preprocessMs = preprocessMs
        self.latencyMs = latencyMs
    }
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
