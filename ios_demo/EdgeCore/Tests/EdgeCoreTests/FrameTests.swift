import XCTest

@testable import EdgeCore

final class FrameTests: XCTestCase {
    /// 3 x 2 pixels, luma 10 to 60 in rows of 4, U and V in turn with the last V as the last byte.
    let bytes: [UInt8] = [10, 20, 30, 0, 40, 50, 60, 0, 100, 200, 200, 100]

    func frame(
        width: Int = 3, row: Int = 4, pixel: Int = 2, offset: Int = 8, count: Int = 12
    ) throws -> Frame {
        try Frame(
            width: width, height: 2, y: Plane(offset: 0, rowStride: row, pixelStride: 1),
            u: Plane(offset: offset, rowStride: row, pixelStride: pixel),
            v: Plane(offset: 9, rowStride: row, pixelStride: pixel), count: count, colors: YuvColors(.bt601, .full)
        )
    }

    func upright(_ turn: Int) throws -> RGBImage {
        try bytes.withUnsafeBytes { try frame().upright(turn: turn, of: $0) }
    }

    func testAPixelWorkedOutByHand() throws {
        // y 10, u 100, v 200: 10 + 1.402 * 72, 10 + 0.344136 * 28 - 0.714136 * 72, 10 - 1.772 * 28
        XCTAssertEqual(Array(try upright(0).pixels.prefix(3)), [111, 0, 0])
        let white = YuvColors(.bt601, .video).rgb(235, 128, 128)
        XCTAssertEqual([white.red, white.green, white.blue], [255, 255, 255])
        let black = YuvColors(.bt709, .video).rgb(16, 128, 128)
        XCTAssertEqual([black.red, black.green, black.blue], [0, 0, 0])
    }

    func testEveryTurnMovesThePixels() throws {
        func reds(_ turn: Int) throws -> [UInt8] {
            let pixels = try upright(turn).pixels
            return stride(from: 0, to: pixels.count, by: 3).map { pixels[$0] }
        }
        let stored = try reds(0)
        XCTAssertEqual(try reds(90), [3, 0, 4, 1, 5, 2].map { stored[$0] })
        XCTAssertEqual(try reds(180), stored.reversed())
        XCTAssertEqual(try reds(270), [2, 5, 1, 4, 0, 3].map { stored[$0] })
        XCTAssertEqual([try upright(90).width, try upright(90).height], [2, 3])
        XCTAssertThrowsError(try upright(45))
    }

    func testPlanesThatDoNotHoldTheFrameAreRefused() {
        XCTAssertThrowsError(try frame(count: 11))
        XCTAssertThrowsError(try frame(offset: -1))
        for strange in [Int.min, -1, 0, 1, Int(Int32.max), Int.max] {
            XCTAssertThrowsError(try frame(row: strange), "row stride \(strange)")
            XCTAssertThrowsError(try frame(width: strange == 1 ? 0 : strange), "width \(strange)")
            guard strange != 1 else { continue }
            XCTAssertThrowsError(try frame(pixel: strange), "pixel stride \(strange)")
        }
        XCTAssertThrowsError(try frame(offset: Int.max))
        XCTAssertNoThrow(try frame(pixel: 1))
    }

    func testAnAngleOfTheSystemIsATurn() {
        XCTAssertEqual([0, 90, 180, 270, 360, -90, 450].map { Frame.turn(forAngle: $0) }, [0, 90, 180, 270, 0, 270, 90])
        XCTAssertEqual([89.99, 1e300, .nan, .infinity].map { Frame.turn(forAngle: $0) }[0], 90)
        XCTAssertEqual(Frame.turn(forAngle: .nan), 0)
    }

    func testMemoryIsTold() throws {
        XCTAssertGreaterThan(try XCTUnwrap(peakResidentBytes()), 1 << 20)
    }
}
