import Foundation

/// One class of a photo's result.
public struct RankedClass: Codable, Equatable, Sendable {
    public let index: Int
    public let label: String
    public let probability: Double
    public let logit: Float
}

/// Probabilities of logits, computed in double precision.
public func softmax(_ logits: [Float]) throws -> [Double] {
    try requireFinite(logits)
    let largest = Double(logits.max() ?? 0)
    let powers = logits.map { exp(Double($0) - largest) }
    let sum = powers.reduce(0, +)
    return powers.map { $0 / sum }
}

/// Indices of the k largest logits; of equal ones the lower index comes first.
public func topK(_ logits: [Float], _ k: Int) throws -> [Int] {
    try requireFinite(logits)
    let order = logits.indices.sorted { logits[$0] != logits[$1] ? logits[$0] > logits[$1] : $0 < $1 }
    return Array(order.prefix(max(0, k)))
}

/// The k most probable classes, most probable first.
public func rank(_ logits: [Float], labels: [String], top: Int) throws -> [RankedClass] {
    guard logits.count == labels.count else {
        throw EdgeError("the model returns \(logits.count) values for \(labels.count) labels")
    }
    let probabilities = try softmax(logits)
    return try topK(logits, top).map { index in
        RankedClass(
            index: index, label: labels[index], probability: probabilities[index], logit: logits[index]
        )
    }
}

private func requireFinite(_ logits: [Float]) throws {
    guard !logits.isEmpty, logits.allSatisfy(\.isFinite) else {
        throw EdgeError("the model returned no, NaN or infinite logits; export it again")
    }
}
