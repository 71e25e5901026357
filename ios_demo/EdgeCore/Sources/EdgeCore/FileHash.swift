import Foundation

extension SHA256Digest {
    /// The digest that a manifest has of a file, or of a folder: its sorted relative names and contents.
    public static func hex(contentsOf url: URL) throws -> String {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) else {
            throw EdgeError("\(url.lastPathComponent) is not there")
        }
        guard isFolder.boolValue else { return hex(try Data(contentsOf: url, options: .mappedIfSafe)) }
        var message = Data()
        for name in try files(in: url) {
            let content = try Data(contentsOf: url.appendingPathComponent(name), options: .mappedIfSafe)
            message += Data("\(name.utf8.count):\(content.count):\(name)".utf8) + content
        }
        return hex(message)
    }

    private static func files(in folder: URL) throws -> [String] {
        let names = try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter { name in
            var isFolder: ObjCBool = false
            let path = folder.appendingPathComponent(name).path
            return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && !isFolder.boolValue
        }
        return names.sorted { $0.split(separator: "/").lexicographicallyPrecedes($1.split(separator: "/")) }
    }
}
