import XCTest

@testable import EdgeCore

final class ContractTests: XCTestCase {
    func testProbabilitiesBecomeLogitsUpToAConstant() throws {
        let plain = Contract(takesImage: true, returnsProbabilities: false)
        XCTAssertEqual(plain.logits([0.25, 0.75]), [0.25, 0.75])
        let contract = Contract(takesImage: true, returnsProbabilities: true)
        let found = try softmax(contract.logits([0.25, 0.75]))
        XCTAssertEqual(found[0], 0.25, accuracy: 1e-7)
        XCTAssertEqual(try topK(contract.logits([0, 1]), 2), [1, 0])
        XCTAssertThrowsError(try softmax(contract.logits([0, .nan])))
        XCTAssertThrowsError(try softmax(contract.logits([0, .infinity])))
    }

    func testAFileGetsPixelsOrTheBytesTheyAreMadeOf() throws {
        let spec = try PreprocessSpec(
            resize: .none, resizeSize: 1, cropSize: 2, cropRounding: .floor, resample: .nearest,
            mean: [0, 0, 0], std: [1, 1, 1]
        )
        let photo = try RGBImage(width: 2, height: 1, pixels: [1, 2, 3, 4, 5, 6])
        let image = try Contract(takesImage: true, returnsProbabilities: true).input(photo, spec: spec)
        let black: [UInt8] = [0, 0, 0, 0, 0, 0]  // the odd row goes before
        XCTAssertEqual(image, .image(try RGBImage(width: 2, height: 2, pixels: black + photo.pixels)))
        let pixels = try Contract(takesImage: false, returnsProbabilities: false).input(photo, spec: spec)
        XCTAssertEqual(pixels, .pixels(try spec.tensor(from: photo)))
    }

    func testAClassifiersScoresAreFoundByName() throws {
        let labels = ["crane", "hen", "crane"]
        XCTAssertEqual(classifierNames(labels), ["crane (0)", "hen", "crane (2)"])  // as Python's class_names
        let scores: [String: Float] = ["hen": 0.5, "crane (2)": 0.125, "crane (0)": 0.25]
        XCTAssertEqual(try probabilities(byName: scores, labels: labels), [0.25, 0.5, 0.125])
        XCTAssertThrowsError(try probabilities(byName: ["hen": 0.5], labels: labels))
    }
}
