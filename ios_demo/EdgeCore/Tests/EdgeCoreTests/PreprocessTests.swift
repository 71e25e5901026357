import XCTest

@testable import EdgeCore

final class PreprocessTests: XCTestCase {
    func spec(
        _ resize: PreprocessSpec.Resize, size: Int = 4, crop: Int = 4,
        rounding: PreprocessSpec.CropRounding = .halfEven, filter: Filter = .bicubic
    ) throws -> PreprocessSpec {
        try PreprocessSpec(
            resize: resize, resizeSize: size, cropSize: crop, cropRounding: rounding, resample: filter,
            mean: [0, 0, 0], std: [1, 1, 1]
        )
    }

    /// Grey levels of a tensor's red plane.
    func levels(_ tensor: PixelTensor) -> [Int] {
        tensor.values.prefix(tensor.size * tensor.size).map { Int(($0 * 255).rounded()) }
    }

    func grey(_ width: Int, _ height: Int, _ levels: [UInt8]) throws -> RGBImage {
        try RGBImage(width: width, height: height, pixels: levels.flatMap { [$0, $0, $0] })
    }

    func testOrientationsOfACornerPixel() throws {
        // 2 x 1, left pixel 10, right pixel 20; what EXIF's drawing of the letter F gives
        let image = try grey(2, 1, [10, 20])
        let expected: [(Int, Int, [UInt8])] = [
            (2, 1, [10, 20]), (2, 1, [20, 10]), (2, 1, [20, 10]), (2, 1, [10, 20]),
            (1, 2, [10, 20]), (1, 2, [10, 20]), (1, 2, [20, 10]), (1, 2, [20, 10]),
        ]
        for (index, (width, height, values)) in expected.enumerated() {
            XCTAssertEqual(
                try image.upright(orientation: index + 1), try grey(width, height, values), "orientation \(index + 1)"
            )
        }
    }

    func testOrientationsOfAColumn() throws {
        let image = try grey(1, 2, [10, 20])
        let swapped = [3, 4, 6, 7]
        for orientation in 1...8 {
            let upright = try image.upright(orientation: orientation)
            let values: [UInt8] = swapped.contains(orientation) ? [20, 10] : [10, 20]
            let (width, height) = orientation >= 5 ? (2, 1) : (1, 2)
            XCTAssertEqual(upright, try grey(width, height, values), "orientation \(orientation)")
        }
    }

    func testUnknownOrientationIsRefused() throws {
        let image = try grey(1, 1, [1])
        for orientation in [0, 9, -1] {
            XCTAssertThrowsError(try image.upright(orientation: orientation))
        }
    }

    func testShortSideIsScaledAndLongSideRoundedDown() throws {
        let spec = try spec(.shortest, size: 248, crop: 224)
        XCTAssertTrue(spec.resizedSize(width: 640, height: 427) == (371, 248))  // 371.7
        XCTAssertTrue(spec.resizedSize(width: 427, height: 640) == (248, 371))
        XCTAssertTrue(spec.resizedSize(width: 3, height: 3) == (248, 248))
    }

    func testCropOffsetRounding() throws {
        let even = try spec(.none, crop: 4)
        let floor = try spec(.none, crop: 4, rounding: .floor)
        XCTAssertEqual([4, 5, 6, 7, 9].map(even.cropStart), [0, 0, 1, 2, 2])  // 0.5 -> 0, 1.5 -> 2, 2.5 -> 2
        XCTAssertEqual([4, 5, 6, 7, 9].map(floor.cropStart), [0, 0, 1, 1, 2])
    }

    func testSmallImagesAreZeroPaddedWithTheOddZeroBefore() throws {
        let tensor = try spec(.none, crop: 4).tensor(from: grey(1, 4, [1, 2, 3, 4]))
        XCTAssertEqual(levels(tensor), [0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0])
    }

    func testBilinearHalvingIsTheTriangleFilter() throws {
        // 4 -> 2 pixels, support 2: weights of output 0 over pixels 0, 1, 2 are 3/7, 3/7, 1/7
        let tensor = try spec(.exact, size: 2, crop: 2, filter: .bilinear).tensor(from: grey(4, 1, [0, 70, 140, 210]))
        XCTAssertEqual(levels(tensor), [50, 160, 50, 160])
    }

    func testWeightsSumToOne() {
        for filter in [Filter.bilinear, .bicubic, .lanczos] {
            let axis = AxisWeights(inputSize: 97, outputSize: 13, outputs: 0..<13, filter: filter)
            for output in 0..<13 {
                let row = axis.weights[(output * axis.stride)..<((output + 1) * axis.stride)]
                let sum = row.reduce(0) { $0 + Int($1) }
                XCTAssertLessThan(abs(sum - (1 << 22)), axis.stride, "\(filter), output \(output)")
            }
        }
    }

    func testAWindowIsPartOfTheWholeImage() throws {
        let image = try GoldenPixels.hash(seed: 5, block: 2).image(width: 50, height: 40)
        for filter in Filter.allCases {
            let whole = image.resized(width: 21, height: 33, columns: 0..<21, rows: 0..<33, filter: filter)
            let part = image.resized(width: 21, height: 33, columns: 4..<17, rows: 9..<30, filter: filter)
            let cut: [UInt8] = (9..<30).flatMap { (row: Int) -> ArraySlice<UInt8> in
                let start = 3 * (row * 21 + 4)
                return whole.pixels[start..<(start + 3 * 13)]
            }
            XCTAssertEqual(part.pixels, cut, "\(filter)")
        }
    }

    func testAnExtremeAspectNeedsNoHugeImage() throws {
        // resized in full this would be 248 x 992,000 pixels
        let image = try GoldenPixels.hash(seed: 1, block: 1).image(width: 1, height: 4000)
        let tensor = try spec(.shortest, size: 248, crop: 224).tensor(from: image)
        XCTAssertEqual(tensor.values.count, 3 * 224 * 224)
        XCTAssertEqual(tensor.shape, [1, 3, 224, 224])
    }

    func testNormalisationIsFloat32Arithmetic() throws {
        let spec = try PreprocessSpec(
            resize: .none, resizeSize: 1, cropSize: 1, cropRounding: .floor, resample: .nearest,
            mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]
        )
        let tensor = try spec.tensor(from: RGBImage(width: 1, height: 1, pixels: [0, 128, 255]))
        XCTAssertEqual(tensor.values, [-2.117904, 0.2051822, 2.64])  // NumPy's float32 results
    }

    func testImpossibleInputIsRefused() {
        XCTAssertThrowsError(try RGBImage(width: 2, height: 2, pixels: [0, 0, 0]))
        XCTAssertThrowsError(try RGBImage(width: 0, height: 2, pixels: []))
        XCTAssertThrowsError(try RGBImage(width: Int.max, height: 2, pixels: []))
        XCTAssertThrowsError(try spec(.none, crop: 0))
        XCTAssertThrowsError(
            try PreprocessSpec(
                resize: .none, resizeSize: 1, cropSize: 1, cropRounding: .floor, resample: .nearest,
                mean: [0, 0, 0], std: [1, 0, 1]
            )
        )
    }
}
