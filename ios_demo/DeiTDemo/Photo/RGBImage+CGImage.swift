import CoreGraphics
import EdgeCore
import Foundation

extension RGBImage {
    /// For the screen.
    func cgImage() throws -> CGImage {
        let provider = CGDataProvider(data: NSData(data: Data(pixels)) as CFData)
        guard let provider, let space = CGColorSpace(name: CGColorSpace.sRGB),
            let image = CGImage(
                width: width, height: height, bitsPerComponent: 8, bitsPerPixel: 24, bytesPerRow: 3 * width,
                space: space, bitmapInfo: CGBitmapInfo(rawValue: CGImageAlphaInfo.none.rawValue), provider: provider,
                decode: nil, shouldInterpolate: false, intent: .defaultIntent
            )
        else {
            throw EdgeError(String(localized: "There is not enough memory for this photo."))
        }
        return image
    }
}
