import Foundation

/// What a model is fed with.
public enum ModelInput: Equatable, Sendable {
    /// Normalised pixels, float32 (1, 3, size, size).
    case pixels(PixelTensor)
    /// A photo's bytes, uint8 (1, size, size, 3): rows of red, green, blue.
    case image(RGBImage)
}

/// What lies between a photo and a file, and between the file and logits, as its manifest says.
///
/// The same as `edge_deit/artefacts/contract.py`: a file takes pixels or a photo's bytes, and returns logits or
/// probabilities.
public struct Contract: Equatable, Sendable {
    public let takesImage: Bool
    public let returnsProbabilities: Bool

    /// What the file is fed with for raw pixels and their EXIF orientation.
    public func input(_ image: RGBImage, orientation: Int = 1, spec: PreprocessSpec) throws -> ModelInput {
        takesImage
            ? .image(try spec.square(from: image, orientation: orientation))
            : .pixels(try spec.tensor(from: image, orientation: orientation))
    }

    /// Logits of what the file returned; of probabilities their logarithms, up to a constant the logits.
    public func logits(_ returned: [Float]) -> [Float] {
        guard returnsProbabilities else { return returned }
        let least = Float.leastNormalMagnitude  // stands for a probability that became 0
        return returned.map { log($0 < least ? least : $0) }  // NaN stays NaN, which is refused later
    }
}

extension Manifest {
    public var contract: Contract {
        Contract(takesImage: input.dtype == "uint8", returnsProbabilities: output.name == "probabilities")
    }

    /// Whether the file is a classifier of images, which Vision can feed by itself.
    public var isForVision: Bool {
        target == "coreml" && contract.takesImage && contract.returnsProbabilities
    }
}

/// The names by which a Core ML classifier returns its classes, in the order of the labels: each once.
///
/// Labels that occur twice carry their index, as `class_names` of `exporters/mlpackage.py` has it.
public func classifierNames(_ labels: [String]) -> [String] {
    let counts = Dictionary(labels.map { ($0, 1) }, uniquingKeysWith: +)
    return labels.enumerated().map { index, label in
        counts[label, default: 0] > 1 ? "\(label) (\(index))" : label
    }
}

/// A classifier's scores by name as probabilities in the order of the labels.
public func probabilities<Score: BinaryFloatingPoint>(
    byName scores: [String: Score], labels: [String]
) throws -> [Float] {
    try classifierNames(labels).map { name in
        guard let score = scores[name] else {
            throw EdgeError("the model returns no score for \(name); export it again")
        }
        return Float(score)
    }
}
