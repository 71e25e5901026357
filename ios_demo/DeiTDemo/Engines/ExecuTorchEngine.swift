#if canImport(ExecuTorch)
    import EdgeCore
    import ExecuTorch
    import Foundation

    /// ExecuTorch with the backend that the .pte was lowered to; it picks its own number of threads.
    final class ExecuTorchEngine: Engine {
        let runner: String
        let threads: Int? = nil
        private let module: Module
        private let manifest: Manifest

        init(_ artefact: BundledArtefact) throws {
            manifest = artefact.manifest
            module = Module(filePath: artefact.url.path)
            try module.load("forward")
            runner = "ExecuTorch, \(manifest.backend)"
        }

        func predict(_ input: ModelInput) throws -> [Float] {
            switch input {
            case let .pixels(pixels): return try run(Tensor<Float>(pixels.values, shape: manifest.input.shape))
            case let .image(image): return try run(Tensor<UInt8>(image.pixels, shape: manifest.input.shape))
            }
        }

        private func run(_ tensor: any ValueConvertible) throws -> [Float] {
            try Tensor<Float>(module.forward(tensor)).scalars()
        }
    }
#endif
