/// How close a model on this device comes to the golden logits.
///
/// Those are of the artefact that `golden_spec.json` names, as Python's runtime computed them; another precision
/// or compute unit differs a little. What "a little" is for each artefact, `edge_deit.validate` says.
public struct ModelCheck: Equatable, Sendable, Identifiable {
    public let artefact: String
    public let runner: String
    public let images: Int
    /// Images whose most probable class is the golden one.
    public let sameTop: Int
    /// Lowest cosine similarity of the logits over the images.
    public let cosine: Double

    public var id: String { artefact }
}

extension GoldenFiles {
    /// Image cases that have the model's logits too: those with a classification of the same name.
    var modelCases: [(image: GoldenCases.Image, logits: [Double])] {
        cases.images.compactMap { image in
            guard image.preprocessing == spec.preprocessing,
                let found = cases.classification.first(where: { $0.name == image.name })
            else { return nil }
            return (image, found.logits)
        }
    }

    /// Runs the model on every image that has golden logits; nil when there is none.
    ///
    /// `predict` is given what the file takes and gives back what it returns. Where the file or the golden one
    /// returns probabilities, logits are known up to a constant, which is taken from the golden ones.
    public func check(
        _ artefact: BundledArtefact, runner: String, predict: (ModelInput) throws -> [Float]
    ) throws -> ModelCheck? {
        guard artefact.manifest.labels == spec.labels, artefact.manifest.preprocessing == spec.preprocessing else {
            throw EdgeError("the golden cases are for another model than \(artefact.id); bundle them again, together")
        }
        let contract = artefact.manifest.contract
        let open = contract.returnsProbabilities || spec.output.name == "probabilities"
        var sameTop = 0
        var cosines: [Double] = []
        for (image, golden) in modelCases {
            try Task.checkCancellation()
            let pixels = try image.pixels.image(width: image.width, height: image.height)
            let input = try contract.input(pixels, orientation: image.orientation, spec: spec.preprocessing)
            let logits = contract.logits(try predict(input))
            guard logits.count == golden.count else {
                throw EdgeError("\(artefact.id) returns \(logits.count) values for \(golden.count) labels")
            }
            if try topK(logits, 1) == topK(golden.map { Float($0) }, 1) { sameTop += 1 }
            let values = logits.map { Double($0) }
            cosines.append(cosine(open ? aligned(values, to: golden) : values, golden))
        }
        guard let lowest = cosines.min() else { return nil }
        return ModelCheck(
            artefact: artefact.id, runner: runner, images: cosines.count, sameTop: sameTop, cosine: lowest
        )
    }
}

/// Values with the mean of other ones.
func aligned(_ values: [Double], to reference: [Double]) -> [Double] {
    let shift = (reference.reduce(0, +) - values.reduce(0, +)) / Double(values.count)
    return values.map { $0 + shift }
}

/// Cosine of the angle between two vectors; 0 when one of them has no length.
func cosine(_ a: [Double], _ b: [Double]) -> Double {
    let dot = zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
    let lengths = [a, b].map { vector in vector.reduce(0) { $0 + $1 * $1 }.squareRoot() }
    let product = lengths[0] * lengths[1]
    return product > 0 ? dot / product : 0
}
