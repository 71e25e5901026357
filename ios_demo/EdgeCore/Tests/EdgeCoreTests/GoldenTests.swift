import XCTest

@testable import EdgeCore

final class GoldenTests: XCTestCase {
    /// The files that the project's Python code wrote and committed.
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../../../tests/golden").standardizedFileURL

    func run(_ spec: String, _ cases: String) throws -> SelfTestResult {
        try goldenFiles(spec, cases).selfTest()
    }

    func goldenFiles(_ spec: String, _ cases: String) throws -> GoldenFiles {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let urls = ["spec.json", "cases.json"].map(folder.appendingPathComponent)
        try Data(spec.utf8).write(to: urls[0])
        try Data(cases.utf8).write(to: urls[1])
        return try GoldenFiles(spec: urls[0], cases: urls[1])
    }

    static let preprocessing = """
        {"resize": "none", "resize_size": 1, "crop_size": 1, "crop_rounding": "floor", "resample": "bicubic",
         "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
        """

    func spec(labels: [String] = ["a", "b"], output: String = "logits") -> String {
        """
        {"schema": 1, "artefact": "a.onnx", "model": "m", "preprocessing": \(Self.preprocessing), "top_k": 5,
         "output": {"name": "\(output)", "shape": [1, 2], "dtype": "float32"},
         "labels": \(labels), "labels_sha256": "\(SHA256Digest.hex(Array("a\nb".utf8)))"}
        """
    }

    /// One image of one pixel, one classification, one refusal, all right unless an argument says otherwise.
    func cases(
        digest: String? = nil, bytes: String? = nil, sample: Double = -1, top: [Int] = [1, 0],
        refused: String = "\"nan\"", answers: String? = nil, file: String = "a.onnx",
        images: String = "[]"
    ) -> String {
        let square = SHA256Digest.hex([0, 128, 0])
        let right = SHA256Digest.hex(littleEndianBytes([-1, (Float(128) / 255 - 0.5) / 0.5, -1]))
        return """
            {"schema": 2,
             "images": [{"name": "pixel", "width": 1, "height": 1, "orientation": 1, "pixels": {"base64": "AIAA"},
               "bytes_sha256": "\(bytes ?? square)", "tensor_sha256": "\(digest ?? right)", "samples": [[0, \(sample)]],
               "preprocessing": \(Self.preprocessing)}],
             "files": \(images), "frames": [], "photos": [],
             "classification": [{"name": "two", "image": \(answers.map { "\"\($0)\"" } ?? "null"),
               "artefact": \(answers == nil ? "null" : "\"\(file)\""), "logits": [0, 0.5], "probabilities": [0.377541, 0.622459],
               "top": \(top)}],
             "refused": [{"name": "bad", "logits": [1.0, \(refused)]}]}
            """
    }

    func testCommittedCasesPass() throws {
        var told: [Int] = []
        let files = try GoldenFiles(
            spec: Self.folder.appendingPathComponent("golden_spec.json"),
            cases: Self.folder.appendingPathComponent("golden_cases.json")
        )
        let result = try files.selfTest { done, total in
            told.append(done)
            XCTAssertLessThanOrEqual(done, total)
        }
        XCTAssertEqual(result.failures, [])
        XCTAssertTrue(result.passed)
        XCTAssertGreaterThan(result.images, 40)
        XCTAssertEqual(result.frames, files.cases.frames.count)
        XCTAssertGreaterThan(result.frames, 40)
        XCTAssertEqual(told, Array(1...result.total))
    }

