import XCTest

@testable import EdgeCore

final class FolderRunTests: XCTestCase {
    let digest = String(repeating: "0123456789abcdef", count: 4)

    func manifest(target: String = "coreml", backend: String = "mlprogram", file: String = "a.mlpackage") throws -> Manifest {
        let text = """
            {"schema": 1, "artefact": "\(file)", "sha256": "\(digest)", "size_bytes": 1, "target": "\(target)",
             "backend": "\(backend)", "precision": "int8", "model": "tiny", "task": "classification",
             "weights": {"sha256": "\(digest)"},
             "input": {"name": "pixels", "shape": [1, 3, 1, 1], "dtype": "float32"},
             "output": {"name": "logits", "shape": [1, 2], "dtype": "float32"},
             "preprocessing": \(GoldenTests.preprocessing), "labels": ["cat", "dog"]}
            """
        return try Manifest.decode(Data(text.utf8), named: "m")
    }

    func answer(_ name: String, _ artefact: String = "a.mlpackage") -> GoldenCases.Photo {
        GoldenCases.Photo(name: name, sha256: digest, artefact: artefact, logits: [1, 3])
    }

    func photo(_ name: String, sha256: String? = nil) throws -> FolderPhoto {
        let dot = try RGBImage(width: 1, height: 1, pixels: [0, 0, 0])
        return FolderPhoto(name: name) { StoredPhoto(sha256: sha256 ?? self.digest, image: dot) }
    }

    func run(_ photos: [FolderPhoto], _ answers: [GoldenCases.Photo], _ returned: [Float]...) throws -> FolderResult {
        var at = 0
        return try runFolder(photos, answers: answers, manifest: manifest(), predict: { _ in
            at += 1
            return returned[(at - 1) % returned.count]
        })
    }

    func testAgreementSignalToNoiseAndTheWorstPhoto() throws {
        let names = ["a.jpg", "b/c.jpg", "d.jpg"]
        let found = try run(names.map { try photo($0) }, names.map { answer($0) }, [1, 3], [4, 3], [101, 103])
        XCTAssertEqual([found.photos, found.compared, found.sameTop, found.skippedCount], [3, 3, 2, 0])
        XCTAssertEqual(try XCTUnwrap(found.snrDb), 10 * log10(6 / 4.5), accuracy: 1e-12)
        XCTAssertEqual([found.worst[0].name, found.worst[0].answer, found.worst[0].expected], ["b/c.jpg", "cat", "dog"])
        XCTAssertEqual(found.worst[0].snrDb, 10 * log10(2 / 4.5), accuracy: 1e-12)
        XCTAssertEqual(found.worst[2].snrDb, 200)
    }

    func testPhotosThatCannotBeComparedAreSkippedWithTheirReason() throws {
        let broken = FolderPhoto(name: "broken") { throw EdgeError("no photo") }
        let photos = [broken, try photo("unknown"), try photo("other", sha256: "0"), try photo("nan"), try photo("good")]
        let found = try run(photos, ["broken", "other", "nan", "good"].map { answer($0) }, [.nan, 0], [1, 3])
        XCTAssertEqual([found.photos, found.compared, found.skippedCount], [5, 1, 4])
        for (skipped, reason) in zip(found.skipped, ["no photo", "no such photo", "sha256 differs", "NaN"]) {
            XCTAssertTrue(skipped.reason.contains(reason), skipped.reason)
        }
    }

    func testAnEmptyFolderAndARuntimeThatFailsEndTheRun() throws {
        XCTAssertThrowsError(try run([], [answer("a")], [1, 3]))
        XCTAssertThrowsError(try run([photo("a")], [answer("a")], [1]))
        let one = try photo("a")
        XCTAssertThrowsError(
            try runFolder([one], answers: [answer("a")], manifest: manifest(), predict: { _ in
                throw EdgeError("the Neural Engine is gone")
            })
        ) { XCTAssertEqual($0.localizedDescription, "the Neural Engine is gone") }
        let found = try run([photo("a")], [], [1, 3])
        XCTAssertNil(found.snrDb)
        XCTAssertEqual(found.skippedCount, 1)
    }

