// Compile-only: the declarations of Vision that the app uses.
import CoreML
import ImageIO

public typealias VNConfidence = Float

public enum VNImageCropAndScaleOption: UInt {
    case centerCrop = 0
    case scaleFit = 1
    case scaleFill = 2
}

open class VNObservation: NSObject {}

public final class VNClassificationObservation: VNObservation {
    public var identifier: String { fatalError() }
    public var confidence: VNConfidence { fatalError() }
}

open class VNRequest: NSObject {
    public var results: [VNObservation]? { fatalError() }
}

public final class VNCoreMLModel {
    public init(for model: MLModel) throws { fatalError() }
}

public final class VNCoreMLRequest: VNRequest {
    public init(model: VNCoreMLModel) { fatalError() }
    public var imageCropAndScaleOption = VNImageCropAndScaleOption.centerCrop
}

public struct VNImageOption: Hashable {}

public final class VNImageRequestHandler {
    public init(cgImage image: CGImage, orientation: CGImagePropertyOrientation, options: [VNImageOption: Any]) {
        fatalError()
    }
    public func perform(_ requests: [VNRequest]) throws { fatalError() }
}
