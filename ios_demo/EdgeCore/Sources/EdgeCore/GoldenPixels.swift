import Foundation

/// Pixels of a golden case: generated from a seed, or spelled out.
public enum GoldenPixels: Decodable, Equatable, Sendable {
    case hash(seed: UInt32, block: Int)
    case bytes([UInt8])

    enum CodingKeys: String, CodingKey { case hash, base64 }

    private struct Hash: Decodable {
        let seed: UInt32
        let block: Int
    }

    public init(from decoder: Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        if let text = try values.decodeIfPresent(String.self, forKey: .base64) {
            guard let data = Data(base64Encoded: text) else {
                throw EdgeError("a golden case's base64 pixels cannot be decoded")
            }
            self = .bytes([UInt8](data))
            return
        }
        let hash = try values.decode(Hash.self, forKey: .hash)
        guard hash.block > 0 else { throw EdgeError("a golden case has blocks of \(hash.block) pixels") }
        self = .hash(seed: hash.seed, block: hash.block)
    }

    public func image(width: Int, height: Int) throws -> RGBImage {
        switch self {
        case let .bytes(bytes): return try RGBImage(width: width, height: height, pixels: bytes)
        case let .hash(seed, block):
            guard (1...(1 << 15)).contains(width), (1...(1 << 15)).contains(height) else {
                throw EdgeError("a generated image of \(width) x \(height) is refused")
            }
            let pixels = Self.generated(width, height, seed, block)
            return try RGBImage(width: width, height: height, pixels: pixels)
        }
    }

    /// Squares of `block` pixels whose colours are a 32-bit hash of seed and place.
    static func generated(_ width: Int, _ height: Int, _ seed: UInt32, _ block: Int) -> [UInt8] {
        let blocksAcross = (width + block - 1) / block
        let size = 3 * width * height
        return [UInt8](unsafeUninitializedCapacity: size) { out, count in
            var target = 0
            for y in 0..<height {
                for x in 0..<width {
                    let place = ((y / block) * blocksAcross + x / block) * 3
                    for channel in 0..<3 {
                        let counter = UInt32(truncatingIfNeeded: place + channel)
                        var v = counter &* 2_654_435_761 &+ seed &* 2_246_822_519
                        v ^= v >> 15
                        v = v &* 3_266_489_917
                        v ^= v >> 13
                        out[target] = UInt8(truncatingIfNeeded: v)
                        target += 1
                    }
                }
            }
            count = size
        }
    }
}

/// Bytes of a frame's buffer: spelled out, or the first ones of a row of generated pixels.
public enum FrameBytes: Decodable, Equatable, Sendable {
    case hash(seed: UInt32, count: Int)
    case bytes([UInt8])

    enum CodingKeys: String, CodingKey { case hash, base64 }

    private struct Hash: Decodable {
        let seed: UInt32
        let bytes: Int
    }

    public init(from decoder: Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        if let data = try values.decodeIfPresent(Data.self, forKey: .base64) {
            self = .bytes([UInt8](data))
            return
        }
        let hash = try values.decode(Hash.self, forKey: .hash)
        guard (1...(1 << 26)).contains(hash.bytes) else {
            throw EdgeError("a golden frame of \(hash.bytes) bytes is refused")
        }
        self = .hash(seed: hash.seed, count: hash.bytes)
    }

    public func bytes() -> [UInt8] {
        switch self {
        case let .bytes(bytes): return bytes
        case let .hash(seed, count):
            return Array(GoldenPixels.generated((count + 2) / 3, 1, seed, 1).prefix(count))
        }
    }
}
