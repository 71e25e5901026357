@preconcurrency import AVFoundation
import EdgeCore
import Foundation

/// Frames of the back camera, upright, one at a time: a new one is taken when the last one was given back.
///
/// All but `ready` and `stop` happens on the camera's queue.
final class LiveCamera: NSObject, AVCaptureVideoDataOutputSampleBufferDelegate, @unchecked Sendable {
    private let session = AVCaptureSession()
    private let queue = DispatchQueue(label: "edge-deit-camera")
    private let lock = NSLock()
    private var isWaiting = true
    private var rotation: AVCaptureDevice.RotationCoordinator?
    private let onFrame: @Sendable (RGBImage) -> Void
    private let onProblem: @Sendable (String) -> Void

    init(onFrame: @escaping @Sendable (RGBImage) -> Void, onProblem: @escaping @Sendable (String) -> Void) {
        self.onFrame = onFrame
        self.onProblem = onProblem
    }

    /// The user has allowed it.
    func start() {
        queue.async {
            do {
                try self.configure()
                self.session.startRunning()
            } catch {
                self.onProblem(error.localizedDescription)
            }
        }
    }

    func stop() {
        queue.async { self.session.stopRunning() }
    }

    /// The next frame is wanted.
    func ready() {
        lock.withLock { isWaiting = true }
    }

    private func configure() throws {
        guard session.inputs.isEmpty else { return }
        guard let device = AVCaptureDevice.default(.builtInWideAngleCamera, for: .video, position: .back) else {
            throw EdgeError(String(localized: "This device has no camera on its back."))
        }
        let (input, output) = (try AVCaptureDeviceInput(device: device), AVCaptureVideoDataOutput())
        session.beginConfiguration()
        defer { session.commitConfiguration() }
        session.sessionPreset = .vga640x480
        output.videoSettings = [
            kCVPixelBufferPixelFormatTypeKey as String: kCVPixelFormatType_420YpCbCr8BiPlanarFullRange
        ]
        output.alwaysDiscardsLateVideoFrames = true
        output.setSampleBufferDelegate(self, queue: queue)
        guard session.canAddInput(input), session.canAddOutput(output) else {
            throw EdgeError(String(localized: "The camera does not deliver frames that this app can read."))
        }
        session.addInput(input)
        session.addOutput(output)
        // frames come as the sensor has them: turned here, by the rule that the golden cases check
        output.connection(with: .video)?.videoRotationAngle = 0
        rotation = AVCaptureDevice.RotationCoordinator(device: device, previewLayer: nil)
    }

    func captureOutput(
        _ output: AVCaptureOutput, didOutput sampleBuffer: CMSampleBuffer, from connection: AVCaptureConnection
    ) {
        let isWanted = lock.withLock {
            defer { isWaiting = false }
            return isWaiting
        }
        guard isWanted, let buffer = CMSampleBufferGetImageBuffer(sampleBuffer) else { return }
        do {
            let angle = rotation?.videoRotationAngleForHorizonLevelCapture ?? 0
            onFrame(try upright(buffer, turn: Frame.turn(forAngle: angle)))
        } catch {
            onProblem(error.localizedDescription)
        }
    }

    /// A frame of two planes, luma and both chromas in turn (NV12), which need not lie one behind the other.
    private func upright(_ buffer: CVPixelBuffer, turn: Int) throws -> RGBImage {
        CVPixelBufferLockBaseAddress(buffer, .readOnly)
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        guard CVPixelBufferGetPlaneCount(buffer) == 2, let luma = CVPixelBufferGetBaseAddressOfPlane(buffer, 0),
            let chroma = CVPixelBufferGetBaseAddressOfPlane(buffer, 1)
        else {
            throw EdgeError(String(localized: "The camera does not deliver frames that this app can read."))
        }
        let rows = [0, 1].map { CVPixelBufferGetBytesPerRowOfPlane(buffer, $0) }
        let sizes = [0, 1].map { rows[$0] * CVPixelBufferGetHeightOfPlane(buffer, $0) }
        var bytes = [UInt8](UnsafeRawBufferPointer(start: luma, count: sizes[0]))
        bytes += UnsafeRawBufferPointer(start: chroma, count: sizes[1])
        let frame = try Frame(
            width: CVPixelBufferGetWidth(buffer), height: CVPixelBufferGetHeight(buffer),
            y: Plane(offset: 0, rowStride: rows[0], pixelStride: 1),
            u: Plane(offset: sizes[0], rowStride: rows[1], pixelStride: 2),
            v: Plane(offset: sizes[0] + 1, rowStride: rows[1], pixelStride: 2), count: bytes.count,
            colors: YuvColors(matrix(of: buffer), .full)
        )
        return try bytes.withUnsafeBytes { try frame.upright(turn: turn, of: $0) }
    }

    /// The matrix that the frame says it was made with; BT.601 where it says nothing.
    private func matrix(of buffer: CVPixelBuffer) -> YuvColors.Matrix {
        let found = CVBufferCopyAttachment(buffer, kCVImageBufferYCbCrMatrixKey, nil) as? String
        return found == kCVImageBufferYCbCrMatrix_ITU_R_709_2 as String ? .bt709 : .bt601
    }
}
