import Foundation

/// `bundle.json`: which artefacts `edge_deit.bundle` placed in the app.
struct BundleIndex: Decodable {
    struct Entry: Decodable {
        let file: String
        let manifest: String
        let sha256: String
    }

    let schema: Int
    let artefacts: [Entry]
}

/// One bundled artefact: its manifest and where it lies.
public struct BundledArtefact: Equatable, Sendable, Identifiable {
    public let manifest: Manifest
    /// The file as it was bundled; Xcode turns `NAME.mlpackage` into `NAME.mlmodelc`, and then that is named.
    public let url: URL

    public var id: String { manifest.artefact }

    public init(manifest: Manifest, url: URL) {
        self.manifest = manifest
        self.url = url
    }
}

/// All bundled artefacts of an app; they share weights, labels and preprocessing.
public struct Library: Equatable, Sendable {
    public static let schema = 1

    public let artefacts: [BundledArtefact]
    public let labels: [String]
    public let preprocessing: PreprocessSpec
    /// nil where the bundle brought no golden files.
    public let golden: GoldenFiles?

    /// Reads the folder that `edge_deit.bundle` filled; nil when nothing is bundled.
    public static func read(_ folder: URL) throws -> Library? {
        let index = folder.appendingPathComponent("bundle.json")
        guard FileManager.default.fileExists(atPath: index.path) else { return nil }
        let data = try readFile(index)
        try requireSchema(in: data, named: "bundle.json", known: schema)
        let entries = try decodeJSON(BundleIndex.self, from: data, named: "bundle.json").artefacts
        return try Library(artefacts: entries.map { try artefact($0, in: folder) }, golden: GoldenFiles(in: folder))
    }

    private init(artefacts: [BundledArtefact], golden: GoldenFiles?) throws {
        guard let first = artefacts.first?.manifest else {
            throw EdgeError("bundle.json names no artefact; bundle the model again")
        }
        for other in artefacts.map(\.manifest) {
            let same = other.weights == first.weights && other.labels == first.labels
                && other.preprocessing == first.preprocessing
            guard same else {
                throw EdgeError(
                    "\(other.artefact) and \(first.artefact) differ in weights, labels or preprocessing; "
                        + "bundle them again, together"
                )
            }
        }
        self.artefacts = artefacts
        labels = first.labels
        preprocessing = first.preprocessing
        self.golden = golden
    }

    private static func artefact(_ entry: BundleIndex.Entry, in folder: URL) throws -> BundledArtefact {
        let manifest = try Manifest.read(folder.appendingPathComponent(entry.manifest))
        guard manifest.artefact == entry.file, manifest.sha256 == entry.sha256 else {
            throw EdgeError("\(entry.manifest) does not describe \(entry.file); bundle the model again")
        }
        let bundled = folder.appendingPathComponent(entry.file)
        let compiled = ["mlmodelc", "aimodelc"].map { bundled.deletingPathExtension().appendingPathExtension($0) }
        for url in [bundled] + compiled where FileManager.default.fileExists(atPath: url.path) {
            return BundledArtefact(manifest: manifest, url: url)
        }
        throw EdgeError("\(entry.file) is not in the app; bundle the model and build the app again")
    }
}
