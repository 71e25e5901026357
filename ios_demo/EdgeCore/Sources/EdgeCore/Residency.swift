import Foundation

/// Where Core ML plans to run a model's operators. A plan is a forecast: nobody tells where they ran.
public struct Residency: Encodable, Equatable, Sendable {
    /// A kind of processor, as the device report names it.
    public enum Processor: String, CaseIterable, Codable, Sendable {
        case cpu, gpu
        case neuralEngine = "neural_engine"
    }

    /// An operator that has a place in the plan; constants have none.
    public struct Operator: Equatable, Sendable {
        public let processor: Processor
        /// Its share of the work, 0 to 1, as Core ML estimates it; nil where it does not.
        public let weight: Double?

        public init(_ processor: Processor, weight: Double?) {
            self.processor = processor
            self.weight = weight
        }
    }

    /// Operators of each processor; those without any are 0.
    public let operators: [Processor: Int]
    /// Each processor's share of the estimated work, 1 in all; nil where Core ML estimates none.
    public let cost: [Processor: Double]?

    public var total: Int { operators.values.reduce(0, +) }

    /// Raises when there is nothing to count, or a weight is no number of at least 0.
    public init(_ planned: [Operator]) throws {
        guard !planned.isEmpty else { throw EdgeError("Core ML's plan has no operator with a processor") }
        if let wrong = planned.compactMap(\.weight).first(where: { !$0.isFinite || $0 < 0 }) {
            throw EdgeError("Core ML's plan has an operator of cost \(wrong)")
        }
        var (operators, weights) = ([Processor: Int](), [Processor: Double]())
        for processor in Processor.allCases {
            let own = planned.filter { $0.processor == processor }
            operators[processor] = own.count
            weights[processor] = own.compactMap(\.weight).reduce(0, +)
        }
        self.operators = operators
        let whole = weights.values.reduce(0, +)
        cost = whole > 0 ? weights.mapValues { $0 / whole } : nil
    }

    private struct Key: CodingKey {
        static let cost = Key(stringValue: "cost")
        let stringValue: String
        var intValue: Int? { nil }

        init(stringValue: String) { self.stringValue = stringValue }
        init(_ processor: Processor) { self.init(stringValue: processor.rawValue) }
        init?(intValue: Int) { nil }
    }

    public func encode(to encoder: Encoder) throws {
        var values = encoder.container(keyedBy: Key.self)
        for (processor, count) in operators {
            try values.encode(count, forKey: Key(processor))
        }
        guard let cost else { return try values.encodeNil(forKey: .cost) }  // null, not absent
        var shares = values.nestedContainer(keyedBy: Key.self, forKey: .cost)
        for (processor, share) in cost {
            try shares.encode(share, forKey: Key(processor))
        }
    }
}
