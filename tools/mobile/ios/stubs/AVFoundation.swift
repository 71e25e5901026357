// Compile-only: the declarations of AVFoundation that the app uses.
@_exported import Foundation

public struct AVMediaType: Hashable, Sendable {
    public static let video = AVMediaType()
}

public enum AVAuthorizationStatus: Int { case notDetermined, restricted, denied, authorized }

public final class AVCaptureDevice {
    public static func authorizationStatus(for mediaType: AVMediaType) -> AVAuthorizationStatus { fatalError() }
}
