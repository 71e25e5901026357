#if canImport(CoreAI)
    import CoreAI
    import EdgeCore
    import Foundation

    /// Core AI, which came with iOS 27. Its calls are asynchronous; the worker's thread waits for each.
    @available(iOS 27, *)
    final class CoreAIEngine: Engine {
        let runner: String
        let threads: Int? = nil
        private let function: InferenceFunction
        private let manifest: Manifest

        init(_ artefact: BundledArtefact, units: ComputeUnits) throws {
            let (url, options) = (artefact.url, units.coreAI)
            let loaded = try waitFor { () async throws -> InferenceFunction? in
                try await AIModel(contentsOf: url, options: options).loadFunction(named: "main")
            }
            guard let loaded else {
                throw EdgeError("\(artefact.id) has no function main; export it again")
            }
            function = loaded
            manifest = artefact.manifest
            runner = "Core AI, \(units.rawValue)"
        }

        func predict(_ input: ModelInput) throws -> [Float] {
            let shape = manifest.input.shape
            let count: Int
            switch input {
            case let .pixels(pixels): count = pixels.values.count
            case let .image(image): count = image.pixels.count
            }
            guard shape.count == 4, count == shape.reduce(1, *) else {
                throw EdgeError("the input has \(count) values, the model takes \(shape)")
            }
            let (function, manifest) = (function, manifest)
            return try waitFor {
                var outputs = try await function.run(inputs: [manifest.input.name: array(of: input, shape: shape)])
                guard let logits = outputs.remove(manifest.output.name)?.ndArray else {
                    throw EdgeError("\(manifest.artefact) returns no \(manifest.output.name); export it again")
                }
                return values(of: logits)
            }
        }
    }

    @available(iOS 27, *)
    private func array(of input: ModelInput, shape: [Int]) -> NDArray {
        switch input {
        case let .pixels(pixels):
            var array = NDArray(shape: shape, scalarType: .float32)
            array.mutableView(as: Float.self).withUnsafeMutablePointer { target, _, strides in
                fill(target, with: pixels.values, shape: shape, strides: (0..<4).map { strides[$0] })
            }
            return array
        case let .image(image):
            var array = NDArray(shape: shape, scalarType: .uint8)
            array.mutableView(as: UInt8.self).withUnsafeMutablePointer { target, _, strides in
                fill(target, with: image.pixels, shape: shape, strides: (0..<4).map { strides[$0] })
            }
            return array
        }
    }

    /// Values of four axes, the last one fastest, at the places that the strides say.
    private func fill<Scalar>(
        _ target: UnsafeMutablePointer<Scalar>, with values: [Scalar], shape: [Int], strides: [Int]
    ) {
        var source = 0
        for first in 0..<shape[1] {
            for second in 0..<shape[2] {
                let start = first * strides[1] + second * strides[2]
                for third in 0..<shape[3] {
                    target[start + third * strides[3]] = values[source]
                    source += 1
                }
            }
        }
    }

    /// (1, K) float32: in that type every file of Edge DeiT returns its logits.
    @available(iOS 27, *)
    private func values(of logits: NDArray) -> [Float] {
        logits.view(as: Float.self).withUnsafePointer { source, shape, strides in
            (0..<shape[1]).map { source[$0 * strides[1]] }
        }
    }

    @available(iOS 27, *)
    extension ComputeUnits {
        /// Core AI takes a preference; only the processor alone can be had for sure.
        var coreAI: SpecializationOptions {
            switch self {
            case .all: return .default
            case .cpuOnly: return .cpuOnly
            case .cpuAndGPU: return SpecializationOptions(preferredComputeUnitKind: .gpu)
            case .cpuAndNeuralEngine: return SpecializationOptions(preferredComputeUnitKind: .neuralEngine)
            }
        }
    }

    private final class Outcome<Value: Sendable>: @unchecked Sendable {
        var result: Result<Value, any Error>?
    }

    /// The result of asynchronous work; the calling thread, the worker's own, waits for it.
    private func waitFor<Value: Sendable>(_ work: @escaping @Sendable () async throws -> Value) throws -> Value {
        let (outcome, done) = (Outcome<Value>(), DispatchSemaphore(value: 0))
        Task.detached(priority: .userInitiated) {
            do {
                outcome.result = .success(try await work())
            } catch {
                outcome.result = .failure(error)
            }
            done.signal()
        }
        done.wait()
        guard let result = outcome.result else { throw EdgeError("Core AI gave no answer") }
        return try result.get()
    }
#endif
