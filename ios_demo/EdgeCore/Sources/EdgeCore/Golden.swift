import Foundation

/// `golden_spec.json`: the model and the rules that the cases were computed with.
public struct GoldenSpec: Decodable, Equatable, Sendable {
    public static let schema = 1

    public let artefact: String
    public let model: String
    /// What the artefact returns; of probabilities the cases hold the logarithms.
    public let output: TensorDescription
    public let preprocessing: PreprocessSpec
    public let labels: [String]
    public let labelsSha256: String
    public let topK: Int

    enum CodingKeys: String, CodingKey {
        case artefact, model, output, preprocessing, labels
        case labelsSha256 = "labels_sha256"
        case topK = "top_k"
    }
}

/// `golden_cases.json`: what Python computed and a port must reproduce.
public struct GoldenCases: Decodable, Equatable, Sendable {
    public static let schema = 2

    /// Raw pixels and what they must become, bit for bit: a square of bytes, and a tensor.
    public struct Image: Decodable, Equatable, Sendable {
        public let name: String
        public let width: Int
        public let height: Int
        public let orientation: Int
        public let pixels: GoldenPixels
        public let preprocessing: PreprocessSpec
        public let bytesSha256: String
        public let tensorSha256: String
        public let samples: [Sample]

        enum CodingKeys: String, CodingKey {
            case name, width, height, orientation, pixels, preprocessing, samples
            case bytesSha256 = "bytes_sha256"
            case tensorSha256 = "tensor_sha256"
        }
    }

    /// `[flat index, value]`.
    public struct Sample: Decodable, Equatable, Sendable {
        public let index: Int
        public let value: Float

        public init(from decoder: Decoder) throws {
            var pair = try decoder.unkeyedContainer()
            index = try pair.decode(Int.self)
            value = Float(try pair.decode(Double.self))
        }
    }

    /// An image file, and the rows of red, green, blue bytes that the device's decoder must make of it.
    public struct File: Decodable, Equatable, Sendable {
        public let name: String
        public let png: Data
        public let width: Int
        public let height: Int
        public let rgbSha256: String

        enum CodingKeys: String, CodingKey {
            case name, png, width, height
            case rgbSha256 = "rgb_sha256"
        }
    }

    /// A camera's frame and the upright pixels that must come of it; one without an answer must be refused.
    public struct Frame: Decodable, Equatable, Sendable {
        public let name: String
        public let width: Int
        public let height: Int
        public let turn: Int
        public let matrix: YuvColors.Matrix
        public let range: YuvColors.Range
        public let buffer: FrameBytes
        public let planes: [Plane]
        public let rgbSha256: String?

        enum CodingKeys: String, CodingKey {
            case name, width, height, turn, matrix, range, buffer, planes
            case rgbSha256 = "rgb_sha256"
        }
    }

    /// Logits with their probabilities, to 1e-6, and the order of the largest, exactly.
    public struct Classification: Decodable, Equatable, Sendable {
        public let name: String
        /// The image case that the file `artefact` answered with these logits; both are nil where they were made up.
        public let image: String?
        public let artefact: String?
        public let logits: [Double]
        public let probabilities: [Double]
        public let top: [Int]
    }

    /// Logits that must be refused.
    public struct Refused: Decodable, Equatable, Sendable {
        public let name: String
        public let logits: [Logit]
    }

    /// A number, or the string `nan`, `inf` or `-inf`, which JSON has no numbers for.
    public struct Logit: Decodable, Equatable, Sendable {
        public let value: Float

        public init(from decoder: Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let number = try? container.decode(Double.self) {
                value = Float(number)
                return
            }
            switch try container.decode(String.self) {
            case "nan": value = .nan
            case "inf": value = .infinity
            case "-inf": value = -.infinity
            case let other: throw EdgeError("a logit is \"\(other)\"; it must be a number, nan, inf or -inf")
            }
        }
    }

    /// What the file `artefact` answered in Python to a photo of a folder, by its path in there.
    public struct Photo: Decodable, Equatable, Sendable {
        public let name: String
        public let sha256: String?
        public let artefact: String
        public let logits: [Double]
    }

    public let images: [Image]
    public let files: [File]
    public let frames: [Frame]
    public let classification: [Classification]
    public let refused: [Refused]
    public let photos: [Photo]
}

/// The two golden files of one bundle.
public struct GoldenFiles: Equatable, Sendable {
    public let spec: GoldenSpec
    public let cases: GoldenCases

    public init(spec: URL, cases: URL) throws {
        self.spec = try Self.decode(spec, known: GoldenSpec.schema)
        self.cases = try Self.decode(cases, known: GoldenCases.schema)
    }

    /// nil when the folder has neither file; one without the other is an error.
    public init?(in folder: URL) throws {
        let urls = ["golden_spec.json", "golden_cases.json"].map(folder.appendingPathComponent)
        guard urls.contains(where: { FileManager.default.fileExists(atPath: $0.path) }) else { return nil }
        try self.init(spec: urls[0], cases: urls[1])
    }

    private static func decode<Value: Decodable>(_ url: URL, known: Int) throws -> Value {
        let data = try readFile(url)
        try requireSchema(in: data, named: url.lastPathComponent, known: known)
        return try decodeJSON(Value.self, from: data, named: url.lastPathComponent)
    }
}
