import CoreVideo
import EdgeCore
import Foundation

/// A photo's bytes in the form that Core ML takes as an image; made once, filled for every photo.
final class PixelBuffer {
    let buffer: CVPixelBuffer
    private let size: Int

    init(size: Int) throws {
        self.size = size
        var made: CVPixelBuffer?
        let code = CVPixelBufferCreate(
            nil, size, size, kCVPixelFormatType_32BGRA, [kCVPixelBufferIOSurfacePropertiesKey: [:]] as CFDictionary, &made
        )
        guard code == kCVReturnSuccess, let made else {
            throw EdgeError("no pixel buffer of \(size) x \(size) can be made (code \(code))")
        }
        buffer = made
    }

    func fill(_ image: RGBImage) throws {
        guard image.width == size, image.height == size else {
            throw EdgeError("the image is \(image.width) x \(image.height), the model takes \(size) x \(size)")
        }
        CVPixelBufferLockBaseAddress(buffer, [])
        defer { CVPixelBufferUnlockBaseAddress(buffer, []) }
        guard let base = CVPixelBufferGetBaseAddress(buffer) else {
            throw EdgeError("the pixel buffer has no memory")
        }
        let rowBytes = CVPixelBufferGetBytesPerRow(buffer)
        for row in 0..<size {
            let target = (base + row * rowBytes).assumingMemoryBound(to: UInt8.self)
            for column in 0..<size {
                let from = 3 * (row * size + column)
                target[4 * column] = image.pixels[from + 2]  // blue, green, red, opaque
                target[4 * column + 1] = image.pixels[from + 1]
                target[4 * column + 2] = image.pixels[from]
                target[4 * column + 3] = 255
            }
        }
    }
}
