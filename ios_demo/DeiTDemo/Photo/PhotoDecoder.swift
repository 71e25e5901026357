import CoreGraphics
import EdgeCore
import Foundation
import ImageIO

/// Raw pixels of a photo as they are stored, and how EXIF says to turn them.
struct DecodedPhoto: Sendable {
    let image: RGBImage
    /// The same as iOS holds it, for Vision.
    let source: CGImage
    let orientation: Int
}

/// JPEG, HEIC, PNG to 8-bit RGB as it is stored. Nothing is scaled or turned here: that is EdgeCore's, which matches
/// Python; and no colour is converted, as Python converts none.
enum PhotoDecoder {
    /// 7 bytes a pixel are held at the peak, so this is about 450 MB.
    static let maxPixels = 64_000_000

    static func decode(_ data: Data) throws -> DecodedPhoto {
        guard let source = CGImageSourceCreateWithData(NSData(data: data) as CFData, nil),
            let image = CGImageSourceCreateImageAtIndex(source, 0, nil)
        else {
            throw EdgeError(String(localized: "This file is not a photo that iOS can read."))
        }
        let properties = CGImageSourceCopyPropertiesAtIndex(source, 0, nil) as? [CFString: Any]
        let orientation = properties?[kCGImagePropertyOrientation] as? Int
        return try decode(image, orientation: orientation ?? 1)
    }

    static func decode(_ image: CGImage, orientation: Int) throws -> DecodedPhoto {
        let (width, height) = (image.width, image.height)
        guard width * height <= maxPixels else {
            throw EdgeError(String(localized: "The photo is too large. The limit is 64 megapixels."))
        }
        guard let context = context(for: image) else {
            throw EdgeError(String(localized: "There is not enough memory for this photo."))
        }
        context.interpolationQuality = .none
        context.draw(image, in: CGRect(x: 0, y: 0, width: width, height: height))
        guard let pixels = context.data else {
            throw EdgeError(String(localized: "There is not enough memory for this photo."))
        }
        let rgb = [UInt8](unsafeUninitializedCapacity: 3 * width * height) { out, count in
            let rgbx = UnsafeRawBufferPointer(start: pixels, count: 4 * width * height)
            for index in 0..<(width * height) {
                for channel in 0..<3 {
                    out[3 * index + channel] = rgbx[4 * index + channel]
                }
            }
            count = 3 * width * height
        }
        // a file may claim an orientation that does not exist; Pillow ignores it too
        let known = (1...8).contains(orientation) ? orientation : 1
        let raw = try RGBImage(width: width, height: height, pixels: rgb)
        return DecodedPhoto(image: raw, source: image, orientation: known)
    }

    /// A context of the photo's own RGB colours, in which its values stay what they are; sRGB for grey and others.
    private static func context(for image: CGImage) -> CGContext? {
        let own = image.colorSpace.flatMap { $0.model == .rgb ? $0 : nil }
        for space in [own, CGColorSpace(name: CGColorSpace.sRGB)] {
            guard let space else { continue }
            let context = CGContext(
                data: nil, width: image.width, height: image.height, bitsPerComponent: 8,
                bytesPerRow: 4 * image.width, space: space, bitmapInfo: CGImageAlphaInfo.noneSkipLast.rawValue
            )
            if let context { return context }
        }
        return nil
    }
}
