import XCTest

@testable import EdgeCore

final class RankingTests: XCTestCase {
    func testSoftmax() throws {
        XCTAssertEqual(try softmax([0, 0]), [0.5, 0.5])
        let steep = try softmax([1000, 0])
        XCTAssertEqual(steep, [1, 0])
        XCTAssertEqual(try softmax([0, Float(log(3.0))])[1], 0.75, accuracy: 1e-7)
    }

    func testOfEqualLogitsTheLowerIndexComesFirst() throws {
        XCTAssertEqual(try topK([1, 3, 3, 2], 3), [1, 2, 3])
        XCTAssertEqual(try topK([0, -0.0, 0], 5), [0, 1, 2])
        XCTAssertEqual(try topK([1, 2], 0), [])
    }

    func testNonFiniteAndMissingLogitsAreRefused() {
        for bad in [Float.nan, .infinity, -.infinity] {
            XCTAssertThrowsError(try softmax([1, bad]))
            XCTAssertThrowsError(try topK([1, bad], 1))
        }
        XCTAssertThrowsError(try topK([], 1))
        XCTAssertThrowsError(try rank([1, 2], labels: ["one"], top: 1))
    }

    func testRank() throws {
        let ranked = try rank([0, Float(log(3.0))], labels: ["Ä", "B"], top: 5)
        XCTAssertEqual(ranked.map(\.label), ["B", "Ä"])
        XCTAssertEqual(ranked[0].probability, 0.75, accuracy: 1e-7)
    }

    func testPercentileInterpolatesLikeNumPy() throws {
        let samples = [40.0, 10, 30, 20]
        XCTAssertEqual(try percentile(samples, 0.9), 37, accuracy: 1e-12)
        XCTAssertEqual(try median(samples), 25)
        XCTAssertEqual(try percentile([7], 0.9), 7)
        XCTAssertThrowsError(try percentile([], 0.5))
        XCTAssertThrowsError(try percentile([.nan], 0.5))
        XCTAssertThrowsError(try percentile([1], 1.5))
    }

    func testDigests() {
        XCTAssertEqual(
            SHA256Digest.hex([]), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        )
        XCTAssertEqual(
            SHA256Digest.hex(Array("abc".utf8)), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        )
        // one block is 64 bytes, 9 of which padding needs: lengths around both limits
        let two = Array("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq".utf8)
        XCTAssertEqual(
            SHA256Digest.hex(two), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        )
        XCTAssertEqual(
            SHA256Digest.hex([UInt8](repeating: 97, count: 1_000_000)),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
        )
    }

    func testFloatBytesComeBack() throws {
        let values: [Float] = [0, -1.5, .leastNonzeroMagnitude, 3e38]
        XCTAssertEqual(littleEndianBytes([1]), [0, 0, 0x80, 0x3f])
        XCTAssertEqual(try floats(littleEndian: Data(littleEndianBytes(values))), values)
        XCTAssertThrowsError(try floats(littleEndian: Data([1, 2, 3])))
    }
}
