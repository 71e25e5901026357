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
