import EdgeCore
import Foundation
import Observation

/// State of the self-test screen.
@MainActor @Observable
final class SelfTestModel {
    enum Phase {
        case idle
        case running(done: Int, total: Int)
        case finished(SelfTestResult)
        case failed(String)
    }

    private(set) var phase = Phase.idle
    /// The bundled models' own logits against the golden ones.
    private(set) var checks: [ModelCheck] = []
    private(set) var checkFailures: [Failure] = []
    private let worker: Worker
    private var task: Task<Void, Never>?

    init(worker: Worker) {
        self.worker = worker
    }

    func start(_ golden: GoldenFiles, _ artefacts: [BundledArtefact]) {
        guard task == nil else { return }
        phase = .running(done: 0, total: 1)
        (checks, checkFailures) = ([], [])
        task = Task {
            do {
                let result = try await worker.selfTest(golden) { done, total in
                    Task { @MainActor in self.advance(done, total + artefacts.count) }
                }
                for (index, artefact) in artefacts.enumerated() {
                    advance(result.total + index, result.total + artefacts.count)
                    try await check(artefact, golden)
                }
                phase = .finished(result)
            } catch is CancellationError {
                phase = .idle
            } catch {
                phase = .failed(error.localizedDescription)
            }
            task = nil
        }
    }

    func stop() {
        task?.cancel()
    }

    private func check(_ artefact: BundledArtefact, _ golden: GoldenFiles) async throws {
        do {
            if let found = try await worker.check(artefact, with: golden) { checks.append(found) }
        } catch let error where !(error is CancellationError) {
            checkFailures.append(Failure(name: artefact.id, reason: error.localizedDescription))
        }
    }

    /// Messages may arrive late or out of order; the bar only moves forward.
    private func advance(_ done: Int, _ total: Int) {
        guard case let .running(before, _) = phase, done > before else { return }
        phase = .running(done: done, total: total)
    }
}
