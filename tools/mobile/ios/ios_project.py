"""Checks the Xcode project without Xcode: every reference, asset and translation."""

from __future__ import annotations

import json
import plistlib
import re
import struct
import xml.etree.ElementTree as ElementTree  # the project's own scheme, not a stranger's file
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import ios_plist

__all__ = ["problems"]

_LANGUAGES: Final = ("de",)
_ICON_SIZE: Final = 1024  # pixels
_ID: Final = re.compile(r"[0-9A-F]{24}")
_LITERAL: Final = r'"((?:[^"\\]|\\.)*)"'
_LOCALISED: Final = re.compile(
    r"(?:\b(?:Text|Label|Button|Section|Picker|LabeledContent)\(\s*"
    r"|\.(?:navigationTitle|accessibilityLabel)\(\s*|String\(localized:\s*)" + _LITERAL
)
_PRIVACY: Final = "PrivacyInfo.xcprivacy"
_DECLARED: Final = {"UserDefaults": "NSPrivacyAccessedAPICategoryUserDefaults"}
"""What the sources name -> the kind of interface that Apple wants a reason for."""

_KEY_PROPERTY: Final = re.compile(r": LocalizedStringKey \{(.*?)\n    \}", re.DOTALL)


def problems(project: Path) -> list[str]:
    """What is wrong with `ios_demo`, one line each."""
    steps = (_pbxproj, _scheme, _catalogs, _privacy, _assets, _strays)
    found: list[str] = []
    for step in steps:
        try:
            found += step(project)
        except (OSError, ValueError, KeyError, ElementTree.ParseError) as error:
            found.append(f"{step.__name__.strip('_')}: {type(error).__name__}: {error}")
    return found


# project.pbxproj


