// Compile-only: the declarations of AVFoundation and Core Media that the app uses.
@_exported import CoreVideo
@_exported import Dispatch
@_exported import Foundation

public struct AVMediaType: Hashable, Sendable {
    public static let video = AVMediaType()
}

public enum AVAuthorizationStatus: Int { case notDetermined, restricted, denied, authorized }

public class AVCaptureInput: NSObject {}
public class AVCaptureOutput: NSObject {
    public func connection(with mediaType: AVMediaType) -> AVCaptureConnection? { fatalError() }
}
public final class CALayer {}

public final class AVCaptureConnection: NSObject {
    public var videoRotationAngle: CGFloat = 0
}

public final class AVCaptureDevice: NSObject {
    public struct DeviceType: Sendable {
        public static let builtInWideAngleCamera = DeviceType()
    }
    public enum Position: Int { case unspecified, back, front }

    public final class RotationCoordinator: NSObject {
        public init(device: AVCaptureDevice, previewLayer: CALayer?) { fatalError() }
        public var videoRotationAngleForHorizonLevelCapture: CGFloat { fatalError() }
    }

    public static func authorizationStatus(for mediaType: AVMediaType) -> AVAuthorizationStatus { fatalError() }
    public static func requestAccess(for mediaType: AVMediaType) async -> Bool { fatalError() }
    public static func `default`(
        _ deviceType: DeviceType, for mediaType: AVMediaType?, position: Position
    ) -> AVCaptureDevice? { fatalError() }
}

public final class AVCaptureDeviceInput: AVCaptureInput {
    public init(device: AVCaptureDevice) throws { fatalError() }
}

public final class CMSampleBuffer {}

public func CMSampleBufferGetImageBuffer(_ buffer: CMSampleBuffer) -> CVPixelBuffer? { fatalError() }

public protocol AVCaptureVideoDataOutputSampleBufferDelegate: AnyObject {
    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    )
}

public final class AVCaptureVideoDataOutput: AVCaptureOutput {
    public var videoSettings: [String: Any]! = [:]
    public var alwaysDiscardsLateVideoFrames = true
    public func setSampleBufferDelegate(
        _ delegate: (any AVCaptureVideoDataOutputSampleBufferDelegate)?, queue: DispatchQueue?
    ) { fatalError() }
}

public final class AVCaptureSession: NSObject {
    public struct Preset: Sendable {
        public static let vga640x480 = Preset()
    }
    public var sessionPreset = Preset()
    public var inputs: [AVCaptureInput] { fatalError() }
    public func beginConfiguration() {}
    public func commitConfiguration() {}
    public func canAddInput(_ input: AVCaptureInput) -> Bool { fatalError() }
    public func addInput(_ input: AVCaptureInput) {}
    public func canAddOutput(_ output: AVCaptureOutput) -> Bool { fatalError() }
    public func addOutput(_ output: AVCaptureOutput) {}
    public func startRunning() {}
    public func stopRunning() {}
}
