import EdgeCore
import Foundation
import Observation

/// State of the folder screen.
@MainActor @Observable
final class FolderModel {
    enum Phase {
        case idle
        case running(done: Int, total: Int)
        case finished(FolderResult)
        case failed(String)
    }

    private(set) var phase = Phase.idle
    private let worker: Worker
    private var task: Task<Void, Never>?

    init(worker: Worker) {
        self.worker = worker
    }

    /// Runs over a folder that the user chose; nil stands for the golden photos.
    func start(_ folder: URL?, _ golden: GoldenFiles?, with artefact: BundledArtefact, units: ComputeUnits) {
        guard task == nil else { return }
        phase = .running(done: 0, total: 1)
        task = Task {
            let isLent = folder?.startAccessingSecurityScopedResource() ?? false
            do {
                let result = try await worker.runFolder(folder, golden, with: artefact, units: units) { done, total in
                    Task { @MainActor in self.advance(done, total) }
                }
                phase = .finished(result)
            } catch is CancellationError {
                phase = .idle
            } catch {
                phase = .failed(error.localizedDescription)
            }
            if isLent { folder?.stopAccessingSecurityScopedResource() }
            task = nil
        }
    }

    func fail(_ reason: String) {
        phase = .failed(reason)
    }

    func stop() {
        task?.cancel()
    }

    /// Messages may arrive late or out of order; the bar only moves forward.
    private func advance(_ done: Int, _ total: Int) {
        guard case let .running(before, _) = phase, done > before else { return }
        phase = .running(done: done, total: total)
    }
}