    func testADecoderThatConvertsColoursIsFound() throws {
        let committed = try Data(contentsOf: Self.folder.appendingPathComponent("golden_cases.json"))
        let entries = try XCTUnwrap(JSONSerialization.jsonObject(with: committed) as? [String: Any])
        let images = try JSONSerialization.data(withJSONObject: try XCTUnwrap(entries["files"]))
        let files = try goldenFiles(spec(), cases(images: String(decoding: images, as: UTF8.self)))
        let stored = try GoldenPixels.hash(seed: 60, block: 1).image(width: 6, height: 5)
        XCTAssertEqual(files.cases.files.count, 2)
        let right = try files.selfTest(decode: { _ in stored })
        XCTAssertEqual(right.failures, [])
        XCTAssertEqual(right.total, try files.selfTest().total + 2)
        let plain = files.cases.files[0].png
        let other = try RGBImage(width: 6, height: 5, pixels: [UInt8](repeating: 0, count: 90))
        let wrong = try files.selfTest(decode: { $0 == plain ? stored : other })
        XCTAssertEqual(wrong.failures.map(\.name), ["a PNG in Display P3"])
        let turned = try RGBImage(width: 5, height: 6, pixels: stored.pixels)
        XCTAssertTrue(try files.selfTest(decode: { _ in turned }).failures[0].reason.contains("5 x 6"))
    }

    func testWrongAnswersAreFound() throws {
        XCTAssertTrue(try run(spec(), cases()).passed)
        XCTAssertEqual(try run(spec(), cases(digest: "0")).failures.map(\.name), ["pixel"])
        XCTAssertTrue(try run(spec(), cases(bytes: "0")).failures[0].reason.contains("of the bytes"))
        let wrong = try run(spec(), cases(digest: "0", sample: -0.5)).failures
        XCTAssertEqual(wrong.map(\.reason), ["value 0 is -1.0, not -0.5"])
        XCTAssertEqual(try run(spec(), cases(top: [0, 1])).failures.map(\.name), ["two"])
        XCTAssertEqual(try run(spec(), cases(refused: "2")).failures.map(\.name), ["bad"])
        XCTAssertTrue(try run(spec(), cases(refused: "2, 3")).passed)  // three logits for two labels
        XCTAssertEqual(try run(spec(labels: ["b", "a"]), cases()).failures.map(\.name), ["labels"])
    }

    func testDamagedFilesAreRefused() {
        XCTAssertThrowsError(try run(spec(), cases(refused: "\"minus\"")))
        XCTAssertThrowsError(try run(spec(), String(cases().prefix(100))))
        XCTAssertThrowsError(try run(spec(), "{\"schema\": 3}"))
    }

    func testAModelIsComparedWithTheGoldenLogits() throws {
        let named = cases(answers: "pixel")
        let files = try goldenFiles(spec(), named)
        let artefact = BundledArtefact(manifest: try manifest(), url: Self.folder)
        let same = try XCTUnwrap(files.check(artefact, runner: "r") { input in
            guard case let .pixels(pixels) = input else { throw EdgeError("not pixels") }
            XCTAssertEqual(pixels.values[0], -1)
            return [0, 0.5]
        })
        XCTAssertEqual([same.images, same.sameTop], [1, 1])
        XCTAssertEqual(same.reference, "a.onnx")
        let own = try goldenFiles(spec(), cases(answers: "pixel", file: "a.pte"))
        XCTAssertEqual(try own.check(artefact, runner: "r") { _ in [0, 1] }?.reference, "a.pte")
        let others = try goldenFiles(spec(), cases(answers: "pixel", file: "b.pte"))
        XCTAssertNil(try others.check(artefact, runner: "r") { _ in [0, 1] })
        XCTAssertEqual(same.cosine, 1, accuracy: 1e-12)
        let other = try XCTUnwrap(files.check(artefact, runner: "r") { _ in [0.5, 0] })
        XCTAssertEqual(other.sameTop, 0)
        XCTAssertEqual(other.cosine, -1, accuracy: 1e-12)
        XCTAssertThrowsError(try files.check(artefact, runner: "r") { _ in [1] })
        XCTAssertThrowsError(try files.check(artefact, runner: "r") { _ in [1, .nan] })
        XCTAssertNil(try goldenFiles(spec(), cases()).check(artefact, runner: "r") { _ in [0, 1] })
        XCTAssertThrowsError(try goldenFiles(spec(), cases(answers: "dot")).check(artefact, runner: "r") { _ in [0, 1] })
    }

