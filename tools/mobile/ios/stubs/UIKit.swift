// Compile-only: the declarations of UIKit that the app uses.
@_exported import CoreGraphics
@_exported import Foundation

public final class UIImage: @unchecked Sendable {
    public enum Orientation: Int {
        case up, down, left, right, upMirrored, downMirrored, leftMirrored, rightMirrored
    }
    public init?(data: Data) { nil }
    public init(cgImage: CGImage) { fatalError() }
    public var cgImage: CGImage? { fatalError() }
    public var imageOrientation: Orientation { fatalError() }
    public var size: CGSize { fatalError() }
    public func byPreparingThumbnail(ofSize size: CGSize) async -> UIImage? { fatalError() }
}

@MainActor open class UIViewController: NSObject {}
@MainActor open class UINavigationController: UIViewController {}
@MainActor public protocol UINavigationControllerDelegate: AnyObject {}

@MainActor public final class UIImagePickerController: UINavigationController {
    public enum SourceType: Int { case photoLibrary, camera, savedPhotosAlbum }
    public struct InfoKey: Hashable, Sendable {
        public static let originalImage = InfoKey()
    }
    public static func isSourceTypeAvailable(_ sourceType: SourceType) -> Bool { fatalError() }
    public var sourceType = SourceType.photoLibrary
    public weak var delegate: (any UIImagePickerControllerDelegate & UINavigationControllerDelegate)?
}

@MainActor public protocol UIImagePickerControllerDelegate: AnyObject {
    func imagePickerController(
        _ picker: UIImagePickerController, didFinishPickingMediaWithInfo info: [UIImagePickerController.InfoKey: Any]
    )
    func imagePickerControllerDidCancel(_ picker: UIImagePickerController)
}

@MainActor public final class UIApplication {
    public static let shared = UIApplication()
    public var isIdleTimerDisabled = false
}

@MainActor public final class UIDevice {
    public static let current = UIDevice()
    public var systemVersion: String { fatalError() }
}
