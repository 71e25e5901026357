/// A model's input, float32 in the order channel, row, column: (1, 3, size, size).
public struct PixelTensor: Equatable, Sendable {
    public let size: Int
    public let values: [Float]

    public var shape: [Int] { [1, 3, size, size] }
}

extension PreprocessSpec {
    /// Raw pixels and their EXIF orientation -> normalised pixels, equal to Python's bit for bit.
    public func tensor(from image: RGBImage, orientation: Int = 1) throws -> PixelTensor {
        PixelTensor(size: cropSize, values: normalised(try square(from: image, orientation: orientation).pixels))
    }

    /// Raw pixels and their EXIF orientation -> the square that a model sees, equal to Python's bit for bit.
    public func square(from image: RGBImage, orientation: Int = 1) throws -> RGBImage {
        let pixels = cropped(try image.upright(orientation: orientation))
        return RGBImage(width: cropSize, height: cropSize, trusted: pixels)
    }

    /// Size of the resized image; the long side is rounded down.
    func resizedSize(width: Int, height: Int) -> (width: Int, height: Int) {
        switch resize {
        case .none: return (width, height)
        case .exact: return (resizeSize, resizeSize)
        case .shortest:
            if width <= height {
                return (resizeSize, max(resizeSize, Int(Double(resizeSize * height) / Double(width))))
            }
            return (max(resizeSize, Int(Double(resizeSize * width) / Double(height))), resizeSize)
        }
    }

    /// First row or column of the crop in the image; negative where the image is smaller and is padded.
    func cropStart(length: Int) -> Int {
        if length < cropSize { return -((cropSize - length + 1) / 2) }  // the odd zero goes before
        if cropRounding == .floor { return (length - cropSize) / 2 }
        return Int((Double(length - cropSize) / 2).rounded(.toNearestOrEven))
    }

    /// Upright pixels -> the centred square, cropSize x cropSize RGB.
    private func cropped(_ image: RGBImage) -> [UInt8] {
        let (width, height) = resizedSize(width: image.width, height: image.height)
        let left = cropStart(length: width)
        let top = cropStart(length: height)
        let columns = max(0, left)..<min(width, left + cropSize)
        let rows = max(0, top)..<min(height, top + cropSize)
        let window = image.resized(
            width: width, height: height, columns: columns, rows: rows, filter: resample
        )
        if columns.count == cropSize && rows.count == cropSize { return window.pixels }
        var out = [UInt8](repeating: 0, count: 3 * cropSize * cropSize)
        for (index, row) in rows.enumerated() {
            let target = 3 * ((row - top) * cropSize + columns.lowerBound - left)
            let from = 3 * index * columns.count
            out.replaceSubrange(
                target..<(target + 3 * columns.count), with: window.pixels[from..<(from + 3 * columns.count)]
            )
        }
        return out
    }

    /// (x / 255 - mean) / std, every operation rounded to float32, planes instead of interleaved pixels.
    private func normalised(_ rgb: [UInt8]) -> [Float] {
        let plane = cropSize * cropSize
        var out = [Float](repeating: 0, count: 3 * plane)
        for channel in 0..<3 {
            let mean = Float(self.mean[channel])
            let std = Float(self.std[channel])
            let table = (0...255).map { (Float($0) / 255 - mean) / std }
            for index in 0..<plane {
                out[channel * plane + index] = table[Int(rgb[3 * index + channel])]
            }
        }
        return out
    }
}