    func testAThousandPhotosKeepTenRowsAndAStopEndsTheRun() throws {
        let names = (0..<1000).map { "\($0).jpg" }
        let answers = names.map { answer($0) }
        let missing = names.map { FolderPhoto(name: $0) { throw EdgeError("unreadable") } }
        let all = try run(missing, answers, [1, 3])
        XCTAssertEqual([all.skippedCount, all.skipped.count], [1000, 10])
        var done = 0
        let photos = try names.map { try photo($0) }
        let found = try runFolder(
            photos, answers: answers, manifest: manifest(), predict: { _ in [Float(done), 3] },
            progress: { done = $0; return $0 < 400 }
        )
        XCTAssertEqual([found.photos, found.worst.count], [400, 10])
        XCTAssertEqual(found.worst[0].name, "399.jpg")
    }

    func testAnotherFilesAnswersStandIn() throws {
        let answers = [answer("a", "first.onnx"), answer("b", "first.onnx"), answer("a", "third")]
        XCTAssertEqual(try run([photo("a"), photo("b")], answers, [1, 3]).reference, "first.onnx")
        XCTAssertEqual(try run([photo("a")], answers + [answer("a")], [1, 3]).reference, "a.mlpackage")
    }

    func testPhotosOfAFolderAreFound() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: folder) }
        XCTAssertThrowsError(try photoPaths(in: folder))
        for path in ["b/2.JPG", "a.png", "b/.hidden.png", "golden_cases.json", ".b/c.png", "noending"] {
            let url = folder.appendingPathComponent(path)
            try FileManager.default.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
            try Data().write(to: url)
        }
        XCTAssertEqual(try photoPaths(in: folder), ["a.png", "b/2.JPG"])
    }

    func testGoldenPhotosAreAFolderAndSamples() throws {
        let files = try GoldenFiles(
            spec: GoldenTests.folder.appendingPathComponent("golden_spec.json"),
            cases: GoldenTests.folder.appendingPathComponent("golden_cases.json")
        )
        let (photos, answers) = try files.folder(for: files.spec.artefact)
        XCTAssertEqual(photos.count, 4)
        XCTAssertEqual(photos.map(\.name), answers.map(\.name))
        XCTAssertEqual(try photos[0].read().image.width, 28)
        XCTAssertEqual(files.samples.map(\.name), photos.map(\.name))
        XCTAssertTrue(files.samples.allSatisfy { files.spec.labels.contains(files.expectedLabel($0.name) ?? "") })
        XCTAssertNil(files.expectedLabel("large"))
    }

    func testWhatAFileCannotRunOnIsRefused() throws {
        let (coreml, pte) = (try manifest(), try manifest(target: "executorch", backend: "xnnpack", file: "a.pte"))
        for units in ComputeUnits.allCases { XCTAssertNoThrow(try coreml.check(units)) }
        XCTAssertNoThrow(try pte.check(.all))
        XCTAssertNoThrow(try pte.check(.cpuOnly))
        XCTAssertThrowsError(try pte.check(.cpuAndNeuralEngine)) {
            XCTAssertTrue($0.localizedDescription.contains("exported for xnnpack"), $0.localizedDescription)
        }
        XCTAssertThrowsError(try manifest(target: "executorch", backend: "coreml").check(.cpuOnly))
        XCTAssertEqual([coreml, pte].map(\.delegate), ["Core ML", "XNNPACK"])
    }

    func testABenchmarkObeysTheChoice() throws {
        let files = [try manifest(), try manifest(target: "executorch", backend: "xnnpack", file: "a.pte")].map {
            BundledArtefact(manifest: $0, url: URL(fileURLWithPath: "/"))
        }
        XCTAssertEqual(benchmarkPlan(files, only: nil).map(\.units), [.all, .cpuOnly, .cpuAndGPU, .cpuAndNeuralEngine, .all])
        XCTAssertEqual(benchmarkPlan(files, only: .cpuOnly).map(\.units), [.cpuOnly, .cpuOnly])
    }
}
