import EdgeCore
import SwiftUI
import UniformTypeIdentifiers

/// Runs over a folder of photos, or the golden ones, and shows how far the answers are from Python's.
struct FolderView: View {
    let model: FolderModel
    /// The first screen's choice of file and processors is run.
    let app: AppModel
    let library: Library
    @State private var chooses = false

    var body: some View {
        NavigationStack {
            List {
                Section { controls }
                outcome
            }
            .navigationTitle("Folder")
            .fileImporter(isPresented: $chooses, allowedContentTypes: [.folder]) { found in
                switch found {
                case let .success(folder): start(folder)
                case let .failure(error): model.fail(error.localizedDescription)
                }
            }
        }
    }

    private func start(_ folder: URL?) {
        guard let artefact = app.artefact else { return }
        model.start(folder, library.golden, with: artefact, units: app.units)
    }

    @ViewBuilder private var controls: some View {
        if case let .running(done, total) = model.phase {
            ProgressView(value: Double(done), total: Double(max(total, 1)))
                .accessibilityLabel("Progress")
            Button("Stop", role: .cancel) { model.stop() }
        } else {
            Button("Choose folder") { chooses = true }
            Button("Golden photos") { start(nil) }
        }
        LabeledContent("File") { Text(verbatim: app.artefact?.id ?? "") }
        Text("Compares the file of the first screen with Python's answers, which edge_deit.golden writes into the folder.")
            .font(.footnote)
            .foregroundStyle(.secondary)
        Text(verbatim: "python -m edge_deit.golden FILE --photos FOLDER --images 1000 --output FOLDER")
            .font(.footnote.monospaced())
            .textSelection(.enabled)
    }

    @ViewBuilder private var outcome: some View {
        switch model.phase {
        case .idle, .running:
            EmptyView()
        case let .failed(reason):
            Label { Text(verbatim: reason) } icon: { Image(systemName: "exclamationmark.triangle") }
        case let .finished(result):
            Section("Result") {
                LabeledContent("Same class") { Text(verbatim: "\(result.sameTop) / \(result.compared)") }
                if let snrDb = result.snrDb {
                    LabeledContent("Signal to noise") { Text(verbatim: decibels(snrDb)) }
                }
                if let reference = result.reference {
                    LabeledContent("Compared with") { Text(verbatim: reference) }
                }
                LabeledContent("Not compared") { Text(verbatim: String(result.skippedCount)) }
            }
            worst(result)
            FailureSection(failures: result.skipped)
        }
    }

    @ViewBuilder private func worst(_ result: FolderResult) -> some View {
        if !result.worst.isEmpty {
            Section("The worst photos") {
                ForEach(result.worst) { row in
                    VStack(alignment: .leading) {
                        Text(verbatim: row.name).font(.headline)
                        Text(verbatim: decibels(row.snrDb)).font(.footnote).foregroundStyle(.secondary)
                        LabeledContent("On this device") { Text(verbatim: row.answer) }
                        LabeledContent("Python's answer") { Text(verbatim: row.expected) }
                    }
                    .accessibilityElement(children: .combine)
                }
            }
        }
    }

    private func decibels(_ value: Double) -> String {
        value.formatted(.number.precision(.fractionLength(1))) + " dB"
    }
}
