import Foundation

/// A photo as it is stored and decoded here. `sha256` is that of its file, nil where there is none.
public struct StoredPhoto: Sendable {
    public let sha256: String?
    public let image: RGBImage
    public let orientation: Int

    public init(sha256: String?, image: RGBImage, orientation: Int = 1) {
        self.sha256 = sha256
        self.image = image
        self.orientation = orientation
    }
}

/// A photo that a folder run takes, by its path in the folder; `read` decodes it, or throws why it cannot.
public struct FolderPhoto {
    public let name: String
    public let read: () throws -> StoredPhoto

    public init(name: String, read: @escaping () throws -> StoredPhoto) {
        self.name = name
        self.read = read
    }
}

/// How a folder run ended.
public struct FolderResult: Encodable, Equatable, Sendable {
    /// One compared photo: the first answers of this device and of Python, and how far the logits are apart.
    public struct Row: Encodable, Equatable, Sendable, Identifiable {
        public let name: String
        public let answer: String
        public let expected: String
        public let snrDb: Double

        public var id: String { name }

        enum CodingKeys: String, CodingKey {
            case name, answer, expected
            case snrDb = "snr_db"
        }
    }

    public let artefact: String
    /// The file whose answers these were compared with; nil where none were compared.
    public let reference: String?
    /// Photos that were tried; fewer than the folder has where the run was stopped.
    public let photos: Int
    public let compared: Int
    public let sameTop: Int
    /// Signal to noise of all compared logits, less their means; nil where none were compared.
    public let snrDb: Double?
    /// The photos that are furthest from Python, the furthest first.
    public let worst: [Row]
    /// The first photos that could not be compared; `skippedCount` counts all.
    public let skipped: [Failure]
    public let skippedCount: Int

    enum CodingKeys: String, CodingKey {
        case artefact, reference, photos, compared, worst, skipped
        case sameTop = "same_top"
        case snrDb = "snr_db"
        case skippedCount = "skipped_count"
    }
}

