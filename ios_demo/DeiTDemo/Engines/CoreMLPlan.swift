import CoreML
import EdgeCore
import Foundation

/// Where Core ML plans to run a file's operators; nil for files of other runtimes, which tell nothing like it.
///
/// Raises when Core ML does not tell; the message goes into the report's notes.
func plannedResidency(of artefact: BundledArtefact, units: ComputeUnits) async throws -> Residency? {
    guard artefact.manifest.target == "coreml" else { return nil }
    guard #available(iOS 17.4, *) else { throw EdgeError("Core ML tells its plan from iOS 17.4 on") }
    let plan = try await MLComputePlan.load(contentsOf: artefact.url, configuration: units.configuration)
    guard case let .program(program) = plan.modelStructure, let main = program.functions["main"] else {
        throw EdgeError("\(artefact.id) is no ML program with a function main; export it again")
    }
    return try Residency(
        main.block.operations.compactMap { operation in
            guard let usage = plan.deviceUsage(for: operation) else { return nil }
            return Residency.Operator(
                try usage.preferred.processor, weight: plan.estimatedCost(of: operation)?.weight
            )
        }
    )
}

extension MLComputeDevice {
    fileprivate var processor: Residency.Processor {
        get throws {
            switch self {
            case .cpu: return .cpu
            case .gpu: return .gpu
            case .neuralEngine: return .neuralEngine
            @unknown default: throw EdgeError("Core ML's plan has a processor that this app does not know")
            }
        }
    }
}
