// Compile-only: the declarations of SwiftUI that the app uses, with Apple's labels, types and isolation.
// It checks the app's own code; whether Apple's declarations are rendered rightly, only Xcode can tell.
@_exported import Foundation
@_exported import Observation
@_exported import UIKit
@_exported import UniformTypeIdentifiers

@MainActor @preconcurrency public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

extension Never: View {
    public var body: Never { fatalError() }
}

extension Optional: View where Wrapped: View {
    public var body: Never { fatalError() }
}

/// Stands for every view whose type the app does not name.
public struct Opaque: View, Scene {
    public var body: Never { fatalError() }
}

public struct TupleView<Parts>: View {
    public var body: Never { fatalError() }
}

public struct Either<First: View, Second: View>: View {
    public var body: Never { fatalError() }
}

@resultBuilder public enum ViewBuilder {
    public static func buildBlock() -> EmptyView { fatalError() }
    public static func buildBlock<Content: View>(_ content: Content) -> Content { content }
    public static func buildBlock<each Content: View>(
        _ content: repeat each Content
    ) -> TupleView<(repeat each Content)> { fatalError() }
    public static func buildIf<Content: View>(_ content: Content?) -> Content? { content }
    public static func buildEither<A: View, B: View>(first: A) -> Either<A, B> { fatalError() }
    public static func buildEither<A: View, B: View>(second: B) -> Either<A, B> { fatalError() }
}

// Property wrappers

@propertyWrapper public struct State<Value> {
    public init(wrappedValue: Value) { fatalError() }
    public init() where Value: ExpressibleByNilLiteral { fatalError() }
    public var wrappedValue: Value { get { fatalError() } nonmutating set {} }
    public var projectedValue: Binding<Value> { fatalError() }
}

@propertyWrapper public struct SceneStorage<Value> {
    public init(wrappedValue: Value, _ key: String) where Value == String { fatalError() }
    public var wrappedValue: Value { get { fatalError() } nonmutating set {} }
    public var projectedValue: Binding<Value> { fatalError() }
}

@propertyWrapper public struct Binding<Value> {
    public init(get: @escaping () -> Value, set: @escaping (Value) -> Void) { fatalError() }
    public var wrappedValue: Value { get { fatalError() } nonmutating set {} }
    public var projectedValue: Binding<Value> { self }
}

@dynamicMemberLookup @propertyWrapper public struct Bindable<Value: AnyObject & Observable> {
    public init(wrappedValue: Value) { fatalError() }
    public var wrappedValue: Value { fatalError() }
    public var projectedValue: Bindable<Value> { self }
    public subscript<Subject>(
        dynamicMember keyPath: ReferenceWritableKeyPath<Value, Subject>
    ) -> Binding<Subject> { fatalError() }
}

public struct DismissAction {
    @MainActor public func callAsFunction() {}
}

public struct EnvironmentValues {
    public var dismiss: DismissAction { fatalError() }
    public var scenePhase: ScenePhase { fatalError() }
}

public enum ScenePhase { case background, inactive, active }

@propertyWrapper public struct Environment<Value> {
    public init(_ keyPath: KeyPath<EnvironmentValues, Value>) { fatalError() }
    public var wrappedValue: Value { fatalError() }
}

// App

public protocol Scene {}

@resultBuilder public enum SceneBuilder {
    public static func buildBlock<Content: Scene>(_ content: Content) -> Content { content }
}

@MainActor @preconcurrency public protocol App {
    associatedtype Body: Scene
    @SceneBuilder var body: Body { get }
    init()
}

extension App {
    public static func main() {}
}

public struct WindowGroup<Content: View>: Scene {
    public init(@ViewBuilder content: () -> Content) { fatalError() }
}

// Views

public struct LocalizedStringKey: ExpressibleByStringLiteral {
    public init(stringLiteral value: String) {}
}

public struct EmptyView: View {
    public init() {}
    public var body: Never { fatalError() }
}

public struct Text: View {
    public init(_ key: LocalizedStringKey) {}
    public init(verbatim: String) {}
    public init<F: FormatStyle>(_ input: F.FormatInput, format: F) where F.FormatOutput == String {}
    public func font(_ font: Font?) -> Text { self }
    public func monospacedDigit() -> Text { self }
    public var body: Never { fatalError() }
}

public struct Font {
    public static let footnote = Font()
    public static let headline = Font()
    public func monospaced() -> Font { self }
}

public struct Image: View {
    public init(systemName: String) {}
    public init(uiImage: UIImage) {}
    public func resizable() -> Image { self }
    public var body: Never { fatalError() }
}

public struct Label<Title: View, Icon: View>: View {
    public init(@ViewBuilder title: () -> Title, @ViewBuilder icon: () -> Icon) {}
    public init(_ key: LocalizedStringKey, systemImage: String) where Title == Text, Icon == Image {}
    public var body: Never { fatalError() }
}

public struct LabeledContent<Label: View, Content: View>: View {
    public init(_ key: LocalizedStringKey, @ViewBuilder content: () -> Content) where Label == Text {}
    public var body: Never { fatalError() }
}

public struct ButtonRole {
    public static let cancel = ButtonRole()
}

public struct Button<Label: View>: View {
    public init(action: @escaping @MainActor () -> Void, @ViewBuilder label: () -> Label) {}
    public init(_ key: LocalizedStringKey, action: @escaping @MainActor () -> Void) where Label == Text {}
    public init(_ key: LocalizedStringKey, role: ButtonRole?, action: @escaping @MainActor () -> Void)
    where Label == Text {}
    public var body: Never { fatalError() }
}

