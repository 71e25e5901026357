/// Where a plane's samples lie: (x, y) at `offset + y * rowStride + x * pixelStride` of the frame's bytes.
public struct Plane: Decodable, Equatable, Sendable {
    public let offset: Int
    public let rowStride: Int
    public let pixelStride: Int

    public init(offset: Int, rowStride: Int, pixelStride: Int) {
        self.offset = offset
        self.rowStride = rowStride
        self.pixelStride = pixelStride
    }

    enum CodingKeys: String, CodingKey {
        case offset
        case rowStride = "row_stride"
        case pixelStride = "pixel_stride"
    }
}

/// How YUV becomes RGB, in 1/65536: docs/mobile.md has the formula, `edge_deit/mobile/golden_frames.py` its source.
public struct YuvColors: Equatable, Sendable {
    public enum Matrix: String, Decodable, Sendable { case bt601, bt709 }
    public enum Range: String, Decodable, Sendable { case full, video }

    private let black: Int32
    private let luma: Int32
    private let redV: Int32
    private let greenU: Int32
    private let greenV: Int32
    private let blueU: Int32

    public init(_ matrix: Matrix, _ range: Range) {
        let numbers: [Int32]
        switch (matrix, range) {
        case (.bt601, .full): numbers = [0, 65536, 91881, 22553, 46802, 116130]
        case (.bt601, .video): numbers = [16, 76309, 104597, 25675, 53279, 132201]
        case (.bt709, .full): numbers = [0, 65536, 103206, 12276, 30679, 121609]
        case (.bt709, .video): numbers = [16, 76309, 117489, 13975, 34925, 138438]
        }
        (black, luma, redV) = (numbers[0], numbers[1], numbers[2])
        (greenU, greenV, blueU) = (numbers[3], numbers[4], numbers[5])
    }

    @inline(__always)
    func rgb(_ y: UInt8, _ u: UInt8, _ v: UInt8) -> (red: UInt8, green: UInt8, blue: UInt8) {
        let grey = luma * (Int32(y) - black) + 1 << 15
        let (u, v) = (Int32(u) - 128, Int32(v) - 128)
        return (Self.level(grey + redV * v), Self.level(grey - greenU * u - greenV * v), Self.level(grey + blueU * u))
    }

    @inline(__always)
    private static func level(_ sum: Int32) -> UInt8 {
        UInt8(max(0, min(255, sum >> 16)))
    }
}

/// A camera's frame in YUV 4:2:0: U and V have one sample for 2 x 2 pixels, whatever the planes' layout (I420, NV12,
/// NV21, rows with padding).
public struct Frame {
    public let width: Int
    public let height: Int
    private let planes: (y: Plane, u: Plane, v: Plane)
    private let colors: YuvColors

    /// Raises for planes that `count` bytes do not hold.
    public init(width: Int, height: Int, y: Plane, u: Plane, v: Plane, count: Int, colors: YuvColors) throws {
        guard width > 0, height > 0, width <= Int(Int32.max), height <= Int(Int32.max) else {
            throw EdgeError("a frame of \(width) x \(height) cannot be converted")
        }
        self.width = width
        self.height = height
        planes = (y, u, v)
        self.colors = colors
        try Self.check("Y", y, width, height, count)
        try Self.check("U", u, (width + 1) / 2, (height + 1) / 2, count)
        try Self.check("V", v, (width + 1) / 2, (height + 1) / 2, count)
    }

    /// The RGB pixels, turned clockwise by `turn` degrees. Raises for another angle than 0, 90, 180 and 270.
    public func upright(turn: Int, of bytes: UnsafeRawBufferPointer) throws -> RGBImage {
        guard let orientation = Self.orientations[turn] else {
            throw EdgeError("a frame cannot be turned by \(turn) degrees")
        }
        let pixels = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { out, count in
            var to = 0
            for row in 0..<height {
                let lumas = planes.y.offset + row * planes.y.rowStride
                let us = planes.u.offset + row / 2 * planes.u.rowStride
                let vs = planes.v.offset + row / 2 * planes.v.rowStride
                for x in 0..<width {
                    let made = colors.rgb(
                        bytes[lumas + x * planes.y.pixelStride], bytes[us + x / 2 * planes.u.pixelStride],
                        bytes[vs + x / 2 * planes.v.pixelStride]
                    )
                    out[to] = made.red
                    out[to + 1] = made.green
                    out[to + 2] = made.blue
                    to += 3
                }
            }
            count = 3 * width * height
        }
        return try RGBImage(width: width, height: height, trusted: pixels).upright(orientation: orientation)
    }

    /// Degrees clockwise -> EXIF's number for a photo that needs them.
    private static let orientations = [0: 1, 90: 6, 180: 3, 270: 8]

    /// By how many degrees clockwise a frame is turned for an angle of the system's, which may be any number.
    public static func turn(forAngle angle: Double) -> Int {
        guard angle.isFinite else { return 0 }
        let quarters = Int((angle / 90).truncatingRemainder(dividingBy: 4).rounded())
        return 90 * ((quarters % 4 + 4) % 4)
    }

    private static func check(_ name: String, _ plane: Plane, _ columns: Int, _ rows: Int, _ count: Int) throws {
        let (row, pixel) = (plane.rowStride, plane.pixelStride)
        let strides = "a row stride of \(row) and a pixel stride of \(pixel)"
        let most = Int(Int32.max)  // so that no product overflows
        let length = pixel > most ? most : (columns - 1) * pixel + 1
        guard (0...most).contains(plane.offset), (1...most).contains(pixel), (1...most).contains(row),
            rows == 1 || row >= length
        else {
            throw EdgeError("the camera's \(name) plane of \(columns) x \(rows) has \(strides)")
        }
        let left = count - plane.offset - length
        guard left >= 0, rows - 1 <= left / row else {
            throw EdgeError("the camera's \(name) plane of \(columns) x \(rows) has \(count) bytes for \(strides)")
        }
    }
}
