import Foundation

/// Percentile of samples, 0 <= fraction <= 1, linear between neighbours (NumPy's default).
public func percentile(_ samples: [Double], _ fraction: Double) throws -> Double {
    guard !samples.isEmpty, samples.allSatisfy(\.isFinite), (0...1).contains(fraction) else {
        throw EdgeError("a percentile needs finite samples and a fraction of 0 to 1, not \(fraction)")
    }
    let sorted = samples.sorted()
    let position = fraction * Double(sorted.count - 1)
    let low = Int(position)
    let high = min(low + 1, sorted.count - 1)
    return sorted[low] + (position - Double(low)) * (sorted[high] - sorted[low])
}

public func median(_ samples: [Double]) throws -> Double {
    try percentile(samples, 0.5)
}

/// Most memory that this process held since its start; nil where the system does not tell.
public func peakResidentBytes() -> Int? {
    var usage = rusage()
    #if canImport(Darwin)
        let (code, unit) = (getrusage(RUSAGE_SELF, &usage), 1)  // Darwin counts bytes
    #else
        let (code, unit) = (getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage), 1024)
    #endif
    return code == 0 && usage.ru_maxrss > 0 ? usage.ru_maxrss * unit : nil
}
