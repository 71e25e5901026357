// Compile-only: the declarations of PhotosUI that the app uses.
@_exported import SwiftUI

public struct PhotosPickerItem: Equatable, Sendable {
    public enum EncodingDisambiguationPolicy { case automatic, current, compatible }
    public func loadTransferable<T>(type: T.Type) async throws -> T? { fatalError() }
}

public struct PHPickerFilter {
    public static let images = PHPickerFilter()
}

public struct PhotosPicker<Label: View>: View {
    public init(
        selection: Binding<PhotosPickerItem?>, matching filter: PHPickerFilter? = nil,
        preferredItemEncoding: PhotosPickerItem.EncodingDisambiguationPolicy = .automatic,
        @ViewBuilder label: () -> Label
    ) { fatalError() }
    public var body: Never { fatalError() }
}
