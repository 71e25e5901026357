// Compile-only: the declarations of ExecuTorch's Swift API that the app uses, after its documentation for iOS.
@_exported import Foundation

public protocol ValueConvertible {}
public protocol Scalar {}
extension Float: Scalar {}
extension UInt8: Scalar {}

public final class Value {}

public final class Tensor<T: Scalar>: ValueConvertible {
    public init(_ scalars: [T], shape: [Int] = []) { fatalError() }
    public init(_ values: [Value]) throws { fatalError() }
    public func scalars() -> [T] { fatalError() }
}

public final class Module {
    public init(filePath: String) { fatalError() }
    public func load(_ method: String) throws { fatalError() }
    public func forward(_ inputs: any ValueConvertible...) throws -> [Value] { fatalError() }
}
