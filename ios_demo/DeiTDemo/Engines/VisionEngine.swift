import CoreML
import EdgeCore
import Foundation
import ImageIO
import Vision

/// Who makes a model's input of a photo.
enum PhotoWay: String, CaseIterable, Identifiable, Codable, Sendable {
    /// EdgeCore, bit for bit as Python does.
    case golden
    /// Vision: the central square of the photo, scaled by a filter that Apple does not document.
    case vision

    var id: String { rawValue }
}

/// A classifier of images behind Vision, which turns, cuts and scales the photo by itself.
///
/// Not thread safe; `Worker` owns it. What that costs is measured in docs/mobile.md.
final class VisionEngine {
    let runner: String
    private let request: VNCoreMLRequest
    private let manifest: Manifest

    init(_ artefact: BundledArtefact, units: ComputeUnits) throws {
        manifest = artefact.manifest
        guard manifest.isForVision else {
            throw EdgeError("\(artefact.id) is no classifier of images, so Vision cannot feed it; export with --input image")
        }
        request = VNCoreMLRequest(model: try VNCoreMLModel(for: try loadCoreML(artefact, units: units)))
        request.imageCropAndScaleOption = .centerCrop
        runner = "Vision, \(units.rawValue)"
    }

    /// A photo as it is stored and its EXIF orientation (1 to 8) -> one probability a class.
    func classify(_ photo: CGImage, orientation: Int) throws -> [Float] {
        let turned = CGImagePropertyOrientation(rawValue: UInt32(clamping: orientation)) ?? .up
        try VNImageRequestHandler(cgImage: photo, orientation: turned, options: [:]).perform([request])
        guard let found = request.results as? [VNClassificationObservation] else {
            throw EdgeError("Vision returns no classes for \(manifest.artefact); export it again")
        }
        let scores = found.map { ($0.identifier, $0.confidence) }
        return try probabilities(byName: Dictionary(scores, uniquingKeysWith: max), labels: manifest.labels)
    }
}