public struct Picker<Label: View, Value: Hashable, Content: View>: View {
    public init(_ key: LocalizedStringKey, selection: Binding<Value>, @ViewBuilder content: () -> Content)
    where Label == Text {}
    public var body: Never { fatalError() }
}

public struct Menu<Label: View, Content: View>: View {
    public init(@ViewBuilder content: () -> Content, @ViewBuilder label: () -> Label) {}
    public var body: Never { fatalError() }
}

public struct ShareLink<Label: View>: View {
    public init(item: URL, @ViewBuilder label: () -> Label) {}
    public var body: Never { fatalError() }
}

public struct ProgressView: View {
    public init() {}
    public init<V: BinaryFloatingPoint>(value: V?, total: V = 1.0) {}
    public var body: Never { fatalError() }
}

public struct Spacer: View {
    public init() {}
    public var body: Never { fatalError() }
}

public struct HorizontalAlignment { public static let leading = HorizontalAlignment() }

public struct VStack<Content: View>: View {
    public init(alignment: HorizontalAlignment? = nil, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public struct HStack<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public struct List<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public struct Section<Content: View>: View {
    public init(@ViewBuilder content: () -> Content) {}
    public init(_ key: LocalizedStringKey, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public struct ForEach<Data: RandomAccessCollection, ID: Hashable, Content: View>: View {
    public init(_ data: Data, @ViewBuilder content: @escaping (Data.Element) -> Content)
    where Data.Element: Identifiable, ID == Data.Element.ID {}
    public init(
        _ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: @escaping (Data.Element) -> Content
    ) {}
    public var body: Never { fatalError() }
}

public struct NavigationStack<Root: View>: View {
    public init(@ViewBuilder root: () -> Root) {}
    public var body: Never { fatalError() }
}

public struct TabView<Value: Hashable, Content: View>: View {
    public init(selection: Binding<Value>, @ViewBuilder content: () -> Content) {}
    public var body: Never { fatalError() }
}

public struct ContentUnavailableView<Label: View, Description: View>: View {
    public init(@ViewBuilder label: () -> Label, @ViewBuilder description: () -> Description) {}
    public var body: Never { fatalError() }
}

// Modifiers

public protocol ShapeStyle {}
public struct Color: ShapeStyle {}
public struct HierarchicalShapeStyle: ShapeStyle {}
extension ShapeStyle where Self == Color {
    public static var red: Color { fatalError() }
    public static var green: Color { fatalError() }
}
extension ShapeStyle where Self == HierarchicalShapeStyle {
    public static var secondary: HierarchicalShapeStyle { fatalError() }
}

public struct AccessibilityChildBehavior { public static let combine = AccessibilityChildBehavior() }
public struct EnabledTextSelectability { public static let enabled = EnabledTextSelectability() }

@MainActor extension View {
    public func task(_ action: @escaping @Sendable @MainActor () async -> Void) -> some View { Opaque() }
    public func tag<V: Hashable>(_ tag: V) -> some View { Opaque() }
    public func tabItem<V: View>(@ViewBuilder _ label: () -> V) -> some View { Opaque() }
    public func navigationTitle(_ key: LocalizedStringKey) -> some View { Opaque() }
    public func accessibilityLabel(_ key: LocalizedStringKey) -> some View { Opaque() }
    public func accessibilityElement(children: AccessibilityChildBehavior) -> some View { Opaque() }
    public func font(_ font: Font?) -> some View { Opaque() }
    public func foregroundStyle<S: ShapeStyle>(_ style: S) -> some View { Opaque() }
    public func textSelection(_ selectability: EnabledTextSelectability) -> some View { Opaque() }
    public func monospacedDigit() -> some View { Opaque() }
    public func scaledToFit() -> some View { Opaque() }
    public func frame(maxWidth: CGFloat? = nil, maxHeight: CGFloat? = nil) -> some View { Opaque() }
    public func onDisappear(perform action: (() -> Void)? = nil) -> some View { Opaque() }
    public func fileImporter(
        isPresented: Binding<Bool>, allowedContentTypes: [UTType],
        onCompletion: @escaping (Result<URL, any Error>) -> Void
    ) -> some View { Opaque() }
    public func ignoresSafeArea() -> some View { Opaque() }
    public func sheet<Content: View>(
        isPresented: Binding<Bool>, @ViewBuilder content: @escaping () -> Content
    ) -> some View { Opaque() }
    public func fullScreenCover<Content: View>(
        isPresented: Binding<Bool>, @ViewBuilder content: @escaping () -> Content
    ) -> some View { Opaque() }
    public func onChange<V: Equatable>(of value: V, _ action: @escaping (V, V) -> Void) -> some View { Opaque() }
}

// UIKit

@MainActor @preconcurrency public protocol UIViewControllerRepresentable: View where Body == Never {
    associatedtype UIViewControllerType: UIViewController
    associatedtype Coordinator = Void
    typealias Context = UIViewControllerRepresentableContext<Self>
    func makeUIViewController(context: Context) -> UIViewControllerType
    func updateUIViewController(_ controller: UIViewControllerType, context: Context)
    func makeCoordinator() -> Coordinator
}

extension UIViewControllerRepresentable {
    public var body: Never { fatalError() }
}

@MainActor public struct UIViewControllerRepresentableContext<Representable: UIViewControllerRepresentable> {
    public var coordinator: Representable.Coordinator { fatalError() }
}
