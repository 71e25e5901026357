import EdgeCore
import SwiftUI

/// Every bundled artefact on every kind of compute unit, and the report to share.
struct BenchmarkView: View {
    @Bindable var model: BenchmarkModel
    let library: Library
    @Environment(\.scenePhase) private var phase

    var body: some View {
        NavigationStack {
            List {
                Section { controls }
                if !model.rows.isEmpty {
                    Section("Results") {
                        ForEach(model.rows) { row in BenchmarkRow(row: row) }
                    }
                }
                FailureSection(failures: model.failures)
            }
            .navigationTitle("Benchmark")
            .onChange(of: phase) { _, now in
                if now != .active { model.becameInactive() }
            }
        }
    }

    @ViewBuilder private var controls: some View {
        if model.isRunning {
            ProgressView(value: Double(model.done), total: Double(max(model.total, 1)))
                .accessibilityLabel("Progress")
            Button("Stop", role: .cancel) { model.stop() }
        } else {
            Picker("Compute units", selection: $model.only) {
                Text("All kinds, one after the other").tag(ComputeUnits?.none)
                ForEach(ComputeUnits.allCases) { units in
                    Text(units.title).tag(ComputeUnits?.some(units))
                }
            }
            Button("Measure all files") { model.start(library) }
        }
        if let file = model.file {
            ShareLink(item: file) { Label("Share the report", systemImage: "square.and.arrow.up") }
        }
        Text("Close other apps, let the phone cool down, and build for release: times of a debug build mean nothing.")
            .font(.footnote)
            .foregroundStyle(.secondary)
    }
}

private struct BenchmarkRow: View {
    let row: ArtefactReport

    var body: some View {
        VStack(alignment: .leading) {
            Text(verbatim: row.path).font(.headline)
            Text(verbatim: row.runner).font(.footnote).foregroundStyle(.secondary)
            LabeledContent("Median") { Text(verbatim: milliseconds(row.latencyMsP50)) }
            LabeledContent("90th percentile") { Text(verbatim: milliseconds(row.latencyMsP90)) }
            LabeledContent("Preprocessing") { Text(verbatim: milliseconds(row.preprocessMsP50)) }
            LabeledContent("Loading") { Text(verbatim: milliseconds(row.loadMs)) }
            LabeledContent("Loading again") { Text(verbatim: milliseconds(row.loadWarmMs)) }
            LabeledContent("First run") { Text(verbatim: milliseconds(row.firstRunMs)) }
            if let plan = row.residency {
                LabeledContent("Planned for the Neural Engine") {
                    Text(verbatim: "\(plan.operators[.neuralEngine] ?? 0) / \(plan.total)")
                }
            }
            if let check = row.check {
                LabeledContent("Same class") { Text(verbatim: "\(check.sameTop) / \(check.images)") }
            }
        }
        .monospacedDigit()
        .accessibilityElement(children: .combine)
    }
}
