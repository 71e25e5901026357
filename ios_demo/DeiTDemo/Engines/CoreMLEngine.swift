import CoreML
import EdgeCore
import Foundation

/// Core ML, fed with a multi-array or with an image of the model's own size: nothing is scaled here.
final class CoreMLEngine: Engine {
    /// Where the model's input is written, once for every photo.
    private enum Source {
        case array(MLMultiArray)
        case image(PixelBuffer)
    }

    let runner: String
    let threads: Int? = nil
    private let model: MLModel
    private let manifest: Manifest
    private let source: Source

    init(_ artefact: BundledArtefact, units: ComputeUnits) throws {
        manifest = artefact.manifest
        model = try loadCoreML(artefact, units: units)
        let declared = model.modelDescription.inputDescriptionsByName[manifest.input.name]
        source = try Self.source(manifest, declared)
        runner = "Core ML, \(units.rawValue)"
    }

    private static func source(_ manifest: Manifest, _ declared: MLFeatureDescription?) throws -> Source {
        let (name, shape) = (manifest.input.name, manifest.input.shape)
        let wrong = EdgeError("\(manifest.artefact) has no input \(name) of shape \(shape); export it again")
        if manifest.contract.takesImage {
            let size = manifest.preprocessing.cropSize
            let constraint = declared?.imageConstraint
            guard constraint?.pixelsWide == size, constraint?.pixelsHigh == size else { throw wrong }
            return .image(try PixelBuffer(size: size))
        }
        let numbers = shape.map { NSNumber(value: $0) }
        guard declared?.multiArrayConstraint?.shape == numbers else { throw wrong }
        return .array(try MLMultiArray(shape: numbers, dataType: .float32))
    }

    func predict(_ input: ModelInput) throws -> [Float] {
        let features = try MLDictionaryFeatureProvider(dictionary: [manifest.input.name: try value(input)])
        let output = try model.prediction(from: features)
        if let name = model.modelDescription.predictedProbabilitiesName {
            return try scores(output.featureValue(for: name)?.dictionaryValue ?? [:])
        }
        guard let returned = output.featureValue(for: manifest.output.name)?.multiArrayValue else {
            throw EdgeError("\(manifest.artefact) returns no \(manifest.output.name); export it again")
        }
        return values(of: returned)
    }

    private func value(_ input: ModelInput) throws -> MLFeatureValue {
        switch (input, source) {
        case let (.pixels(pixels), .array(array)):
            try fill(array, pixels)
            return MLFeatureValue(multiArray: array)
        case let (.image(image), .image(buffer)):
            try buffer.fill(image)
            return MLFeatureValue(pixelBuffer: buffer.buffer)
        default:
            throw EdgeError("\(manifest.artefact) takes \(manifest.input.dtype); another input was made for it")
        }
    }

    private func fill(_ array: MLMultiArray, _ pixels: PixelTensor) throws {
        guard pixels.shape == manifest.input.shape else {
            throw EdgeError("pixels are \(pixels.shape), the model takes \(manifest.input.shape)")
        }
        let size = pixels.size
        array.withUnsafeMutableBytes { bytes, strides in
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

    /// A classifier's probabilities by name, in the order of the labels.
    private func scores(_ found: [AnyHashable: NSNumber]) throws -> [Float] {
        let named = found.compactMap { name, score in (name as? String).map { ($0, score.floatValue) } }
        return try probabilities(byName: Dictionary(named, uniquingKeysWith: max), labels: manifest.labels)
    }

    /// (1, K) in whatever precision Core ML returned it.
    private func values(of returned: MLMultiArray) -> [Float] {
        guard returned.dataType == .float32, let stride = returned.strides.last?.intValue else {
            return (0..<returned.count).map { returned[$0].floatValue }
        }
        return returned.withUnsafeBytes { bytes in
            let source = bytes.bindMemory(to: Float.self)
            return (0..<returned.count).map { source[$0 * stride] }
        }
    }
}

/// The artefact in Core ML, on these compute units.
func loadCoreML(_ artefact: BundledArtefact, units: ComputeUnits) throws -> MLModel {
    try MLModel(contentsOf: artefact.url, configuration: units.configuration)
}

extension ComputeUnits {
    /// A new one for each caller.
    var configuration: MLModelConfiguration {
        let made = MLModelConfiguration()
        made.computeUnits = coreML
        return made
    }

    var coreML: MLComputeUnits {
        switch self {
        case .all: return .all
        case .cpuOnly: return .cpuOnly
        case .cpuAndGPU: return .cpuAndGPU
        case .cpuAndNeuralEngine: return .cpuAndNeuralEngine
        }
    }
}
