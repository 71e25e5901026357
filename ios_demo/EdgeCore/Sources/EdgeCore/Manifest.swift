import Foundation

/// Name, shape and type of a model's input or output.
public struct TensorDescription: Codable, Equatable, Sendable {
    public let name: String
    public let shape: [Int]
    public let dtype: String
}

/// What `edge_deit.export` writes beside an artefact, as far as an app needs it.
public struct Manifest: Codable, Equatable, Sendable {
    public static let schema = 1

    public struct Weights: Codable, Equatable, Sendable {
        public let sha256: String
    }

    public let schema: Int
    public let artefact: String
    public let sha256: String
    public let sizeBytes: Int
    public let target: String
    public let backend: String
    public let precision: String
    public let model: String
    public let task: String
    public let weights: Weights
    public let input: TensorDescription
    public let output: TensorDescription
    public let preprocessing: PreprocessSpec
    public let labels: [String]

    enum CodingKeys: String, CodingKey {
        case schema, artefact, sha256, target, backend, precision, model, task, weights, input, output
        case preprocessing, labels
        case sizeBytes = "size_bytes"
    }

    /// Decodes and checks a manifest; `name` is the file's, for messages.
    public static func decode(_ data: Data, named name: String) throws -> Manifest {
        try requireSchema(in: data, named: name, known: schema)
        let manifest = try decodeJSON(Manifest.self, from: data, named: name)
        try manifest.check(name)
        return manifest
    }

    public static func read(_ url: URL) throws -> Manifest {
        try decode(readFile(url), named: url.lastPathComponent)
    }

    private func check(_ name: String) throws {
        guard task == "classification" else {
            throw EdgeError("\(name): the model returns \(task), this app shows classes")
        }
        let size = preprocessing.cropSize
        guard ["float32", "uint8"].contains(input.dtype) else {
            throw EdgeError("\(name): input is \(input.dtype); this app makes float32 pixels or uint8 images")
        }
        let expected = contract.takesImage ? [1, size, size, 3] : [1, 3, size, size]
        guard input.shape == expected else {
            throw EdgeError("\(name): input is \(input.dtype) \(input.shape), preprocessing makes \(expected)")
        }
        guard output.shape == [1, labels.count], output.dtype == "float32" else {
            throw EdgeError("\(name): output is \(output.dtype) \(output.shape) for \(labels.count) labels")
        }
    }
}
