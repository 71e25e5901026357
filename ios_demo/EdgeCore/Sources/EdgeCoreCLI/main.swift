import EdgeCore
import Foundation

let usage = """
    usage: edgecore-cli preprocess MANIFEST.json RAW.rgb WIDTH HEIGHT ORIENTATION OUT
           edgecore-cli rank MANIFEST.json RETURNED.f32
           edgecore-cli golden SPEC.json CASES.json
           edgecore-cli folder CASES.json MANIFEST.json RETURNED
           edgecore-cli bundle FOLDER
           edgecore-cli report MANIFEST.json MEASURED.json
    """

func bytes(_ path: String) throws -> Data {
    guard let data = FileManager.default.contents(atPath: path) else {
        throw EdgeError("\(path) cannot be read")
    }
    return data
}

func number(_ text: String, _ name: String) throws -> Int {
    guard let value = Int(text) else { throw EdgeError("\(name) is \(text); it must be a whole number") }
    return value
}

func manifest(_ path: String) throws -> Manifest {
    try Manifest.decode(bytes(path), named: path)
}

func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    print(String(decoding: try encoder.encode(value), as: UTF8.self))
}

func preprocess(_ arguments: [String]) throws {
    let image = try RGBImage(
        width: number(arguments[2], "WIDTH"), height: number(arguments[3], "HEIGHT"),
        pixels: [UInt8](bytes(arguments[1]))
    )
    let manifest = try manifest(arguments[0])
    let orientation = try number(arguments[4], "ORIENTATION")
    let made: [UInt8]
    switch try manifest.contract.input(image, orientation: orientation, spec: manifest.preprocessing) {
    case let .pixels(tensor): made = littleEndianBytes(tensor.values)
    case let .image(square): made = square.pixels
    }
    try Data(made).write(to: URL(fileURLWithPath: arguments[5]), options: .atomic)
}

func rankFile(_ arguments: [String]) throws {
    let returned = try floats(littleEndian: bytes(arguments[1]))
    let manifest = try manifest(arguments[0])
    try printJSON(rank(manifest.contract.logits(returned), labels: manifest.labels, top: 5))
}

/// False when a case failed.
func golden(_ arguments: [String]) throws -> Bool {
    let urls = arguments.map { URL(fileURLWithPath: $0) }
    let result = try GoldenFiles(spec: urls[0], cases: urls[1]).selfTest()
    try printJSON(result)
    return result.passed
}

/// A folder run over what a model returned for each photo: NAME.f32 in a folder.
func folder(_ arguments: [String]) throws {
    let returned = URL(fileURLWithPath: arguments[2])
    let manifest = try manifest(arguments[1])
    let answers = try JSONDecoder().decode(GoldenCases.self, from: bytes(arguments[0])).photos
    var name = ""
    func path(_ name: String) -> String { returned.appendingPathComponent("\(name).f32").path }
    let black = try RGBImage(width: 1, height: 1, pixels: [0, 0, 0])
    let photos = answers.map { answer in
        FolderPhoto(name: answer.name) {
            name = answer.name
            guard FileManager.default.fileExists(atPath: path(name)) else { throw EdgeError("\(name) cannot be read") }
            return StoredPhoto(sha256: answer.sha256, image: black)
        }
    }
    let result = try runFolder(photos, answers: answers, manifest: manifest, predict: { _ in
        try floats(littleEndian: bytes(path(name)))
    })
    try printJSON(result)
}

/// What the app would find in a folder that `edge_deit.bundle` filled.
func bundle(_ folder: String) throws {
    struct Found: Encodable {
        let artefacts: [String: String]  // name -> file
        let labels: [String]
        let golden: SelfTestResult?
    }
    guard let library = try Library.read(URL(fileURLWithPath: folder)) else {
        throw EdgeError("\(folder) has no bundle.json")
    }
    let files = library.artefacts.map { ($0.id, $0.url.lastPathComponent) }
    try printJSON(
        Found(
            artefacts: Dictionary(uniqueKeysWithValues: files), labels: library.labels,
            golden: library.golden?.selfTest()
        )
    )
}

/// What was measured of a file, to make a device report of it.
struct Measured: Decodable {
    struct Check: Decodable {
        let reference: String
        let images: Int
        let sameTop: Int
        let cosine: Double
    }

    struct Planned: Decodable {
        let processor: Residency.Processor
        let weight: Double?
    }

    let runner: String
    let loadMs: Double
    let loadWarmMs: Double
    let firstRunMs: Double
    let latencyMs: [Double]
    let preprocessMs: [Double]
    let check: Check?
    let plan: [Planned]?
    let notes: [String: String]
}

/// The device report that the app would share, of an unnamed device.
func report(_ arguments: [String]) throws {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    let manifest = try manifest(arguments[0])
    let measured = try decoder.decode(Measured.self, from: bytes(arguments[1]))
    let check = measured.check.map {
        ModelCheck(
            artefact: manifest.artefact, runner: measured.runner, reference: $0.reference, images: $0.images,
            sameTop: $0.sameTop, cosine: $0.cosine
        )
    }
    let residency = try measured.plan.map { plan in
        try Residency(plan.map { Residency.Operator($0.processor, weight: $0.weight) })
    }
    let row = try ArtefactReport(
        manifest: manifest, runner: measured.runner, threads: nil,
        timings: Timings(
            loadMs: measured.loadMs, loadWarmMs: measured.loadWarmMs, firstRunMs: measured.firstRunMs,
            preprocessMs: measured.preprocessMs, latencyMs: measured.latencyMs
        ),
        peakRssBytes: nil, check: check, residency: residency, notes: measured.notes
    )
    let made = DeviceReport(
        created: .now, app: .init(name: "edge-deit-ios", version: "0", build: "debug"),
        device: .init(manufacturer: "Apple", model: "unnamed", os: "iOS", osVersion: "0", soc: nil, cores: 1),
        conditions: .init(
            thermalBegin: nil, thermalEnd: nil, powerSaver: nil, leftForeground: false, screenKeptOn: true
        ),
        artefacts: [row]
    )
    print(String(decoding: try made.json(), as: UTF8.self))
}

/// Exit code: 0 done, 1 a golden case failed, 2 bad input.
func run(_ arguments: [String]) throws -> Int32 {
    let rest = Array(arguments.dropFirst())
    switch (arguments.first, rest.count) {
    case ("preprocess", 6): try preprocess(rest)
    case ("rank", 2): try rankFile(rest)
    case ("bundle", 1): try bundle(rest[0])
    case ("folder", 3): try folder(rest)
    case ("report", 2): try report(rest)
    case ("golden", 2): return try golden(rest) ? 0 : 1
    default: throw EdgeError(usage)
    }
    return 0
}

do {
    exit(try run(Array(CommandLine.arguments.dropFirst())))
} catch {
    FileHandle.standardError.write(Data("edgecore-cli: \(error.localizedDescription)\n".utf8))
    exit(2)
}
