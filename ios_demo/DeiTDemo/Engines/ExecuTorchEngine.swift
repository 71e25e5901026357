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

        func predict(_ pixels: PixelTensor) throws -> [Float] {
            let input = Tensor<Float>(pixels.values, shape: pixels.shape)
            let output = try Tensor<Float>(module.forward(input))
            return output.scalars()
        }
    }
#endif
