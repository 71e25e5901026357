/// Fixed-point weights of one resampling pass: what Pillow computes for one axis.
///
/// Output i is the sum of `count[i]` source pixels from `first[i]` on, times `weights[i * stride...]`, all in
/// units of 2^-22. Source: Pillow's libImaging/Resample.c, `precompute_coeffs` and `normalize_coeffs_8bpc`.
struct AxisWeights {
    /// 32 bits less 8 for a pixel and 2 for weights above 1 and below 0.
    static let precisionBits: Int32 = 32 - 8 - 2

    let outputs: Range<Int>
    let first: [Int]
    let count: [Int]
    let stride: Int
    let weights: [Int32]

    /// Weights of the `outputs` among `outputSize`, from `inputSize` source pixels.
    init(inputSize: Int, outputSize: Int, outputs: Range<Int>, filter: Filter) {
        let scale = Double(inputSize) / Double(outputSize)
        let filterScale = max(scale, 1)
        let support = filter.support * filterScale
        let inverse = 1 / filterScale
        let width = Int(support.rounded(.up)) * 2 + 1
        var first: [Int] = []
        var count: [Int] = []
        var weights = [Int32](repeating: 0, count: outputs.count * width)
        for (row, output) in outputs.enumerated() {
            let centre = (Double(output) + 0.5) * scale
            let low = max(0, Int(centre - support + 0.5))
            let high = min(inputSize, Int(centre + support + 0.5))
            let raw = (0..<(high - low)).map { filter.weight((Double($0 + low) - centre + 0.5) * inverse) }
            let sum = raw.reduce(0, +)
            for (index, value) in raw.enumerated() {
                weights[row * width + index] = Self.fixed(sum != 0 ? value / sum : value)
            }
            first.append(low)
            count.append(high - low)
        }
        self.outputs = outputs
        self.first = first
        self.count = count
        stride = width
        self.weights = weights
    }

    private init(outputs: Range<Int>, first: [Int], count: [Int], stride: Int, weights: [Int32]) {
        self.outputs = outputs
        self.first = first
        self.count = count
        self.stride = stride
        self.weights = weights
    }

    /// The same weights for an image that begins at the first source pixel.
    func fromFirstSource() -> AxisWeights {
        let start = sources.lowerBound
        return AxisWeights(
            outputs: outputs, first: first.map { $0 - start }, count: count, stride: stride, weights: weights)
    }

    /// Source pixels that any of the outputs looks at.
    var sources: Range<Int> {
        let ends = zip(first, count).map(+)
        return (first.min() ?? 0)..<(ends.max() ?? 0)
    }

    private static func fixed(_ weight: Double) -> Int32 {
        let scaled = weight * Double(Int32(1) << precisionBits)
        return Int32(weight < 0 ? scaled - 0.5 : scaled + 0.5)  // half away from zero, then cut
    }
}

/// A part of a resized image: `columns` x `rows` of it, RGB.
struct ResizedWindow {
    let columns: Range<Int>
    let rows: Range<Int>
    let pixels: [UInt8]
}

extension RGBImage {
    /// The pixels in `columns` x `rows` of the image resized to `width` x `height`, equal to Pillow's.
    ///
    /// Only what the window needs is computed: an extreme aspect or a huge photo costs no huge intermediate
    /// image. Each pass rounds to 8 bits, so their order shows; a pass whose size does not change is skipped.
    func resized(
        width newWidth: Int, height newHeight: Int, columns: Range<Int>, rows: Range<Int>, filter: Filter
    ) -> ResizedWindow {
        if filter == .nearest && (newWidth != width || newHeight != height) {
            let out = nearest(newWidth, newHeight, columns, rows)
            return ResizedWindow(columns: columns, rows: rows, pixels: out)
        }
        let across =
            newWidth == width
            ? nil : AxisWeights(inputSize: width, outputSize: newWidth, outputs: columns, filter: filter)
        let down =
            newHeight == height
            ? nil : AxisWeights(inputSize: height, outputSize: newHeight, outputs: rows, filter: filter)
        let out: [UInt8]
        if let across, let down, verticalFirst(newWidth, newHeight) {
            let part = copied(columns: across.sources, rows: down.sources)
            let bytes = 3 * across.sources.count
            let low = verticalPass(down, over: part, from: down.sources, rowBytes: bytes)
            let image = RGBImage(width: across.sources.count, height: rows.count, trusted: low)
            out = image.horizontalPass(across.fromFirstSource(), rows: 0..<rows.count)
        } else {
            let sourceRows = down?.sources ?? rows
            let narrow =
                across.map { horizontalPass($0, rows: sourceRows) }
                ?? copied(columns: columns, rows: sourceRows)
            out =
                down.map {
                    verticalPass($0, over: narrow, from: sourceRows, rowBytes: 3 * columns.count)
                } ?? narrow
        }
        return ResizedWindow(columns: columns, rows: rows, pixels: out)
    }

