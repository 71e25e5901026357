/// How a photo becomes a model's input; the `preprocessing` object of the manifest.
///
/// `resize` is `shortest` (the short side becomes `resizeSize`, the aspect stays), `exact` (squashed to
/// `resizeSize` x `resizeSize`) or `none`. Then a centred square of `cropSize` is cut, zero padded where the
/// image is smaller; last, (x / 255 - mean) / std per channel. The reference is `edge_deit/data/preprocess.py`.
public struct PreprocessSpec: Codable, Equatable, Sendable {
    public enum Resize: String, Codable, Sendable { case shortest, exact, none }
    public enum CropRounding: String, Codable, Sendable { case halfEven = "half-even", floor }

    public let resize: Resize
    public let resizeSize: Int
    public let cropSize: Int
    public let cropRounding: CropRounding
    public let resample: Filter
    public let mean: [Double]
    public let std: [Double]

    enum CodingKeys: String, CodingKey {
        case resize, resample, mean, std
        case resizeSize = "resize_size"
        case cropSize = "crop_size"
        case cropRounding = "crop_rounding"
    }

    public init(
        resize: Resize, resizeSize: Int, cropSize: Int, cropRounding: CropRounding, resample: Filter,
        mean: [Double], std: [Double]
    ) throws {
        self.resize = resize
        self.resizeSize = resizeSize
        self.cropSize = cropSize
        self.cropRounding = cropRounding
        self.resample = resample
        self.mean = mean
        self.std = std
        try check()
    }

    public init(from decoder: Decoder) throws {
        let values = try decoder.container(keyedBy: CodingKeys.self)
        try self.init(
            resize: values.decode(Resize.self, forKey: .resize),
            resizeSize: values.decode(Int.self, forKey: .resizeSize),
            cropSize: values.decode(Int.self, forKey: .cropSize),
            cropRounding: values.decode(CropRounding.self, forKey: .cropRounding),
            resample: values.decode(Filter.self, forKey: .resample),
            mean: values.decode([Double].self, forKey: .mean),
            std: values.decode([Double].self, forKey: .std)
        )
    }

    private func check() throws {
        let sizes = 1...(1 << 14)
        guard sizes.contains(resizeSize), sizes.contains(cropSize) else {
            throw EdgeError("resize_size \(resizeSize) and crop_size \(cropSize) must be 1 to \(sizes.upperBound)")
        }
        let finite = (mean + std).allSatisfy(\.isFinite)
        guard mean.count == 3, std.count == 3, finite, std.allSatisfy({ $0 > 0 }) else {
            throw EdgeError("mean and std need three finite values each, std all positive")
        }
    }
}
