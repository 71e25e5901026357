import Foundation

/// Pillow's resampling filters that a manifest may name.
public enum Filter: String, Codable, CaseIterable, Sendable {
    case nearest, bilinear, bicubic, lanczos

    /// Half the filter's width in source pixels when the image is not shrunk.
    var support: Double {
        switch self {
        case .nearest: return 0
        case .bilinear: return 1
        case .bicubic: return 2
        case .lanczos: return 3
        }
    }

    /// The filter's value at a distance from its centre; operations in the order of Pillow's Resample.c.
    func weight(_ position: Double) -> Double {
        switch self {
        case .nearest: return 0
        case .bilinear: return Self.triangle(abs(position))
        case .bicubic: return Self.cubic(abs(position))
        case .lanczos: return Self.windowedSinc(position)
        }
    }

    private static func triangle(_ x: Double) -> Double {
        x < 1 ? 1 - x : 0
    }

    private static func cubic(_ x: Double) -> Double {
        let a = -0.5
        if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
        if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
        return 0
    }

    private static func windowedSinc(_ x: Double) -> Double {
        x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0
    }

    private static func sinc(_ x: Double) -> Double {
        if x == 0 { return 1 }
        let angle = x * Double.pi
        return sin(angle) / angle
    }
}
