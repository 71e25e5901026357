// Compile-only: what Apple's Foundation adds to the one on Linux, as far as the app uses it.
import Foundation

extension String {
    init(localized key: String) { self = key }
}

extension URL {
    func startAccessingSecurityScopedResource() -> Bool { fatalError() }
    func stopAccessingSecurityScopedResource() {}
}

extension ProcessInfo {
    enum ThermalState: Int { case nominal, fair, serious, critical }
    var thermalState: ThermalState { fatalError() }
    var isLowPowerModeEnabled: Bool { fatalError() }
}
