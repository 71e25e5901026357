// swift-tools-version:5.9
import PackageDescription

let package = Package(
    name: "EdgeCore",
    platforms: [.iOS(.v17), .macOS(.v14)],
    products: [
        .library(name: "EdgeCore", targets: ["EdgeCore"]),
        .executable(name: "edgecore-cli", targets: ["EdgeCoreCLI"]),
    ],
    targets: [
        .target(name: "EdgeCore"),
        .executableTarget(name: "EdgeCoreCLI", dependencies: ["EdgeCore"]),
        .testTarget(name: "EdgeCoreTests", dependencies: ["EdgeCore"]),
    ]
)
