import CoreML
import EdgeCore
import Foundation

/// Core ML, fed with a multi-array: Vision would crop and scale the photo in its own way.
final class CoreMLEngine: Engine {
    let runner: String
    let threads: Int? = nil
    private let model: MLModel
    private let manifest: Manifest
    private let input: MLMultiArray

    init(_ artefact: BundledArtefact, units: ComputeUnits) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units.coreML
        manifest = artefact.manifest
        model = try MLModel(contentsOf: artefact.url, configuration: configuration)
        let shape = manifest.input.shape.map { NSNumber(value: $0) }
        let declared = model.modelDescription.inputDescriptionsByName[manifest.input.name]
        guard declared?.multiArrayConstraint?.shape == shape else {
            throw EdgeError("\(artefact.id) has no input \(manifest.input.name) of shape \(manifest.input.shape)")
        }
        input = try MLMultiArray(shape: shape, dataType: .float32)
        runner = "Core ML, \(units.rawValue)"
    }

    func predict(_ pixels: PixelTensor) throws -> [Float] {
        try fill(pixels)
        let features = try MLDictionaryFeatureProvider(
            dictionary: [manifest.input.name: MLFeatureValue(multiArray: input)]
        )
        let output = try model.prediction(from: features)
        guard let logits = output.featureValue(for: manifest.output.name)?.multiArrayValue else {
            throw EdgeError("\(manifest.artefact) returns no \(manifest.output.name); export it again")
        }
        return values(of: logits)
    }

    private func fill(_ pixels: PixelTensor) throws {
        guard pixels.shape == manifest.input.shape else {
            throw EdgeError("pixels are \(pixels.shape), the model takes \(manifest.input.shape)")
        }
        let size = pixels.size
        input.withUnsafeMutableBytes { bytes, strides in
            let target = bytes.bindMemory(to: Float.self)
            for channel in 0..<3 {
                for row in 0..<size {
                    let start = channel * strides[1] + row * strides[2]
                    let source = (channel * size + row) * size
                    for column in 0..<size {
                        target[start + column * strides[3]] = pixels.values[source + column]
                    }
                }
            }
        }
    }

    /// (1, K) in whatever precision Core ML returned it.
    private func values(of logits: MLMultiArray) -> [Float] {
        guard logits.dataType == .float32, let stride = logits.strides.last?.intValue else {
            return (0..<logits.count).map { logits[$0].floatValue }
        }
        return logits.withUnsafeBytes { bytes in
            let source = bytes.bindMemory(to: Float.self)
            return (0..<logits.count).map { source[$0 * stride] }
        }
    }
}

extension ComputeUnits {
    var coreML: MLComputeUnits {
        switch self {
        case .all: return .all
        case .cpuOnly: return .cpuOnly
        case .cpuAndGPU: return .cpuAndGPU
        case .cpuAndNeuralEngine: return .cpuAndNeuralEngine
        }
    }
}
