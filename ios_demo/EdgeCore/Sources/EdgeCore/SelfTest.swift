import Foundation

/// What did not work, and why.
public struct Failure: Codable, Equatable, Sendable, Identifiable {
    public let name: String
    public let reason: String

    public init(name: String, reason: String) {
        self.name = name
        self.reason = reason
    }

    public var id: String { name + reason }
}

/// How many golden cases were run and which did not come out as Python's.
public struct SelfTestResult: Codable, Equatable, Sendable {
    public fileprivate(set) var images = 0
    public fileprivate(set) var frames = 0
    public fileprivate(set) var classifications = 0
    public fileprivate(set) var refusals = 0
    public fileprivate(set) var failures: [Failure] = []

    public var total: Int { images + frames + classifications + refusals }
    /// A run without cases has shown nothing and does not pass.
    public var passed: Bool { total > 0 && failures.isEmpty }

    fileprivate mutating func record(
        _ kind: WritableKeyPath<SelfTestResult, Int>, _ name: String, _ check: () throws -> String?
    ) {
        self[keyPath: kind] += 1
        do {
            if let reason = try check() { failures.append(Failure(name: name, reason: reason)) }
        } catch {
            failures.append(Failure(name: name, reason: error.localizedDescription))
        }
    }
}

extension GoldenFiles {
    /// Runs every case; `progress` hears how many are done and how many there are.
    ///
    /// `decode` makes an upright photo of an image file; nil where this machine has no decoder, which leaves those
    /// cases out.
    ///
    /// Stops with CancellationError when the task is cancelled.
    public func selfTest(
        decode: ((Data) throws -> RGBImage)? = nil, progress: (Int, Int) -> Void = { _, _ in }
    ) throws -> SelfTestResult {
        var result = SelfTestResult()
        let files = decode == nil ? [] : cases.files
        let total = cases.images.count + files.count + cases.frames.count + cases.classification.count
            + cases.refused.count + 1
        func step() throws {
            progress(result.total, total)
            try Task.checkCancellation()
        }
        result.record(\.classifications, "labels") { checkLabels() }
        for image in cases.images {
            try step()
            result.record(\.images, image.name) { try image.mismatch() }
        }
        for file in files {
            try step()
            result.record(\.images, file.name) { try decode.map { try file.mismatch($0) } ?? nil }
        }
        for frame in cases.frames {
            try step()
            result.record(\.frames, frame.name) { try frame.mismatch() }
        }
        for classification in cases.classification {
            try step()
            result.record(\.classifications, classification.name) {
                try classification.mismatch(top: spec.topK)
            }
        }
        for refused in cases.refused {
            try step()
            result.record(\.refusals, refused.name) { refused.mismatch(labels: spec.labels) }
        }
        progress(result.total, total)
        return result
    }

    private func checkLabels() -> String? {
        let digest = SHA256Digest.hex(Array(spec.labels.joined(separator: "\n").utf8))
        return digest == spec.labelsSha256 ? nil : "sha256 of the labels is \(digest)"
    }
}

extension GoldenCases.File {
    /// What is wrong with the decoder, or nil.
    func mismatch(_ decode: (Data) throws -> RGBImage) throws -> String? {
        let image = try decode(png)
        guard image.width == width, image.height == height else {
            return "it is \(image.width) x \(image.height), not \(width) x \(height)"
        }
        guard SHA256Digest.hex(image.pixels) == rgbSha256 else {
            return "the decoder changes the stored values; are colours converted?"
        }
        return nil
    }
}

extension GoldenCases.Frame {
    /// The upright pixels. Raises where the planes do not hold the frame, or it cannot be turned so.
    func upright() throws -> RGBImage {
        guard planes.count == 3 else { throw EdgeError("a frame of \(planes.count) planes; it must have three") }
        let bytes = buffer.bytes()
        let frame = try Frame(
            width: width, height: height, y: planes[0], u: planes[1], v: planes[2], count: bytes.count,
            colors: YuvColors(matrix, range)
        )
        return try bytes.withUnsafeBytes { try frame.upright(turn: turn, of: $0) }
    }

    /// What is wrong with the conversion, or nil.
    func mismatch() throws -> String? {
        let image: RGBImage
        do {
            image = try upright()
        } catch let error as EdgeError {
            return rgbSha256 == nil ? nil : error.message
        }
        guard let rgbSha256 else { return "it was converted; it must be refused" }
        return SHA256Digest.hex(image.pixels) == rgbSha256 ? nil : "the pixels differ"
    }
}

extension GoldenCases.Image {
    /// What is wrong with the tensor, or nil.
    func mismatch() throws -> String? {
        let image = try pixels.image(width: width, height: height)
        let tensor = try preprocessing.tensor(from: image, orientation: orientation)
        if SHA256Digest.hex(littleEndianBytes(tensor.values)) == tensorSha256 {
            let square = try preprocessing.square(from: image, orientation: orientation)
            let found = SHA256Digest.hex(square.pixels)
            return found == bytesSha256 ? nil : "sha256 of the bytes is \(found)"
        }
        for sample in samples {
            guard tensor.values.indices.contains(sample.index) else {
                return "the tensor has \(tensor.values.count) values, none at \(sample.index)"
            }
            let value = tensor.values[sample.index]
            if value != sample.value { return "value \(sample.index) is \(value), not \(sample.value)" }
        }
        return "the tensor's sha256 differs, though all samples agree"
    }
}

extension GoldenCases.Classification {
    static let tolerance = 1e-6

    func mismatch(top k: Int) throws -> String? {
        let values = logits.map { Float($0) }
        guard probabilities.count == values.count else {
            return "\(values.count) logits have \(probabilities.count) probabilities"
        }
        for (index, pair) in zip(try softmax(values), probabilities).enumerated()
        where !(abs(pair.0 - pair.1) <= Self.tolerance) {
            return "probability \(index) is \(pair.0), not \(pair.1)"
        }
        let order = try topK(values, k)
        return order == top ? nil : "top is \(order), not \(top)"
    }
}

extension GoldenCases.Refused {
    func mismatch(labels: [String]) -> String? {
        do {
            _ = try rank(logits.map(\.value), labels: labels, top: 1)
            return "these logits were not refused"
        } catch {
            return nil  // the refusal that was asked for
        }
    }
}
