/// 8-bit RGB pixels, rows from the top, three bytes a pixel.
public struct RGBImage: Equatable, Sendable {
    public let width: Int
    public let height: Int
    public let pixels: [UInt8]

    public init(width: Int, height: Int, pixels: [UInt8]) throws {
        guard width > 0, height > 0 else {
            throw EdgeError("an image of \(width) x \(height) has no pixels")
        }
        let (area, overflow) = width.multipliedReportingOverflow(by: height)
        guard !overflow, area <= Int.max / 3, pixels.count == 3 * area else {
            throw EdgeError("\(width) x \(height) RGB needs 3 bytes a pixel, not \(pixels.count) in all")
        }
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// Pixels that are known to be three bytes for each of `width` x `height`.
    init(width: Int, height: Int, trusted pixels: [UInt8]) {
        self.width = width
        self.height = height
        self.pixels = pixels
    }

    /// The image as EXIF's `orientation` (1 to 8) says it is meant to be seen.
    ///
    /// Same as Pillow's `ImageOps.exif_transpose`; values outside 1 to 8 are refused.
    public func upright(orientation: Int) throws -> RGBImage {
        guard let source = Self.source(orientation: orientation, width: width, height: height) else {
            throw EdgeError("EXIF orientation \(orientation) does not exist; it is 1 to 8")
        }
        if orientation == 1 { return self }
        let (newWidth, newHeight) = orientation >= 5 ? (height, width) : (width, height)
        let turned = [UInt8](unsafeUninitializedCapacity: pixels.count) { out, count in
            pixels.withUnsafeBufferPointer { raw in
                var target = 0
                for y in 0..<newHeight {
                    var from = 3 * (source.start + y * source.stepY)
                    for _ in 0..<newWidth {
                        out[target] = raw[from]
                        out[target + 1] = raw[from + 1]
                        out[target + 2] = raw[from + 2]
                        target += 3
                        from += 3 * source.stepX
                    }
                }
            }
            count = pixels.count
        }
        return try RGBImage(width: newWidth, height: newHeight, pixels: turned)
    }

    /// Where upright pixel (0, 0) lies in the raw rows, and how far one step right and one step down lead there.
    private static func source(
        orientation: Int, width w: Int, height h: Int
    ) -> (start: Int, stepX: Int, stepY: Int)? {
        switch orientation {
        case 1: return (0, 1, w)
        case 2: return (w - 1, -1, w)  // mirrored left to right
        case 3: return (w * h - 1, -1, -w)  // half a turn
        case 4: return (w * (h - 1), 1, -w)  // mirrored top to bottom
        case 5: return (0, w, 1)  // transposed
        case 6: return (w * (h - 1), -w, 1)  // needs a quarter turn clockwise
        case 7: return (w * h - 1, -w, -1)  // transposed along the other diagonal
        case 8: return (w - 1, w, -1)  // needs a quarter turn anticlockwise
        default: return nil
        }
    }
}
