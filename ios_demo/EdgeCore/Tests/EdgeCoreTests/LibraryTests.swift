import XCTest

@testable import EdgeCore

final class LibraryTests: XCTestCase {
    private var folder = URL(fileURLWithPath: NSTemporaryDirectory())

    override func setUpWithError() throws {
        folder = folder.appendingPathComponent(UUID().uuidString)
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    override func tearDownWithError() throws {
        try FileManager.default.removeItem(at: folder)
    }

    func manifest(_ file: String, changes: [String: Any] = [:]) throws -> Data {
        let plain: [String: Any] = [
            "schema": 1, "artefact": file, "sha256": "abc", "size_bytes": 12, "target": "coreml",
            "backend": "mlprogram", "precision": "int8", "model": "deit_tiny", "task": "classification",
            "weights": ["source": "bundled", "sha256": "w"], "labels": ["cat", "dog"],
            "input": ["name": "pixels", "shape": [1, 3, 64, 64], "dtype": "float32", "layout": "NCHW"],
            "output": ["name": "logits", "shape": [1, 2], "dtype": "float32"],
            "preprocessing": [
                "resize": "shortest", "resize_size": 72, "crop_size": 64, "crop_rounding": "half-even",
                "resample": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
            ] as [String: Any],
        ]
        return try JSONSerialization.data(withJSONObject: plain.merging(changes) { $1 })
    }

    func write(_ files: [String], present: [String], changes: [String: Any] = [:]) throws {
        for (index, file) in files.enumerated() {
            let data = try manifest(file, changes: index == 0 ? [:] : changes)
            try data.write(to: folder.appendingPathComponent(file + ".json"))
        }
        let entries = files.map { ["file": $0, "manifest": $0 + ".json", "sha256": "abc"] }
        let index: [String: Any] = ["schema": 1, "created_by": "edge-deit 0", "artefacts": entries]
        let data = try JSONSerialization.data(withJSONObject: index)
        try data.write(to: folder.appendingPathComponent("bundle.json"))
        for name in present { try Data([1]).write(to: folder.appendingPathComponent(name)) }
    }

    func message(_ work: () throws -> Void) -> String {
        do {
            try work()
            return "nothing was refused"
        } catch {
            return error.localizedDescription
        }
    }

    func testNothingBundledIsNotAnError() throws {
        XCTAssertNil(try Library.read(folder))
    }

    func testCompiledModelsAndPlainFilesAreFound() throws {
        let files = ["deit.int8.mlpackage", "deit.fp32.pte"]
        try write(files, present: ["deit.int8.mlmodelc", "deit.fp32.pte"])
        let library = try XCTUnwrap(Library.read(folder))
        XCTAssertEqual(library.artefacts.map(\.id), files)
        XCTAssertEqual(library.artefacts.map(\.url.lastPathComponent), ["deit.int8.mlmodelc", "deit.fp32.pte"])
        XCTAssertEqual(library.labels, ["cat", "dog"])
        XCTAssertNil(library.golden)
    }

    func testWhatDoesNotFitIsRefused() throws {
        try write(["a.pte"], present: [])
        XCTAssertTrue(message { _ = try Library.read(folder) }.contains("a.pte is not in the app"))
        try write(["a.pte", "b.pte"], present: ["a.pte", "b.pte"], changes: ["labels": ["dog", "cat"]])
        XCTAssertTrue(message { _ = try Library.read(folder) }.contains("b.pte and a.pte differ"))
        try write(["a.pte"], present: ["a.pte"])
        try manifest("a.pte", changes: ["sha256": "other"]).write(to: folder.appendingPathComponent("a.pte.json"))
        XCTAssertTrue(message { _ = try Library.read(folder) }.contains("does not describe"))
        try Data("{\"schema\": 2}".utf8).write(to: folder.appendingPathComponent("bundle.json"))
        XCTAssertTrue(message { _ = try Library.read(folder) }.contains("schema 2"))
        try Data("{".utf8).write(to: folder.appendingPathComponent("bundle.json"))
        XCTAssertTrue(message { _ = try Library.read(folder) }.contains("not JSON"))
    }

    func testManifestErrorsNameFileAndKey() throws {
        let cases: [([String: Any], String)] = [
            (["task": "features"], "returns features"),
            (["labels": ["one"]], "for 1 labels"),
            (["labels": [1, 2]], "labels[0] is not String"),
            (["schema": 7], "schema 7"),
            (["preprocessing": ["resize": "stretch"]], "preprocessing.resize"),
            (["input": ["name": "x", "shape": [1, 3, 9, 9], "dtype": "float32"]], "[1, 3, 9, 9]"),
            (["input": ["name": "x", "shape": [1, 3, 64, 64], "dtype": "uint8"]], "makes [1, 64, 64, 3]"),
            (["input": ["name": "x", "shape": [1, 64, 64, 3], "dtype": "int8"]], "input is int8"),
        ]
        for (changes, expected) in cases {
            let data = try manifest("a.pte", changes: changes)
            let text = message { _ = try Manifest.decode(data, named: "m.json") }
            XCTAssertTrue(text.hasPrefix("m.json") && text.contains(expected), text)
            XCTAssertFalse(text.contains("\n"), text)
        }
    }

    func testWhatVisionCanFeed() throws {
        let image: [String: Any] = [
            "input": ["name": "image", "shape": [1, 64, 64, 3], "dtype": "uint8", "layout": "NHWC"],
            "output": ["name": "probabilities", "shape": [1, 2], "dtype": "float32"],
        ]
        let found = try Manifest.decode(manifest("a.mlpackage", changes: image), named: "m")
        XCTAssertEqual(found.contract, Contract(takesImage: true, returnsProbabilities: true))
        XCTAssertTrue(found.isForVision)
        XCTAssertFalse(try Manifest.decode(manifest("a.mlpackage"), named: "m").isForVision)
        let mixed = try Manifest.decode(manifest("a.mlpackage", changes: ["output": image["output"]!]), named: "m")
        XCTAssertEqual(mixed.contract, Contract(takesImage: false, returnsProbabilities: true))
        XCTAssertFalse(mixed.isForVision)
        let other = image.merging(["target": "executorch"]) { $1 }
        XCTAssertFalse(try Manifest.decode(manifest("a.pte", changes: other), named: "m").isForVision)
    }

    func testOneGoldenFileAloneIsAnError() throws {
        try write(["a.pte"], present: ["a.pte"])
        try Data("{}".utf8).write(to: folder.appendingPathComponent("golden_cases.json"))
        XCTAssertTrue(message { _ = try Library.read(folder) }.contains("golden_spec.json is missing"))
    }

    // The device report

    func report(_ latency: [Double], residency: Residency? = nil) throws -> [String: Any] {
        let row = try ArtefactReport(
            manifest: Manifest.decode(manifest("deit.int8.mlpackage"), named: "m"), runner: "Core ML, all",
            threads: nil,
            timings: Timings(
                loadMs: 12.5, loadWarmMs: 7.5, firstRunMs: 90, preprocessMs: [3], latencyMs: latency
            ),
            peakRssBytes: nil, check: nil, residency: residency,
            notes: ["peak_rss_bytes": "not measured", "check": "no answers"]
        )
        let device = DeviceReport.Device(
            manufacturer: "Apple", model: "iPhone16,1", os: "iOS", osVersion: "18.1", soc: nil, cores: 6
        )
        let report = DeviceReport(
            created: Date(timeIntervalSince1970: 0), app: .init(name: "edge-deit-ios", version: "0.1.0", build: "release"),
            device: device,
            conditions: .init(
                thermalBegin: "nominal", thermalEnd: nil, powerSaver: nil, leftForeground: false, screenKeptOn: true
            ),
            artefacts: [row]
        )
        return try XCTUnwrap(JSONSerialization.jsonObject(with: report.json()) as? [String: Any])
    }

    func testReportHasEveryKeyAndNullsAreWritten() throws {
        let found = try report([10, 20, 30])
        XCTAssertEqual(found["kind"] as? String, "edge-deit-device-report")
        XCTAssertEqual(found["created"] as? String, "1970-01-01T00:00:00Z")
        let device = try XCTUnwrap(found["device"] as? [String: Any])
        XCTAssertTrue(device["soc"] is NSNull)
        let row = try XCTUnwrap((found["artefacts"] as? [[String: Any]])?.first)
        XCTAssertEqual(
            Set(row.keys),
            [
                "path", "sha256", "target", "precision", "model", "runner", "delegate", "threads", "runs",
                "latency_ms_p50",
                "latency_ms_p90", "load_ms", "load_warm_ms", "first_run_ms", "preprocess_ms_p50", "peak_rss_bytes",
                "check", "notes",
            ]
        )
        XCTAssertTrue(row["peak_rss_bytes"] is NSNull)
        XCTAssertTrue(row["threads"] is NSNull)
        XCTAssertEqual(row["delegate"] as? String, "Core ML")
        XCTAssertTrue(row["check"] is NSNull)
        let conditions = try XCTUnwrap(found["conditions"] as? [String: Any])
        XCTAssertEqual(conditions.count, 5)
        XCTAssertTrue(conditions["thermal_end"] is NSNull)
        XCTAssertEqual(
            found["protocol"] as? [String: Int],
            ["photo_width": 4032, "photo_height": 3024, "warm_up": 5, "runs": 100, "preprocess_runs": 5]
        )
        XCTAssertEqual(row["latency_ms_p50"] as? Double, 20)
        XCTAssertEqual(row["latency_ms_p90"] as? Double, 28)
    }

    func testReportHasCoreMLsPlan() throws {
        let planned = [
            Residency.Operator(.neuralEngine, weight: 0.25), .init(.neuralEngine, weight: 0.125),
            .init(.cpu, weight: 0.125), .init(.cpu, weight: nil),
        ]
        let found = try report([10], residency: Residency(planned))
        let row = try XCTUnwrap((found["artefacts"] as? [[String: Any]])?.first)
        var plan = try XCTUnwrap(row["residency"] as? [String: Any])
        XCTAssertEqual(
            plan.removeValue(forKey: "cost") as? [String: Double], ["cpu": 0.25, "gpu": 0, "neural_engine": 0.75]
        )
        XCTAssertEqual(plan as? [String: Int], ["cpu": 2, "gpu": 0, "neural_engine": 2])
    }

    func testAPlanWithoutCostsSaysSo() throws {
        for weight in [nil, 0.0] {
            let found = try report([10], residency: Residency([.init(.gpu, weight: weight)]))
            let row = try XCTUnwrap((found["artefacts"] as? [[String: Any]])?.first)
            var plan = try XCTUnwrap(row["residency"] as? [String: Any])
            XCTAssertTrue(plan.removeValue(forKey: "cost") is NSNull)
            XCTAssertEqual(plan as? [String: Int], ["cpu": 0, "gpu": 1, "neural_engine": 0])
        }
    }

    func testAPlanIsCounted() throws {
        let found = try Residency([.init(.gpu, weight: 2), .init(.cpu, weight: 1), .init(.gpu, weight: 1)])
        XCTAssertEqual(found.operators, [.cpu: 1, .gpu: 2, .neuralEngine: 0])
        XCTAssertEqual(found.cost, [.cpu: 0.25, .gpu: 0.75, .neuralEngine: 0])
        XCTAssertEqual(found.total, 3)
    }

    func testAPlanThatIsNoneIsRefused() {
        XCTAssertTrue(message { _ = try Residency([]) }.contains("no operator with a processor"))
        for weight in [-0.5, .nan, .infinity] {
            let planned = [Residency.Operator(.cpu, weight: 1), .init(.gpu, weight: weight)]
            XCTAssertTrue(message { _ = try Residency(planned) }.contains("of cost \(weight)"))
        }
    }

    func testReportRefusesWhatIsNotANumber() {
        XCTAssertThrowsError(try report([.nan]))
        XCTAssertThrowsError(try report([]))
    }

    func testAFileIsMeasuredAsTheProtocolSays() throws {
        var events: [String] = []
        let manifest = try Manifest.decode(self.manifest("a.pte"), named: "m")
        let photo = try RGBImage(width: 5, height: 4, pixels: [UInt8](repeating: 7, count: 60))
        let found = try measureFile(manifest, photo: photo, close: { events.append("close") }) {
            events.append("load")
            return { _ in
                events.append("run")
                return [1, 2]
            }
        }
        let rules = MeasuringProtocol.current
        XCTAssertEqual(events.prefix(4), ["close", "load", "close", "load"])
        XCTAssertEqual(events.count, 4 + 1 + rules.warmUp + rules.runs)
        XCTAssertEqual([found.latencyMs.count, found.preprocessMs.count], [rules.runs, rules.preprocessRuns])
        XCTAssertThrowsError(try measureFile(manifest, photo: photo, close: {}) { { _ in [1, .nan] } })
    }

    func testTimingsCountTheirRuns() throws {
        var calls = 0
        let (last, ms) = try repeatTimed(runs: 3, warmUps: 2) { () -> Int in
            calls += 1
            return calls
        }
        XCTAssertEqual([last, calls, ms.count], [5, 5, 3])
        XCTAssertTrue(ms.allSatisfy { $0 >= 0 && $0 < 1000 })
        XCTAssertThrowsError(try repeatTimed(runs: 0) { 1 })
    }

    func testAFolderHasTheDigestOfItsNamesAndContents() throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(at: folder.appendingPathComponent("a"), withIntermediateDirectories: true)
        for (name, text) in [("b.txt", "22"), ("a.txt", "1"), ("a/c", "")] {
            try Data(text.utf8).write(to: folder.appendingPathComponent(name))
        }
        XCTAssertEqual(
            try SHA256Digest.hex(contentsOf: folder), SHA256Digest.hex(Array("3:0:a/c5:1:a.txt15:2:b.txt22".utf8))
        )
        XCTAssertEqual(
            try SHA256Digest.hex(contentsOf: folder.appendingPathComponent("b.txt")), SHA256Digest.hex(Array("22".utf8))
        )
        XCTAssertThrowsError(try SHA256Digest.hex(contentsOf: folder.appendingPathComponent("none")))
    }
}
