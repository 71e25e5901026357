import Foundation

/// What the benchmark screen shares; `python -m edge_deit.validate --device-report FILE` reads it.
public struct DeviceReport: Encodable, Equatable, Sendable {
    public struct App: Encodable, Equatable, Sendable {
        public let name: String
        public let version: String
        /// `release` or `debug`, whose times mean nothing.
        public let build: String

        public init(name: String, version: String, build: String) {
            self.name = name
            self.version = version
            self.build = build
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

    /// The device's state while it measured; nil where it does not tell.
    public struct Conditions: Encodable, Equatable, Sendable {
        public let thermalBegin: String?
        public let thermalEnd: String?
        public let powerSaver: Bool?
        public let leftForeground: Bool
        public let screenKeptOn: Bool

        public init(
            thermalBegin: String?, thermalEnd: String?, powerSaver: Bool?, leftForeground: Bool, screenKeptOn: Bool
        ) {
            self.thermalBegin = thermalBegin
            self.thermalEnd = thermalEnd
            self.powerSaver = powerSaver
            self.leftForeground = leftForeground
            self.screenKeptOn = screenKeptOn
        }

        enum CodingKeys: String, CodingKey {
            case thermalBegin = "thermal_begin"
            case thermalEnd = "thermal_end"
            case powerSaver = "power_saver"
            case leftForeground = "left_foreground"
            case screenKeptOn = "screen_kept_on"
        }

        public func encode(to encoder: Encoder) throws {
            var values = encoder.container(keyedBy: CodingKeys.self)
            try values.encode(thermalBegin, forKey: .thermalBegin)  // null, not absent
            try values.encode(thermalEnd, forKey: .thermalEnd)
            try values.encode(powerSaver, forKey: .powerSaver)
            try values.encode(leftForeground, forKey: .leftForeground)
            try values.encode(screenKeptOn, forKey: .screenKeptOn)
        }
    }

    public let schema = 2
    public let kind = "edge-deit-device-report"
    public let created: String
    public let app: App
    public let device: Device
    public let `protocol` = MeasuringProtocol.current
    public let conditions: Conditions
    public let artefacts: [ArtefactReport]

    public init(
        created: Date, app: App, device: Device, conditions: Conditions, artefacts: [ArtefactReport]
    ) {
        self.created = created.formatted(.iso8601)
        self.app = app
        self.device = device
        self.conditions = conditions
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
    /// What the runtime gave the work to.
    public let delegate: String
    public let threads: Int?
    public let runs: Int
    public let latencyMsP50: Double
    public let latencyMsP90: Double
    public let loadMs: Double
    public let loadWarmMs: Double
    public let firstRunMs: Double
    public let preprocessMsP50: Double
    public let peakRssBytes: Int?
    public let check: Check?
    /// Core ML's plan; nil for other runtimes, and where Core ML does not tell.
    public let residency: Residency?
    public let notes: [String: String]

    public var id: String { path + "|" + runner }

    /// The file's answers beside Python's.
    public struct Check: Encodable, Equatable, Sendable {
        public let reference: String
        public let images: Int
        public let sameTop: Int
        public let cosine: Double

        enum CodingKeys: String, CodingKey {
            case reference, images, cosine
            case sameTop = "same_top"
        }
    }

    /// Raises when there is nothing to report on: no samples, or a sample that is not finite.
    public init(
        manifest: Manifest, runner: String, threads: Int?, timings: Timings, peakRssBytes: Int?,
        check: ModelCheck?, residency: Residency? = nil, notes: [String: String]
    ) throws {
        path = manifest.artefact
        sha256 = manifest.sha256
        target = manifest.target
        precision = manifest.precision
        model = manifest.model
        self.runner = runner
        delegate = manifest.delegate
        self.threads = threads
        runs = timings.latencyMs.count
        latencyMsP50 = try percentile(timings.latencyMs, 0.5)
        latencyMsP90 = try percentile(timings.latencyMs, 0.9)
        loadMs = timings.loadMs
        loadWarmMs = timings.loadWarmMs
        firstRunMs = timings.firstRunMs
        self.check = check.map {
            Check(reference: $0.reference, images: $0.images, sameTop: $0.sameTop, cosine: $0.cosine)
        }
        self.residency = residency
        preprocessMsP50 = try median(timings.preprocessMs)
        self.peakRssBytes = peakRssBytes
        self.notes = notes
        guard peakRssBytes != nil || notes["peak_rss_bytes"] != nil else {
            throw EdgeError("peak_rss_bytes is null and notes do not say why")
        }
        guard check != nil || notes["check"] != nil else {
            throw EdgeError("check is null and notes do not say why")
        }
    }

    enum CodingKeys: String, CodingKey {
        case path, sha256, target, precision, model, runner, delegate, threads, runs, check, residency, notes
        case latencyMsP50 = "latency_ms_p50"
        case latencyMsP90 = "latency_ms_p90"
        case loadMs = "load_ms"
        case loadWarmMs = "load_warm_ms"
        case firstRunMs = "first_run_ms"
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
        try values.encode(delegate, forKey: .delegate)
        try values.encode(threads, forKey: .threads)  // null, not absent
        try values.encode(runs, forKey: .runs)
        try values.encode(latencyMsP50, forKey: .latencyMsP50)
        try values.encode(latencyMsP90, forKey: .latencyMsP90)
        try values.encode(loadMs, forKey: .loadMs)
        try values.encode(loadWarmMs, forKey: .loadWarmMs)
        try values.encode(firstRunMs, forKey: .firstRunMs)
        try values.encode(preprocessMsP50, forKey: .preprocessMsP50)
        try values.encode(peakRssBytes, forKey: .peakRssBytes)
        try values.encode(check, forKey: .check)
        try values.encodeIfPresent(residency, forKey: .residency)  // most runtimes have none
        try values.encode(notes, forKey: .notes)
    }
}
