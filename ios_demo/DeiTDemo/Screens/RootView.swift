import EdgeCore
import SwiftUI

/// The screens, or why there is nothing to show.
struct RootView: View {
    let model: AppModel
    @SceneStorage("tab") private var tab = "classify"

    var body: some View {
        switch model.content {
        case .loading:
            ProgressView()
        case .nothingBundled:
            ContentUnavailableView {
                Label("No model in this app", systemImage: "shippingbox")
            } description: {
                Text("Export a model, bundle it and build the app again:")
                Text(verbatim: "python -m edge_deit.bundle out/deit_tiny.int8.mlpackage --ios ios_demo")
                    .font(.footnote.monospaced())
                    .textSelection(.enabled)
            }
        case let .broken(reason):
            ContentUnavailableView {
                Label("The bundled model cannot be used", systemImage: "exclamationmark.triangle")
            } description: {
                Text(verbatim: reason)
            }
        case let .ready(library):
            tabs(library)
        }
    }

    private func tabs(_ library: Library) -> some View {
        TabView(selection: $tab) {
            ClassifyView(model: model, library: library)
                .tabItem { Label("Classify", systemImage: "photo") }
                .tag("classify")
            BenchmarkView(model: model.benchmark, library: library)
                .tabItem { Label("Benchmark", systemImage: "stopwatch") }
                .tag("benchmark")
            FolderView(model: model.folder, app: model, library: library)
                .tabItem { Label("Folder", systemImage: "folder") }
                .tag("folder")
            SelfTestView(model: model.selfTest, library: library)
                .tabItem { Label("Self-test", systemImage: "checkmark.seal") }
                .tag("selftest")
        }
    }
}
