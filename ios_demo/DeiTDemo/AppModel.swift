import EdgeCore
import Foundation
import Observation
import UIKit

/// What the screens show; lives on the main actor and leaves the work to `Worker`.
@MainActor @Observable
final class AppModel {
    enum Content {
        case loading
        case nothingBundled
        case broken(String)
        case ready(Library)
    }

    static let runChoices = [1, 5, 20]

    private static var chosenRuns: Int {
        let stored = UserDefaults.standard.integer(forKey: "runs")
        return runChoices.contains(stored) ? stored : 5
    }

    private(set) var content = Content.loading
    private(set) var photo: UIImage?
    /// What Python answered to the sample that is shown; nil for other photos.
    private(set) var expected: String?
    private(set) var result: Classification?
    private(set) var failure: String?
    private(set) var isBusy = false

    var artefactID = UserDefaults.standard.string(forKey: "artefact") ?? "" {
        didSet { choiceChanged(artefactID, "artefact") }
    }
    var units = ComputeUnits(rawValue: UserDefaults.standard.string(forKey: "units") ?? "") ?? .all {
        didSet { choiceChanged(units.rawValue, "units") }
    }
    var way = PhotoWay(rawValue: UserDefaults.standard.string(forKey: "way") ?? "") ?? .golden {
        didSet { choiceChanged(way.rawValue, "way") }
    }
    var runs = AppModel.chosenRuns {
        didSet { choiceChanged(runs, "runs") }
    }

    let worker = Worker()
    let benchmark: BenchmarkModel
    let selfTest: SelfTestModel
    let folder: FolderModel
    private var decoded: DecodedPhoto?
    private var task: Task<Void, Never>?

    init() {
        benchmark = BenchmarkModel(worker: worker)
        selfTest = SelfTestModel(worker: worker)
        folder = FolderModel(worker: worker)
    }

    var library: Library? {
        if case let .ready(library) = content { return library }
        return nil
    }

    var artefact: BundledArtefact? {
        library?.artefacts.first { $0.id == artefactID }
    }

    /// Reads what is bundled, once.
    func start() async {
        guard case .loading = content else { return }
        do {
            guard let folder = Bundle.main.resourceURL, let library = try await worker.readLibrary(folder) else {
                content = .nothingBundled
                return
            }
            content = .ready(library)
            if artefact == nil { artefactID = library.artefacts[0].id }
        } catch {
            content = .broken(error.localizedDescription)
        }
    }

    /// A photo from the library: its bytes, so that orientation and colours are still as they were taken.
    func use(_ load: @escaping () async throws -> Data?) {
        perform { [worker] in
            guard let data = try await load(), let image = UIImage(data: data) else {
                throw EdgeError(String(localized: "This file is not a photo that iOS can read."))
            }
            let decoded = try await worker.decode(data)
            return (await image.forScreen(), decoded)
        }
    }

    /// A sample photo of the bundle.
    func use(_ sample: GoldenCases.Image, of golden: GoldenFiles) {
        perform(expected: golden.expectedLabel(sample.name)) { [worker] in
            let decoded = try await worker.sample(sample)
            return (UIImage(cgImage: decoded.source), decoded)
        }
    }

    /// A photo from the camera.
    func use(_ image: UIImage) {
        guard let pixels = image.cgImage else {
            failure = String(localized: "This file is not a photo that iOS can read.")
            return
        }
        let orientation = image.exifOrientation
        perform { [worker] in
            let decoded = try await worker.decode(pixels, orientation: orientation)
            return (await image.forScreen(), decoded)
        }
    }

    /// Says what kept a photo from being taken.
    func refuse(_ reason: String) {
        failure = reason
    }

    private func perform(
        expected: String? = nil, _ prepare: @escaping () async throws -> (UIImage, DecodedPhoto)
    ) {
        run {
            let (image, decoded) = try await prepare()
            try Task.checkCancellation()
            self.photo = image
            self.decoded = decoded
            self.expected = expected
            try await self.classify()
        }
    }

    private func choiceChanged(_ value: Any, _ key: String) {
        UserDefaults.standard.set(value, forKey: key)
        if decoded != nil { run { try await self.classify() } }
    }

    private func classify() async throws {
        guard let decoded, let artefact else { return }
        result = nil
        let chosen = artefact.manifest.isForVision ? way : .golden
        let found = try await worker.classify(decoded, with: artefact, units: units, way: chosen, runs: runs)
        try Task.checkCancellation()
        result = found
    }

    /// Starts work in place of what was running; only the newest one changes what is shown.
    private func run(_ work: @escaping @MainActor () async throws -> Void) {
        task?.cancel()
        failure = nil
        isBusy = true
        task = Task {
            do {
                try await work()
            } catch is CancellationError {
                return
            } catch {
                guard !Task.isCancelled else { return }
                result = nil
                failure = error.localizedDescription
            }
            isBusy = false
        }
    }
}

extension UIImage {
    /// Small enough to be drawn at once; a photo of the camera's size would be decoded on the main thread.
    func forScreen() async -> UIImage {
        let longest = max(size.width, size.height)
        guard longest > Self.screenSide else { return self }
        let share = Self.screenSide / longest
        let small = CGSize(width: size.width * share, height: size.height * share)
        return await byPreparingThumbnail(ofSize: small) ?? self
    }

    private static var screenSide: CGFloat { 1024 }
}
