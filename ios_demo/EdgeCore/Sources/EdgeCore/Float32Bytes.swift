import Foundation

/// Bytes of float32 values, least significant first.
public func littleEndianBytes(_ values: [Float]) -> [UInt8] {
    values.map(\.bitPattern.littleEndian).withUnsafeBytes(Array.init)
}

/// float32 values of bytes, least significant first.
public func floats(littleEndian bytes: Data) throws -> [Float] {
    guard bytes.count % 4 == 0 else {
        throw EdgeError("\(bytes.count) bytes are not a whole number of float32 values")
    }
    let raw = [UInt8](bytes)
    return stride(from: 0, to: raw.count, by: 4).map { at in
        let low = UInt32(raw[at]) | UInt32(raw[at + 1]) << 8
        return Float(bitPattern: low | UInt32(raw[at + 2]) << 16 | UInt32(raw[at + 3]) << 24)
    }
}