def _objects(project: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    path = project / "DeiTDemo.xcodeproj" / "project.pbxproj"
    plist: dict[str, Any] = dict(ios_plist.parse(path.read_text(encoding="utf-8")))
    return plist, plist["objects"]


def _ids_in(value: Any) -> Iterator[str]:
    """Every object id that a value holds."""
    if isinstance(value, str):
        if _ID.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _ids_in(key)
            yield from _ids_in(inner)
    else:
        for inner in value:
            yield from _ids_in(inner)


def _pbxproj(project: Path) -> Iterator[str]:
    plist, objects = _objects(project)
    if plist["objectVersion"] != "77":
        yield f"pbxproj: objectVersion is {plist['objectVersion']}, Xcode 16 writes 77"
    reached: set[str] = set()
    waiting = [plist["rootObject"]]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in objects:
            yield f"pbxproj: {name} is named and does not exist"
            continue
        waiting += _ids_in(objects[name])
    for name in sorted(objects.keys() - reached):
        yield f"pbxproj: {name} ({objects[name]['isa']}) is used by nothing"
    yield from _files(project, objects)
    yield from _settings(project, objects)


def _of(objects: dict[str, Any], isa: str) -> list[dict[str, Any]]:
    return [found for found in objects.values() if found["isa"] == isa]


def _files(project: Path, objects: dict[str, Any]) -> Iterator[str]:
    """Folders and packages on disk."""
    for group in _of(objects, "PBXFileSystemSynchronizedRootGroup"):
        if not (project / group["path"]).is_dir():
            yield f"pbxproj: folder {group['path']} does not exist"
    packages = {}
    for package in _of(objects, "XCLocalSwiftPackageReference"):
        file = project / package["relativePath"] / "Package.swift"
        packages[package["relativePath"]] = file.read_text(encoding="utf-8")
    for product in _of(objects, "XCSwiftPackageProductDependency"):
        package = objects[product["package"]]["relativePath"]
        if f'.library(name: "{product["productName"]}"' not in packages[package]:
            yield f"pbxproj: {package} has no library {product['productName']}"


def _settings(project: Path, objects: dict[str, Any]) -> Iterator[str]:
    """Both configurations agree on what the app needs."""
    package = (project / "EdgeCore" / "Package.swift").read_text(encoding="utf-8")
    lists = {entry["isa"]: entry["buildConfigurationList"] for entry in objects.values()
             if "buildConfigurationList" in entry}  # fmt: skip
    for owner, name in lists.items():
        configurations = [objects[found] for found in objects[name]["buildConfigurations"]]
        if sorted(found["name"] for found in configurations) != ["Debug", "Release"]:
            yield f"pbxproj: {owner} needs Debug and Release"
        for found in configurations:
            settings = found["buildSettings"]
            if owner == "PBXNativeTarget":
                yield from _target_settings(project, found["name"], settings)
            elif f".iOS(.v{settings['IPHONEOS_DEPLOYMENT_TARGET'].split('.')[0]})" not in package:
                yield f"pbxproj: {found['name']}'s iOS version is not that of EdgeCore"


def _target_settings(project: Path, name: str, settings: dict[str, Any]) -> Iterator[str]:
    assets = project / "DeiTDemo" / "Assets.xcassets"
    icon = assets / f"{settings['ASSETCATALOG_COMPILER_APPICON_NAME']}.appiconset"
    colour = assets / f"{settings['ASSETCATALOG_COMPILER_GLOBAL_ACCENT_COLOR_NAME']}.colorset"
    for folder in (icon, colour):
        if not (folder / "Contents.json").exists():
            yield f"pbxproj: {name} names {folder.name}, which does not exist"
    if settings.get("GENERATE_INFOPLIST_FILE") != "YES":
        yield f"pbxproj: {name} generates no Info.plist"
    if not settings.get("INFOPLIST_KEY_NSCameraUsageDescription"):
        yield f"pbxproj: {name} does not say why the app uses the camera; iOS would end it"
    if settings.get("COREML_CODEGEN_LANGUAGE") != "None":
        yield f"pbxproj: {name} would generate a class for every bundled model"


# Scheme


def _scheme(project: Path) -> Iterator[str]:
    _, objects = _objects(project)
    path = project / "DeiTDemo.xcodeproj" / "xcshareddata" / "xcschemes" / "DeiTDemo.xcscheme"
    root = ElementTree.parse(path).getroot()  # noqa: S314 - the project's own file
    targets = {name for name, found in objects.items() if found["isa"] == "PBXNativeTarget"}
    for reference in root.iter("BuildableReference"):
        kind, _, container = reference.attrib["ReferencedContainer"].partition(":")
        if kind != "container" or not (project / container).exists():
            yield f"scheme: {container} does not exist"
        blueprint = reference.attrib["BlueprintIdentifier"]
        tests = project / container / "Tests" / blueprint
        if blueprint not in targets and not tests.is_dir():
            yield f"scheme: there is no target {blueprint}"
    for action in ("LaunchAction", "ProfileAction", "ArchiveAction"):
        found = root.find(action)
        if found is None or found.attrib["buildConfiguration"] != "Release":
            yield f"scheme: {action} is not Release; times of a debug build mean nothing"


# Translations


def _keys_in_sources(project: Path) -> dict[str, str]:
    """Text that is shown, and the file that shows it."""
    found: dict[str, str] = {}
    for path in sorted((project / "DeiTDemo").rglob("*.swift")):
        text = path.read_text(encoding="utf-8")
        keys = _LOCALISED.findall(text)
        for block in _KEY_PROPERTY.findall(text):
            keys += re.findall(_LITERAL, block)
        found |= dict.fromkeys(keys, path.name)
    return found


def _catalogs(project: Path) -> Iterator[str]:
    folder = project / "DeiTDemo"
    shown = _keys_in_sources(project)
    if not shown:
        yield "catalogs: no text found in the sources; is the pattern right?"
    for path in sorted(folder.glob("*.xcstrings")):
        catalog = json.loads(path.read_text(encoding="utf-8"))
        if catalog["sourceLanguage"] != "en" or catalog["version"] != "1.0":
            yield f"{path.name}: sourceLanguage en and version 1.0 are expected"
        for key, entry in catalog["strings"].items():
            for language in _LANGUAGES:
                unit = entry.get("localizations", {}).get(language, {}).get("stringUnit", {})
                if unit.get("state") != "translated" or not unit.get("value"):
                    yield f"{path.name}: {key!r} is not translated to {language}"
    strings = json.loads((folder / "Localizable.xcstrings").read_text(encoding="utf-8"))["strings"]
    for key, name in shown.items():
        if key not in strings:
            yield f"Localizable.xcstrings: {key!r} of {name} is missing"
    for key in sorted(strings.keys() - shown.keys()):
        yield f"Localizable.xcstrings: {key!r} is shown nowhere"


# Privacy


def _privacy(project: Path) -> Iterator[str]:
    folder = project / "DeiTDemo"
    if not (folder / _PRIVACY).exists():
        yield f"privacy: {_PRIVACY} is missing; App Store Connect asks for it"
        return
    told = plistlib.loads((folder / _PRIVACY).read_bytes())
    if told["NSPrivacyTracking"] or told["NSPrivacyCollectedDataTypes"]:
        yield f"privacy: {_PRIVACY} says that the app tracks or collects; it does neither"
    reasons = {
        one["NSPrivacyAccessedAPIType"]: one["NSPrivacyAccessedAPITypeReasons"]
        for one in told["NSPrivacyAccessedAPITypes"]
    }
    sources = "".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.swift"))
    for word, kind in _DECLARED.items():
        if (word in sources) != bool(reasons.pop(kind, None)):
            yield f"privacy: {_PRIVACY} and the sources disagree about {word}"
    for kind in reasons:
        yield f"privacy: {_PRIVACY} names {kind}, which this check does not know"


# Assets and files


def _assets(project: Path) -> Iterator[str]:
    contents = sorted((project / "DeiTDemo" / "Assets.xcassets").rglob("Contents.json"))
    if not contents:
        yield "assets: no catalogue"
    for path in contents:
        for image in json.loads(path.read_text(encoding="utf-8")).get("images", []):
            file = path.parent / image["filename"]
            header = file.read_bytes()[:26]
            width, height, _, colour = struct.unpack(">IIBB", header[16:26])
            if header[:4] != b"\x89PNG" or colour != 2 or {width, height} != {_ICON_SIZE}:
                yield f"assets: {file.name} must be an RGB PNG of {_ICON_SIZE} pixels, no alpha"


def _strays(project: Path) -> Iterator[str]:
    """Xcode copies every file of a synchronised folder that it cannot compile into the app."""
    folder = project / "DeiTDemo"
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if path.is_dir() or place.parts[0] in ("Bundled", "Assets.xcassets"):
            continue
        if path.suffix not in (".swift", ".xcstrings") and path.name != _PRIVACY:
            yield f"files: {place} would be copied into the app"
    if "DeiTDemo/Bundled/" not in (project / ".gitignore").read_text(encoding="utf-8").split():
        yield "files: git does not ignore DeiTDemo/Bundled/"
