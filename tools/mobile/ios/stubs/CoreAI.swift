// Compile-only: the declarations of Core AI that the app uses, after Apple's documentation of the beta.
@_exported import Foundation

/// Stands for Swift 6.2's `Span<Int>`, which has the same subscript.
public struct Sizes {
    public var count: Int { fatalError() }
    public subscript(_ index: Int) -> Int { fatalError() }
}

public struct NDArray: Sendable {
    public enum ScalarType: Sendable { case float32, uint8 }
    public init(shape: [Int], scalarType: ScalarType) { fatalError() }
    public mutating func mutableView<T>(as type: T.Type) -> MutableView<T> { fatalError() }
    public func view<T>(as type: T.Type) -> View<T> { fatalError() }

    public struct View<T> {
        public func withUnsafePointer<R>(_ body: (UnsafePointer<T>, Sizes, Sizes) throws -> R) rethrows -> R {
            fatalError()
        }
    }

    public struct MutableView<T> {
        public func withUnsafeMutablePointer<R>(
            _ body: (UnsafeMutablePointer<T>, Sizes, Sizes) throws -> R
        ) rethrows -> R { fatalError() }
    }
}

public struct InferenceValue {
    public var ndArray: NDArray? { fatalError() }
}

public struct InferenceFunction: Sendable {
    public struct Outputs {
        public mutating func remove(_ name: String) -> InferenceValue? { fatalError() }
    }

    public func run(inputs: [String: NDArray]) async throws -> Outputs { fatalError() }
}

public enum ComputeUnitKind: Sendable { case cpu, gpu, neuralEngine }

public struct SpecializationOptions: Sendable {
    public static let `default` = SpecializationOptions(preferredComputeUnitKind: .cpu)
    public static let cpuOnly = SpecializationOptions(preferredComputeUnitKind: .cpu)
    public init(preferredComputeUnitKind: ComputeUnitKind) {}
}

public struct AIModel: Sendable {
    public init(contentsOf url: URL, options: SpecializationOptions = .default) async throws { fatalError() }
    public func loadFunction(named name: String) throws -> InferenceFunction? { fatalError() }
}