    /// Whether the vertical pass comes first: since Pillow 13, where more than twice as many rows are lost as
    /// columns.
    private func verticalFirst(_ newWidth: Int, _ newHeight: Int) -> Bool {
        height - newHeight > max(0, 2 * (width - newWidth))
    }

    private func copied(columns: Range<Int>, rows: Range<Int>) -> [UInt8] {
        rows.flatMap { row in
            pixels[(3 * (row * width + columns.lowerBound))..<(3 * (row * width + columns.upperBound))]
        }
    }

    private func horizontalPass(_ axis: AxisWeights, rows: Range<Int>) -> [UInt8] {
        let size = 3 * axis.outputs.count * rows.count
        return [UInt8](unsafeUninitializedCapacity: size) { out, initialised in
            pixels.withUnsafeBufferPointer { source in
                axis.weights.withUnsafeBufferPointer { weights in
                    var target = 0
                    for row in rows {
                        for index in 0..<axis.outputs.count {
                            var red = half, green = half, blue = half
                            var from = 3 * (row * width + axis.first[index])
                            let start = index * axis.stride
                            for tap in start..<(start + axis.count[index]) {
                                let weight = weights[tap]
                                red &+= Int32(source[from]) &* weight
                                green &+= Int32(source[from + 1]) &* weight
                                blue &+= Int32(source[from + 2]) &* weight
                                from += 3
                            }
                            out[target] = clipped(red)
                            out[target + 1] = clipped(green)
                            out[target + 2] = clipped(blue)
                            target += 3
                        }
                    }
                }
            }
            initialised = size
        }
    }

    private func verticalPass(
        _ axis: AxisWeights, over rows: [UInt8], from sources: Range<Int>, rowBytes: Int
    ) -> [UInt8] {
        var sums = [Int32](repeating: half, count: rowBytes)
        let size = rowBytes * axis.outputs.count
        return [UInt8](unsafeUninitializedCapacity: size) { out, initialised in
            rows.withUnsafeBufferPointer { source in
                sums.withUnsafeMutableBufferPointer { sums in
                    for index in 0..<axis.outputs.count {
                        sums.update(repeating: half)
                        for tap in 0..<axis.count[index] {
                            let weight = axis.weights[index * axis.stride + tap]
                            let from = (axis.first[index] + tap - sources.lowerBound) * rowBytes
                            for byte in 0..<rowBytes {
                                sums[byte] &+= Int32(source[from + byte]) &* weight
                            }
                        }
                        for byte in 0..<rowBytes {
                            out[index * rowBytes + byte] = clipped(sums[byte])
                        }
                    }
                }
            }
            initialised = size
        }
    }

    /// Pillow's nearest filter: positions are summed up step by step, as its `ImagingScaleAffine` does.
    private func nearest(
        _ newWidth: Int, _ newHeight: Int, _ columns: Range<Int>, _ rows: Range<Int>
    ) -> [UInt8] {
        let fromX = nearestSources(outputSize: newWidth, inputSize: width)
        let fromY = nearestSources(outputSize: newHeight, inputSize: height)
        var out: [UInt8] = []
        out.reserveCapacity(3 * columns.count * rows.count)
        for row in rows {
            for column in columns {
                guard let x = fromX[column], let y = fromY[row] else {
                    out.append(contentsOf: [0, 0, 0])
                    continue
                }
                let from = 3 * (y * width + x)
                out.append(contentsOf: pixels[from..<(from + 3)])
            }
        }
        return out
    }
}

/// Half a unit of the fixed-point sum, so that cutting the fraction rounds.
private let half: Int32 = 1 << (AxisWeights.precisionBits - 1)

@inline(__always)
private func clipped(_ sum: Int32) -> UInt8 {
    UInt8(truncatingIfNeeded: min(max(sum >> AxisWeights.precisionBits, 0), 255))
}

/// Source position of each output, nil where rounding has carried it past the last pixel.
private func nearestSources(outputSize: Int, inputSize: Int) -> [Int?] {
    let step = Double(inputSize) / Double(outputSize)
    var position = step * 0.5
    return (0..<outputSize).map { _ in
        defer { position += step }
        let source = Int(position)
        return source < inputSize ? source : nil
    }
}
