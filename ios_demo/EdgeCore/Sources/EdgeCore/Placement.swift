/// Where Core ML and Core AI may run a model; other runtimes decide that when they are built.
public enum ComputeUnits: String, CaseIterable, Identifiable, Codable, Sendable {
    case all, cpuOnly, cpuAndGPU, cpuAndNeuralEngine

    public var id: String { rawValue }
}

extension Manifest {
    /// Whether the runtime takes a choice of processors; a `.pte` has its own from the export.
    public var takesUnits: Bool { ["coreml", "coreai"].contains(target) }

    /// Refuses processors that a file cannot be asked to run on, before a runtime is asked.
    public func check(_ units: ComputeUnits) throws {
        guard !takesUnits, units != .all, !(units == .cpuOnly && backend == "xnnpack") else { return }
        throw EdgeError(
            "\(artefact) was exported for \(backend), which alone decides where it runs; choose All, or bundle a Core ML "
                + "file to choose processors"
        )
    }

    /// What a runtime gives the work to, for the report; Core ML's plan says more.
    public var delegate: String {
        switch (target, backend) {
        case ("coreml", _), (_, "coreml"): return "Core ML"
        case ("coreai", _): return "Core AI"
        case (_, "xnnpack"): return "XNNPACK"
        default: return backend.isEmpty ? target : backend
        }
    }
}

/// One row of a benchmark that is still to come.
public struct PlannedRow: Sendable {
    public let artefact: BundledArtefact
    public let units: ComputeUnits
}

/// The rows of a benchmark, fixed before it begins: every file on `only` these processors, or on all kinds of them.
public func benchmarkPlan(_ artefacts: [BundledArtefact], only: ComputeUnits?) -> [PlannedRow] {
    artefacts.flatMap { artefact -> [PlannedRow] in
        let all: [ComputeUnits] = artefact.manifest.takesUnits ? ComputeUnits.allCases : [.all]
        return (only.map { [$0] } ?? all).map { PlannedRow(artefact: artefact, units: $0) }
    }
}
