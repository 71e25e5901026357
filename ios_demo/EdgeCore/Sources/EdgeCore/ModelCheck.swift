/// How close a file on this device comes to the golden logits.
///
/// Those are of the same file where Python ran it (`reference`), otherwise of the one that `golden_spec.json` names:
/// another precision differs a little. What "a little" is for each artefact, `edge_deit.validate` says.
public struct ModelCheck: Codable, Equatable, Sendable, Identifiable {
    public let artefact: String
    public let runner: String
    /// The file whose golden logits these were compared with.
    public let reference: String
    public let images: Int
    /// Images whose most probable class is the golden one.
    public let sameTop: Int
    /// Lowest cosine of the logits, less their mean, over the images.
    public let cosine: Double

    public var id: String { artefact + runner }

    public init(artefact: String, runner: String, reference: String, images: Int, sameTop: Int, cosine: Double) {
        self.artefact = artefact
        self.runner = runner
        self.reference = reference
        self.images = images
        self.sameTop = sameTop
        self.cosine = cosine
    }

    enum CodingKeys: String, CodingKey {
        case artefact, runner, reference, images, cosine
        case sameTop = "same_top"
    }
}

extension GoldenFiles {
    /// Image cases that a file answered, with its logits: this one's where Python ran it, otherwise the spec's.
    func modelCases(_ artefact: String) throws -> [(image: GoldenCases.Image, answer: GoldenCases.Classification)] {
        let known = cases.classification.contains { $0.image != nil && $0.artefact == artefact }
        return try cases.classification.compactMap { answer in
            guard let name = answer.image, answer.artefact == (known ? artefact : spec.artefact) else { return nil }
            guard let image = cases.images.first(where: { $0.name == name }),
                image.preprocessing == spec.preprocessing
            else {
                throw EdgeError("the golden cases hold no image \(name) for the model; bundle it again")
            }
            return (image, answer)
        }
    }

    /// Runs the model on every image that has golden logits; nil when there is none.
    ///
    /// `predict` is given what the file takes and gives back what it returns. Logits count less their mean, which
    /// softmax does not see: logarithms of probabilities become the same.
    public func check(
        _ artefact: BundledArtefact, runner: String, predict: (ModelInput) throws -> [Float]
    ) throws -> ModelCheck? {
        guard artefact.manifest.labels == spec.labels, artefact.manifest.preprocessing == spec.preprocessing else {
            throw EdgeError("the golden cases are for another model than \(artefact.id); bundle them again, together")
        }
        let contract = artefact.manifest.contract
        let pairs = try modelCases(artefact.id)
        var sameTop = 0
        var cosines: [Double] = []
        for (image, answer) in pairs {
            try Task.checkCancellation()
            let pixels = try image.pixels.image(width: image.width, height: image.height)
            let input = try contract.input(pixels, orientation: image.orientation, spec: spec.preprocessing)
            let logits = contract.logits(try predict(input))
            guard logits.count == answer.logits.count else {
                throw EdgeError("\(artefact.id) returns \(logits.count) values for \(answer.logits.count) labels")
            }
            if try topK(logits, 1) == topK(answer.logits.map { Float($0) }, 1) { sameTop += 1 }
            cosines.append(cosine(centred(logits.map { Double($0) }), centred(answer.logits)))
        }
        guard let lowest = cosines.min() else { return nil }
        return ModelCheck(
            artefact: artefact.id, runner: runner, reference: pairs[0].answer.artefact ?? spec.artefact,
            images: cosines.count, sameTop: sameTop, cosine: lowest
        )
    }
}

/// Logits less their mean.
func centred(_ values: [Double]) -> [Double] {
    let mean = values.reduce(0, +) / Double(values.count)
    return values.map { $0 - mean }
}

/// Cosine of the angle between two vectors; 0 when one of them has no length.
func cosine(_ a: [Double], _ b: [Double]) -> Double {
    let dot = zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
    let lengths = [a, b].map { vector in vector.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    let product = lengths[0] * lengths[1]
    return product > 0 ? dot / product : 0
}
