import Foundation

/// What the benchmark screen shares; `python -m edge_deit.validate --device-report FILE` reads it.
public struct DeviceReport: Encodable, Equatable, Sendable {
    public struct App: Encodable, Equatable, Sendable {
        public let name: String
        public let version: String

        public init(name: String, version: String) {
            self.name = name
            self.version = version
        }
    }

    public struct Device: Encodable, Equatable, Sendable {
        public let manufacturer: String
        public let model: String
        public let os: String
        public let osVersion: String
        public let soc: String?
        public let cores: Int

        public init(manufacturer: String, model: String, os: String, osVersion: String, soc: String?, cores: Int) {
            self.manufacturer = manufacturer
            self.model = model
            self.os = os
            self.osVersion = osVersion
            self.soc = soc
            self.cores = cores
        }

        enum CodingKeys: String, CodingKey {
            case manufacturer, model, os, soc, cores
            case osVersion = "os_version"
        }

        public func encode(to encoder: Encoder) throws {
            var values = encoder.container(keyedBy: CodingKeys.self)
            try values.encode(manufacturer, forKey: .manufacturer)
            try values.encode(model, forKey: .model)
            try values.encode(os, forKey: .os)
            try values.encode(osVersion, forKey: .osVersion)
            try values.encode(soc, forKey: .soc)  // null, not absent
            try values.encode(cores, forKey: .cores)
        }
    }

    public let schema = 1
    public let kind = "edge-deit-device-report"
    public let created: String
    public let app: App
    public let device: Device
    public let artefacts: [ArtefactReport]

    public init(created: Date, app: App, device: Device, artefacts: [ArtefactReport]) {
        self.created = created.formatted(.iso8601)
        self.app = app
        self.device = device
        self.artefacts = artefacts
    }

    /// UTF-8 JSON with sorted keys and finite numbers only.
    public func json() throws -> Data {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        do {
            return try encoder.encode(self)
        } catch let error as EncodingError {
            throw EdgeError("the device report holds a number that is not finite: \(error)")
        }
    }
}

/// One artefact's row of the report, times in milliseconds.
public struct ArtefactReport: Encodable, Equatable, Sendable, Identifiable {
    public let path: String
    public let sha256: String
    public let target: String
    public let precision: String
    public let model: String
    public let runner: String
    public let threads: Int?
    public let runs: Int
    public let latencyMsP50: Double
    public let latencyMsP90: Double
    public let loadMs: Double
    public let preprocessMsP50: Double
    public let peakRssBytes: Int?
    public let notes: [String: String]

    public var id: String { path + "|" + runner }

    /// Raises when there is nothing to report on: no samples, or a sample that is not finite.
    public init(
        manifest: Manifest, runner: String, threads: Int?, timings: Timings, peakRssBytes: Int?,
        notes: [String: String]
    ) throws {
        path = manifest.artefact
        sha256 = manifest.sha256
        target = manifest.target
        precision = manifest.precision
        model = manifest.model
        self.runner = runner
        self.threads = threads
        runs = timings.latencyMs.count
        latencyMsP50 = try percentile(timings.latencyMs, 0.5)
        latencyMsP90 = try percentile(timings.latencyMs, 0.9)
        loadMs = timings.loadMs
        preprocessMsP50 = try median(timings.preprocessMs)
        self.peakRssBytes = peakRssBytes
        self.notes = notes
        guard peakRssBytes != nil || notes["peak_rss_bytes"] != nil else {
            throw EdgeError("peak_rss_bytes is null and notes do not say why")
        }
    }

    enum CodingKeys: String, CodingKey {
        case path, sha256, target, precision, model, runner, threads, runs, notes
        case latencyMsP50 = "latency_ms_p50"
        case latencyMsP90 = "latency_ms_p90"
        case loadMs = "load_ms"
        case preprocessMsP50 = "preprocess_ms_p50"
        case peakRssBytes = "peak_rss_bytes"
    }

    public func encode(to encoder: Encoder) throws {
        var values = encoder.container(keyedBy: CodingKeys.self)
        try values.encode(path, forKey: .path)
        try values.encode(sha256, forKey: .sha256)
        try values.encode(target, forKey: .target)
        try values.encode(precision, forKey: .precision)
        try values.encode(model, forKey: .model)
        try values.encode(runner, forKey: .runner)
        try values.encode(threads, forKey: .threads)  // null, not absent
        try values.encode(runs, forKey: .runs)
        try values.encode(latencyMsP50, forKey: .latencyMsP50)
        try values.encode(latencyMsP90, forKey: .latencyMsP90)
        try values.encode(loadMs, forKey: .loadMs)
        try values.encode(preprocessMsP50, forKey: .preprocessMsP50)
        try values.encode(peakRssBytes, forKey: .peakRssBytes)
        try values.encode(notes, forKey: .notes)
    }
}
