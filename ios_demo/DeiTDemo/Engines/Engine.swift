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

/// Loads the artefact with its own runtime.
func loadEngine(_ artefact: BundledArtefact, units: ComputeUnits) throws -> any Engine {
    try artefact.manifest.check(units)
    switch artefact.manifest.target {
    case "coreml":
        return try CoreMLEngine(artefact, units: units)
    case "executorch":
        #if canImport(ExecuTorch)
            return try ExecuTorchEngine(artefact)
        #else
            throw EdgeError(String(localized: "This build has no ExecuTorch. Add its Swift package as the README says."))
        #endif
    case "coreai":
        #if canImport(CoreAI)
            guard #available(iOS 27, *) else {
                throw EdgeError(String(localized: "Core AI needs iOS 27. Bundle a Core ML file for older systems."))
            }
            return try CoreAIEngine(artefact, units: units)
        #else
            throw EdgeError(String(localized: "This build has no Core AI. Build it with Xcode 27 or newer."))
        #endif
    case let other:
        throw EdgeError("\(artefact.id) is for \(other), which this app has no runtime for")
    }
}