    /// A right model answers the committed photos, which Python's bundled model answered too, like Python.
    func testCommittedAnswersAreARightModels() throws {
        let spec = Self.folder.appendingPathComponent("golden_spec.json")
        let files = try GoldenFiles(spec: spec, cases: Self.folder.appendingPathComponent("golden_cases.json"))
        let artefact = BundledArtefact(manifest: try committedManifest(spec), url: Self.folder)
        let pairs = try files.modelCases("another file")
        XCTAssertEqual(pairs.map(\.image.name), files.cases.classification.compactMap(\.image))
        let answers = Dictionary(
            uniqueKeysWithValues: pairs.map { ($0.image.tensorSha256, $0.answer.logits.map { Float($0) }) }
        )
        let found = try XCTUnwrap(files.check(artefact, runner: "r") { input in
            guard case let .pixels(pixels) = input else { throw EdgeError("not pixels") }
            return try XCTUnwrap(answers[SHA256Digest.hex(littleEndianBytes(pixels.values))])
        })
        XCTAssertEqual([found.images, found.sameTop], [4, 4])
        XCTAssertEqual(found.cosine, 1, accuracy: 1e-6)
        let turned = try XCTUnwrap(files.check(artefact, runner: "r") { input in
            guard case let .pixels(pixels) = input else { throw EdgeError("not pixels") }
            return try XCTUnwrap(answers[SHA256Digest.hex(littleEndianBytes(pixels.values))]).reversed()
        })
        XCTAssertLessThan(turned.cosine, 0.9)
    }

    /// The manifest of the model that answered the committed photos, made of the spec.
    func committedManifest(_ spec: URL) throws -> Manifest {
        var entries = try XCTUnwrap(JSONSerialization.jsonObject(with: Data(contentsOf: spec)) as? [String: Any])
        let more: [String: Any] = [
            "sha256": "0", "size_bytes": 1, "target": "onnx", "backend": "", "precision": "fp32",
            "task": "classification", "weights": ["sha256": "0"],
        ]
        entries.merge(more) { $1 }
        return try Manifest.decode(JSONSerialization.data(withJSONObject: entries), named: "golden_spec.json")
    }

    func testAModelOfImagesIsComparedUpToAConstant() throws {
        let named = cases(answers: "pixel")
        let image = BundledArtefact(manifest: try manifest(image: true), url: Self.folder)
        let same = try XCTUnwrap(goldenFiles(spec(), named).check(image, runner: "r") { input in
            XCTAssertEqual(input, .image(try RGBImage(width: 1, height: 1, pixels: [0, 128, 0])))
            return try softmax([0, 0.5]).map { Float($0) }
        })
        XCTAssertEqual(same.sameTop, 1)
        XCTAssertEqual(same.cosine, 1, accuracy: 1e-6)
        let plain = BundledArtefact(manifest: try manifest(), url: Self.folder)
        let shifted = try goldenFiles(spec(output: "probabilities"), named).check(plain, runner: "r") { _ in [7, 7.5] }
        XCTAssertEqual(try XCTUnwrap(shifted).cosine, 1, accuracy: 1e-6)
    }

    func manifest(image: Bool = false) throws -> Manifest {
        let text = """
            {"schema": 1, "artefact": "a.pte", "sha256": "0", "size_bytes": 1, "target": "executorch", "backend": "",
             "precision": "fp32", "model": "m", "task": "classification", "weights": {"sha256": "0"},
             "input": {"name": "pixels", "shape": \(image ? [1, 1, 1, 3] : [1, 3, 1, 1]),
               "dtype": "\(image ? "uint8" : "float32")"},
             "output": {"name": "\(image ? "probabilities" : "logits")", "shape": [1, 2], "dtype": "float32"}, "labels": ["a", "b"],
             "preprocessing": \(Self.preprocessing)}
            """
        return try Manifest.decode(Data(text.utf8), named: "a.pte.json")
    }

    func testARunWithoutCasesDoesNotPass() {
        XCTAssertFalse(SelfTestResult().passed)
    }
}
