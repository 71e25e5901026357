import EdgeCore
import SwiftUI

/// What failed and why; nothing when nothing did.
struct FailureSection: View {
    let failures: [Failure]

    var body: some View {
        if !failures.isEmpty {
            Section("Failed") {
                ForEach(failures) { failure in
                    VStack(alignment: .leading) {
                        Text(verbatim: failure.name)
                        Text(verbatim: failure.reason).font(.footnote).foregroundStyle(.secondary)
                    }
                    .accessibilityElement(children: .combine)
                }
            }
        }
    }
}
