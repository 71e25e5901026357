import EdgeCore
import SwiftUI

/// Runs the golden cases on this device.
struct SelfTestView: View {
    let model: SelfTestModel
    let library: Library

    var body: some View {
        NavigationStack {
            List {
                if let golden = library.golden {
                    Section { controls(golden) }
                } else {
                    Text("This bundle has no golden cases. Bundle the model again.")
                }
                outcome
                models
            }
            .navigationTitle("Self-test")
        }
    }

    @ViewBuilder private func controls(_ golden: GoldenFiles) -> some View {
        if case let .running(done, total) = model.phase {
            ProgressView(value: Double(done), total: Double(total))
                .accessibilityLabel("Progress")
            Button("Stop", role: .cancel) { model.stop() }
        } else {
            Button("Run all cases") { model.start(golden, library.artefacts) }
        }
        Text("Pixels and probabilities made on this phone are compared with those that Python made, bit for bit and to 1e-6.")
            .font(.footnote)
            .foregroundStyle(.secondary)
    }

    @ViewBuilder private var models: some View {
        if !model.checks.isEmpty {
            Section("Models against Python") {
                ForEach(model.checks) { check in
                    VStack(alignment: .leading) {
                        Text(verbatim: check.artefact).font(.headline)
                        Text(verbatim: check.runner).font(.footnote).foregroundStyle(.secondary)
                        LabeledContent("Compared with") { Text(verbatim: check.reference) }
                        LabeledContent("Same class") { Text(verbatim: "\(check.sameTop) / \(check.images)") }
                        LabeledContent("Lowest cosine") {
                            Text(check.cosine, format: .number.precision(.fractionLength(5)))
                        }
                    }
                    .accessibilityElement(children: .combine)
                }
            }
        }
        FailureSection(failures: model.checkFailures)
    }

    @ViewBuilder private var outcome: some View {
        switch model.phase {
        case .idle, .running:
            EmptyView()
        case let .failed(reason):
            Label { Text(verbatim: reason) } icon: { Image(systemName: "exclamationmark.triangle") }
        case let .finished(result):
            Section("Result") {
                if result.passed {
                    Label("All cases agree", systemImage: "checkmark.circle").foregroundStyle(.green)
                } else {
                    Label("Some cases differ", systemImage: "xmark.circle").foregroundStyle(.red)
                }
                LabeledContent("Images") { Text(verbatim: String(result.images)) }
                LabeledContent("Camera frames") { Text(verbatim: String(result.frames)) }
                LabeledContent("Classifications") { Text(verbatim: String(result.classifications)) }
                LabeledContent("Refusals") { Text(verbatim: String(result.refusals)) }
            }
            FailureSection(failures: result.failures)
        }
    }
}
