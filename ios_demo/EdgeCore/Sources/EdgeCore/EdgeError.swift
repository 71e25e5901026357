import Foundation

/// The one error that a user is meant to read: one line that says what failed and what to do.
public struct EdgeError: LocalizedError, Equatable, Sendable, CustomStringConvertible {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var errorDescription: String? { message }
    public var description: String { message }
}

/// Decodes JSON and turns Foundation's decoding errors into one line that names the file and the key.
func decodeJSON<Value: Decodable>(_ type: Value.Type, from data: Data, named name: String) throws -> Value {
    do {
        return try JSONDecoder().decode(type, from: data)
    } catch let error as EdgeError {
        throw EdgeError("\(name): \(error.message)")
    } catch let error as DecodingError {
        throw EdgeError("\(name) cannot be read: \(error.oneLine); bundle the model again")
    }
}

/// The bytes of a file.
func readFile(_ url: URL) throws -> Data {
    do {
        return try Data(contentsOf: url, options: .mappedIfSafe)
    } catch {
        throw EdgeError("\(url.lastPathComponent) is missing or unreadable; bundle the model again")
    }
}

/// Refuses a JSON file that another version of the tools wrote, before anything else of it is read.
func requireSchema(in data: Data, named name: String, known: Int) throws {
    struct Header: Decodable { let schema: Int }
    let found = try decodeJSON(Header.self, from: data, named: name).schema
    guard found == known else {
        throw EdgeError("\(name) has schema \(found), this app reads \(known); bundle the model again")
    }
}

extension DecodingError {
    /// `labels[3] is not a String` instead of Foundation's many lines.
    var oneLine: String {
        switch self {
        case let .keyNotFound(key, context):
            return "\(Self.path(context.codingPath + [key])) is missing"
        case let .valueNotFound(type, context):
            return "\(Self.path(context.codingPath)) is null, not \(type)"
        case let .typeMismatch(type, context):
            return "\(Self.path(context.codingPath)) is not \(type)"
        case let .dataCorrupted(context):
            return context.codingPath.isEmpty
                ? "it is not JSON" : "\(Self.path(context.codingPath)): \(context.debugDescription)"
        @unknown default:
            return localizedDescription
        }
    }

    private static func path(_ keys: [CodingKey]) -> String {
        keys.isEmpty
            ? "the whole file"
            : keys.reduce(into: "") { text, key in
                if let index = key.intValue {
                    text += "[\(index)]"
                } else {
                    text += text.isEmpty ? key.stringValue : ".\(key.stringValue)"
                }
            }
    }
}