/// Runs a model over photos, one at a time, and compares with what Python answered.
///
/// A photo that cannot be read, has no answer or is not the file that Python saw is skipped with its reason; a runtime
/// that fails ends the run. `progress` is told how many photos are done, and stops the run by returning false.
public func runFolder(
    _ photos: [FolderPhoto], answers: [GoldenCases.Photo], manifest: Manifest,
    predict: (ModelInput) throws -> [Float], progress: (Int) -> Bool = { _ in true }
) throws -> FolderResult {
    guard !photos.isEmpty else { throw EdgeError("the folder holds no photo; choose another one") }
    let reference = answers.contains { $0.artefact == manifest.artefact } ? manifest.artefact : answers.first?.artefact
    let own = answers.filter { $0.artefact == reference }
    let known = Dictionary(own.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    var tally = FolderTally(manifest: manifest)
    for (index, photo) in photos.enumerated() {
        if let answer = known[photo.name] {
            if let input = tally.input(of: photo, answer) { try tally.add(answer, predict(input)) }
        } else {
            tally.skip(photo.name, "Python's answers have no such photo")
        }
        guard progress(index + 1) else { break }
    }
    return tally.result(reference)
}

/// Sums, so that a thousand photos take the memory of a few.
private struct FolderTally {
    let manifest: Manifest
    private var worst: [FolderResult.Row] = []
    private var skipped: [Failure] = []
    private var skippedCount = 0
    private var compared = 0
    private var sameTop = 0
    private var signal = 0.0
    private var noise = 0.0
    private static let shown = 10

    init(manifest: Manifest) {
        self.manifest = manifest
    }

    mutating func skip(_ name: String, _ reason: String) {
        skippedCount += 1
        if skipped.count < Self.shown { skipped.append(Failure(name: name, reason: reason)) }
    }

    /// nil where the photo cannot be read or is another one; then it is skipped.
    mutating func input(of photo: FolderPhoto, _ answer: GoldenCases.Photo) -> ModelInput? {
        do {
            let stored = try photo.read()
            if let given = answer.sha256, let found = stored.sha256, given != found {
                throw EdgeError("it is not the file that Python answered (sha256 differs)")
            }
            return try manifest.contract.input(
                stored.image, orientation: stored.orientation, spec: manifest.preprocessing
            )
        } catch {
            skip(photo.name, error.localizedDescription)
            return nil
        }
    }

    mutating func add(_ answer: GoldenCases.Photo, _ returned: [Float]) throws {
        let logits = manifest.contract.logits(returned)
        guard logits.count == answer.logits.count, logits.count == manifest.labels.count else {
            throw EdgeError(
                "\(manifest.artefact) returns \(logits.count) values, Python's answers have \(answer.logits.count); "
                    + "write them again for this model"
            )
        }
        guard logits.allSatisfy(\.isFinite) else {
            return skip(answer.name, "the model returned NaN or infinite logits")
        }
        let (first, expected) = (try topK(logits, 1)[0], try topK(answer.logits.map { Float($0) }, 1)[0])
        compared += 1
        if first == expected { sameTop += 1 }
        let (own, here) = (centred(answer.logits), centred(logits.map { Double($0) }))
        let ownSignal = own.reduce(0) { $0 + $1 * $1 }
        let ownNoise = zip(own, here).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
        signal += ownSignal
        noise += ownNoise
        let row = FolderResult.Row(
            name: answer.name, answer: manifest.labels[first], expected: manifest.labels[expected],
            snrDb: decibels(ownSignal, ownNoise)
        )
        worst.insert(row, at: worst.firstIndex { $0.snrDb > row.snrDb } ?? worst.count)
        if worst.count > Self.shown { worst.removeLast() }
    }

    func result(_ reference: String?) -> FolderResult {
        FolderResult(
            artefact: manifest.artefact, reference: compared == 0 ? nil : reference, photos: compared + skippedCount,
            compared: compared, sameTop: sameTop, snrDb: compared == 0 ? nil : decibels(signal, noise), worst: worst,
            skipped: skipped, skippedCount: skippedCount
        )
    }
}

/// 10 log10(signal / noise), at most what stands for equal logits; as `edge_deit/metrics/outputs.py` has it.
func decibels(_ signal: Double, _ noise: Double) -> Double {
    let equal = 200.0
    return noise > 0 ? min(equal, 10 * log10(max(signal, 1e-300) / noise)) : equal
}

extension GoldenFiles {
    /// The golden images that a file answered in Python, as photos of a folder, with the answers.
    public func folder(for artefact: String) throws -> (photos: [FolderPhoto], answers: [GoldenCases.Photo]) {
        let pairs = try modelCases(artefact)
        let photos = pairs.map { pair in FolderPhoto(name: pair.image.name) { try pair.image.stored() } }
        let answers = pairs.map { pair in
            GoldenCases.Photo(
                name: pair.image.name, sha256: nil, artefact: pair.answer.artefact ?? spec.artefact,
                logits: pair.answer.logits
            )
        }
        return (photos, answers)
    }

    /// The golden images of the model's own preprocessing that are photos: samples for a device that has none.
    public var samples: [GoldenCases.Image] {
        let own = cases.images.filter { $0.preprocessing == spec.preprocessing }
        let photos = own.filter(\.isStored)
        return photos.isEmpty ? own : photos
    }

    /// Python's first answer to a sample; nil where it answered none.
    public func expectedLabel(_ sample: String) -> String? {
        guard let answer = cases.classification.first(where: { $0.image == sample }), let top = answer.top.first,
            spec.labels.indices.contains(top)
        else { return nil }
        return spec.labels[top]
    }
}

extension GoldenCases.Image {
    /// Whether the pixels are those of a photo, not made by the contract's hash.
    var isStored: Bool {
        if case .bytes = pixels { return true }
        return false
    }

    /// The photo as it is stored.
    public func stored() throws -> StoredPhoto {
        StoredPhoto(
            sha256: nil, image: try pixels.image(width: width, height: height), orientation: orientation
        )
    }
}

/// The photos of a folder and of the folders in it, by their paths, sorted; hidden files are none.
public func photoPaths(in folder: URL) throws -> [String] {
    do {
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
        return names.filter { path in
            let hidden = path.split(separator: "/").contains { $0.hasPrefix(".") }
            let suffix = path.split(separator: ".").last.map { $0.lowercased() } ?? ""
            return !hidden && photoSuffixes.contains(suffix)
        }.sorted()
    } catch {
        throw EdgeError("\(folder.lastPathComponent) cannot be read: \(error.localizedDescription)")
    }
}

private let photoSuffixes: Set = ["jpg", "jpeg", "png", "webp", "bmp", "tif", "tiff", "gif", "heic"]
