import EdgeCore
import Foundation
import Observation
import UIKit

/// State of the benchmark screen.
@MainActor @Observable
final class BenchmarkModel {
    private(set) var rows: [ArtefactReport] = []
    private(set) var failures: [Failure] = []
    private(set) var done = 0
    private(set) var total = 0
    /// The finished report as a file, to share.
    private(set) var file: URL?
    /// What the next run measures, nil for all kinds of processors; one that runs keeps its own.
    var only: ComputeUnits?

    private let worker: Worker
    private var leftForeground = false
    private var task: Task<Void, Never>?

    init(worker: Worker) {
        self.worker = worker
    }

    var isRunning: Bool { task != nil }

    func start(_ library: Library) {
        guard task == nil else { return }
        (rows, failures, file) = ([], [], nil)
        let plan = benchmarkPlan(library.artefacts, only: only)
        (done, total) = (0, plan.count)
        UIApplication.shared.isIdleTimerDisabled = true  // a dimmed phone clocks down
        leftForeground = false
        let process = ProcessInfo.processInfo
        let (begin, saver) = (process.thermalState.name, process.isLowPowerModeEnabled)
        task = Task {
            for row in plan where !Task.isCancelled {
                await measure(row.artefact, row.units, library.golden)
                done += 1
            }
            let conditions = DeviceReport.Conditions(
                thermalBegin: begin, thermalEnd: process.thermalState.name,
                powerSaver: saver || process.isLowPowerModeEnabled, leftForeground: leftForeground,
                screenKeptOn: true
            )
            if !rows.isEmpty { writeReport(conditions) }
            UIApplication.shared.isIdleTimerDisabled = false
            task = nil
        }
    }

    func stop() {
        task?.cancel()
    }

    /// The app went out of sight: iOS may slow it down, and the report says so.
    func becameInactive() {
        if isRunning { leftForeground = true }
    }

    private func measure(_ artefact: BundledArtefact, _ units: ComputeUnits, _ golden: GoldenFiles?) async {
        do {
            rows.append(try await worker.benchmark(artefact, units: units, golden: golden))
        } catch is CancellationError {
            return
        } catch {
            failures.append(Failure(name: "\(artefact.id), \(units.rawValue)", reason: error.localizedDescription))
        }
    }

    private func writeReport(_ conditions: DeviceReport.Conditions) {
        let report = DeviceReport(
            created: .now, app: .thisApp, device: .current, conditions: conditions, artefacts: rows
        )
        let url = FileManager.default.temporaryDirectory.appendingPathComponent("device-report.json")
        do {
            try report.json().write(to: url, options: .atomic)
            file = url
        } catch {
            failures.append(Failure(name: url.lastPathComponent, reason: error.localizedDescription))
        }
    }
}

extension DeviceReport.App {
    static var thisApp: Self {
        let version = Bundle.main.object(forInfoDictionaryKey: "CFBundleShortVersionString") as? String
        #if DEBUG
            let build = "debug"
        #else
            let build = "release"
        #endif
        return Self(name: "edge-deit-ios", version: version ?? "unknown", build: build)
    }
}

extension ProcessInfo.ThermalState {
    /// Apple's word for it.
    var name: String? {
        switch self {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return nil
        }
    }
}

extension DeviceReport.Device {
    @MainActor static var current: Self {
        var system = utsname()
        uname(&system)
        let machine = withUnsafeBytes(of: system.machine) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)  // "iPhone16,1"
        }
        return Self(
            manufacturer: "Apple", model: machine, os: "iOS", osVersion: UIDevice.current.systemVersion,
            soc: nil, cores: ProcessInfo.processInfo.processorCount  // iOS does not name its chip
        )
    }
}
