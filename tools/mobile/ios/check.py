#!/usr/bin/env python3
"""Checks ios_demo as far as a machine without Xcode can.

    python tools/mobile/ios/check.py              all steps
    python tools/mobile/ios/check.py project      Xcode project, scheme, assets, translations (no Swift)
    python tools/mobile/ios/check.py core app     EdgeCore's build and XCTests; the app's types

`core` and `app` need Swift; tools/mobile/ios/setup.sh brings it. Exit code: 0 all right, 1 a check failed,
2 a check could not be made.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import ios_project
from ios_swift import ROOT, Swift, SwiftFailedError, find_swift, why_missing

PROJECT: Final = ROOT / "ios_demo"
CORE: Final = PROJECT / "EdgeCore"
STUBS: Final = Path(__file__).resolve().parent / "stubs"
MODULES: Final = (
    *("CoreGraphics", "ImageIO", "CoreVideo", "CoreML", "Vision", "AVFoundation"),
    *("UniformTypeIdentifiers", "UIKit", "SwiftUI", "PhotosUI", "ExecuTorch", "CoreAI"),
)
"""Stand-ins for Apple's frameworks and ExecuTorch, in the order in which they import each other."""
OPTIONAL: Final = ("ExecuTorch", "CoreAI")
"""What a build may lack: older Xcodes have no Core AI, and ExecuTorch is a package of its own."""
STRICT: Final = ("-swift-version", "5", "-strict-concurrency=complete", "-warnings-as-errors")
APPLE_SUPPLEMENT: Final = "Foundation+Apple.swift"


def check_project() -> str:
    """Every reference, asset and translation of the Xcode project."""
    found = ios_project.problems(PROJECT)
    if found:
        raise SwiftFailedError("\n".join(found))
    return "every reference, asset and translation is there"


def scratch(swift: Swift) -> Path:
    """Where Swift's package manager builds EdgeCore."""
    return swift.build / "EdgeCore"


def build_core(swift: Swift, *arguments: str) -> None:
    """`swift build` of EdgeCore; what is up to date is not built again."""
    swift.run(
        ["swift", "build", "--package-path", CORE, "--scratch-path", scratch(swift), *arguments]
    )


def build_cli(swift: Swift) -> Path:
    """The optimised `edgecore-cli`."""
    build_core(swift, "--configuration", "release")
    return scratch(swift) / "release" / "edgecore-cli"


def check_core() -> str:
    """EdgeCore and its XCTests, built and run."""
    swift = find_swift()
    build_core(swift, "--build-tests")
    place = ("--package-path", CORE, "--scratch-path", scratch(swift))
    done = swift.start(["swift", "test", "--skip-build", "--disable-swift-testing", *place])
    printed = done.stdout + done.stderr
    counts = re.findall(r"Executed (\d+) tests?, with (\d+) failures?", printed)
    if done.returncode != 0 or not counts or int(counts[-1][0]) == 0:
        errors = [line for line in printed.splitlines() if "error:" in line]
        raise SwiftFailedError("\n".join(errors) or printed)
    return f"{counts[-1][0]} XCTests passed"


def check_app() -> str:
    """The app's sources, type-checked against stand-ins, with what a build may lack and without it."""
    swift = find_swift()
    build_cli(swift)
    sources = sorted((PROJECT / "DeiTDemo").rglob("*.swift"))
    return type_check(swift, sources)


def type_check(swift: Swift, sources: list[Path]) -> str:
    """Type-check app sources.

    Raises:
        SwiftFailedError: the compiler's errors and warnings.
    """
    stubs, without = swift.build / "stubs", swift.build / "stubs-least"
    for folder in (stubs, without):
        folder.mkdir(parents=True, exist_ok=True)
    for module in MODULES:
        for folder in (stubs, without) if module not in OPTIONAL else (stubs,):
            emit_stub(swift, module, folder)
    modules = scratch(swift) / "release" / "Modules"
    for folder in (stubs, without):
        swift.run(
            [
                *("swiftc", "-typecheck", "-parse-as-library", "-module-name", "DeiTDemo", *STRICT),
                *("-I", folder, "-I", modules, STUBS / APPLE_SUPPLEMENT),
                *sources,
            ]
        )
    return (
        f"{len(sources)} files of the app type-checked, with {' and '.join(OPTIONAL)} and without"
    )


def emit_stub(swift: Swift, module: str, folder: Path) -> None:
    """Compile one stand-in, unless it is newer than all of them."""
    output = folder / f"{module}.swiftmodule"
    newest = max(path.stat().st_mtime for path in STUBS.glob("*.swift"))
    if output.exists() and output.stat().st_mtime > newest:
        return
    swift.run(
        [
            *("swiftc", "-emit-module", "-parse-as-library", "-swift-version", "5"),
            *("-module-name", module, "-I", folder, "-o", output, STUBS / f"{module}.swift"),
        ]
    )
    output.touch()  # the compiler leaves a module alone that would not change


STEPS: Final[dict[str, Callable[[], str]]] = {
    "project": check_project,
    "core": check_core,
    "app": check_app,
}


def main(names: list[str]) -> int:
    """Run the steps that are named, or all; returns the exit code."""
    if unknown := sorted(set(names) - STEPS.keys()):
        print(f"check.py: no step {', '.join(unknown)}; one of {', '.join(STEPS)}", file=sys.stderr)
        return 2
    code = 0
    for name in names or STEPS:
        if name != "project" and (reason := why_missing()):
            print(f"{name}: NOT CHECKED. {reason}", file=sys.stderr)
            code = code or 2
            continue
        try:
            print(f"{name}: {STEPS[name]()}")
        except SwiftFailedError as error:
            print(f"{name}: FAILED\n{error}", file=sys.stderr)
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
