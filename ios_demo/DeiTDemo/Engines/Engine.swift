import EdgeCore
import Foundation

/// A loaded artefact: what the file takes to what it returns, as its manifest's contract says. Not thread safe; `Worker` owns it.
protocol Engine: AnyObject {
    /// What ran, for the report: runtime, its version, compute units.
    var runner: String { get }
    /// CPU threads where the runtime lets the app choose them.
    var threads: Int? { get }

    func predict(_ input: ModelInput) throws -> [Float]
}

/// Where Core ML may run a model; other runtimes decide that when they are built.
enum ComputeUnits: String, CaseIterable, Identifiable, Codable, Sendable {
    case all, cpuOnly, cpuAndGPU, cpuAndNeuralEngine

    var id: String { rawValue }
}

/// Loads the artefact with its own runtime.
func loadEngine(_ artefact: BundledArtefact, units: ComputeUnits) throws -> any Engine {
    switch artefact.manifest.target {
    case "coreml":
        return try CoreMLEngine(artefact, units: units)
    case "executorch":
        #if canImport(ExecuTorch)
            return try ExecuTorchEngine(artefact)
        #else
            throw EdgeError(String(localized: "This build has no ExecuTorch. Add its Swift package as the README says."))
        #endif
    case let other:
        throw EdgeError("\(artefact.id) is for \(other), which this app has no runtime for")
    }
}

/// Compute units worth trying for an artefact: all of them for Core ML, one row for the others.
func choices(for artefact: BundledArtefact) -> [ComputeUnits] {
    artefact.manifest.target == "coreml" ? ComputeUnits.allCases : [.all]
}
