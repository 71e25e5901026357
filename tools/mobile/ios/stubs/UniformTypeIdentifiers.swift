// Compile-only: the declarations of UniformTypeIdentifiers that the app uses.
@_exported import Foundation

public struct UTType: Hashable, Sendable {
    public static var folder: UTType { fatalError() }
}
