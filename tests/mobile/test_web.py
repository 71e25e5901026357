"""The web page's core in Node against Python, and what the page is made of.

tests/clients/test_page.py opens the page itself in Chromium, with the runtimes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_examples import golden_file, ported_images
from PIL import Image

from conftest import ROOT, CommandLine
from edge_deit.artefacts.contract import Contract
from edge_deit.artefacts.manifest import Manifest, manifest_path, read_manifest
from edge_deit.artefacts.predict import rank
from edge_deit.artefacts.runners import logits_of
from edge_deit.conversion.parity import MIN_COSINE_FLOAT, MIN_COSINE_INT8
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.exporters import target
from edge_deit.mobile.golden_images import ImageCase
from edge_deit.report.device_records import PROTOCOL, ModelCheck
from edge_deit.report.device_report import read_device_report

PAGE = ROOT / "web_demo"
GOLDEN = ROOT / "tests/golden"
RUNTIMES = ("onnx", "tflite")
TOP = 5
OURS = [path for folder in ("core", "engines", "app") for path in (PAGE / folder).glob("*.js")]


def node(*arguments: object) -> subprocess.CompletedProcess[str]:
    if shutil.which("node") is None:
        pytest.skip("the web page's core is NOT checked: node is not installed; Debian has it")
    command = ["node", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def core(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The core's command line."""
    return node(PAGE / "core/cli.js", *arguments)


def evaluated(module: str, body: str, *given: object) -> Any:
    """What `body`, a function's, returns; it sees the names of a module of the core, and `given`."""
    code = (
        "const [where, given] = process.argv.slice(1); const m = await import(where); "
        f"const f = async (m, given) => {{ {body} }}; "
        "console.log(JSON.stringify(await f(m, JSON.parse(given))));"
    )
    address = (PAGE / "core" / module).as_uri()
    done = node("--input-type=module", "--eval", code, "--", address, json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# The core


def test_every_golden_case_passes() -> None:
    committed = json.loads((GOLDEN / "golden_cases.json").read_text(encoding="utf-8"))
    count = sum(len(committed[kind]) for kind in ("images", "classification", "refused"))
    done = core("golden", GOLDEN / "golden_spec.json", GOLDEN / "golden_cases.json")
    assert (done.returncode, done.stdout) == (0, f"{count} passed, 0 failed\n"), done.stderr


@pytest.mark.slow
def test_preprocessing_is_pythons_bit_for_bit(tmp_path: Path) -> None:
    """240 generated photos, then photos of phones' sizes at a real model's."""
    images = ported_images(240)
    done = core("golden", GOLDEN / "golden_spec.json", golden_file(tmp_path / "cases.json", images))
    assert (done.returncode, done.stdout) == (0, f"{len(images)} passed, 0 failed\n"), done.stderr


def test_one_wrong_bit_is_found(tmp_path: Path) -> None:
    case = ImageCase("photo", 9, 7, PreprocessSpec(resize_size=8, crop_size=8)).to_json()
    wrong = {**case, "name": "other seed", "pixels": {"hash": {"seed": 1, "block": 1}}}
    cases = golden_file(tmp_path / "cases.json", [case, wrong])
    done = core("golden", GOLDEN / "golden_spec.json", cases)
    assert done.returncode == 1
    assert re.match(r"image other seed: the tensor differs; value \d+ is .*\n1 passed", done.stdout)


def test_a_file_is_compared_with_what_it_answered_in_python() -> None:
    """By the committed answers: a right model, a wrong one, a file with answers of its own."""
    spec, cases = (
        (GOLDEN / f"golden_{name}.json").read_text("utf-8") for name in ("spec", "cases")
    )
    body = """
        const { checkModel } = await import(given[0].check);
        const spec = await m.parseGoldenSpec(given[0].spec, "spec");
        const cases = m.parseGoldenCases(given[0].cases, "cases");
        const answers = cases.classification.filter((one) => one.image !== null);
        const check = (file, turn) => {
          let at = 0;
          const run = async () => turn(Float32Array.from(answers[at++].logits));
          return checkModel(spec, cases, file, run);
        };
        const right = await check("any.onnx", (logits) => logits);
        const wrong = await check("any.onnx", (logits) => logits.reverse());
        const fifth = { ...answers[0], artefact: "own.onnx" };
        cases.classification.push(fifth);
        const own = await check("own.onnx", (logits) => logits);
        return [right, wrong, own].map((one) => [one.images, one.sameTop, one.lowest]);
    """
    check = (PAGE / "core/self_test.js").as_uri()
    given = {"spec": spec, "cases": cases, "check": check}
    right, wrong, own = evaluated("golden.js", body, given)
    assert right == [4, 4, pytest.approx(1, abs=1e-6)]
    assert wrong[0] == 4
    assert wrong[2] < 0.9
    assert own == [1, 1, pytest.approx(1, abs=1e-6)]


def edited(path: Path, **changes: Any) -> Path:
    """A copy of the golden spec with other entries."""
    spec = json.loads((GOLDEN / "golden_spec.json").read_text(encoding="utf-8"))
    path.write_text(json.dumps(spec | changes), encoding="utf-8")
    return path


WRONG_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "schema": ({"schema": 2}, "schema is 2; it must be 1"),
    "ties": ({"ties": "any"}, 'ties is "any"; it must be lower index first'),
    "labels": ({"labels": ["a"]}, "labels_sha256 is .*; it must be the sha256 of the labels"),
    "crop": ({"preprocessing": {"crop_size": 0}}, "crop_size is 0; it must be a whole number"),
    "no object": ({"preprocessing": 3}, "preprocessing is 3; it must be an object"),
    "field": ({"preprocessing": {"x": 1}}, "without x, which this version does not know"),
    "filter": ({"resize": {"implementation": "PIL"}}, "implementation is .*it must be Pillow"),
}


@pytest.mark.parametrize("name", WRONG_SPECS)
def test_what_the_core_does_not_follow_is_one_line(name: str, tmp_path: Path) -> None:
    changes, message = WRONG_SPECS[name]
    spec = edited(tmp_path / "spec.json", **changes)
    done = core("golden", spec, GOLDEN / "golden_cases.json")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert re.search(message, done.stderr), done.stderr


def test_bad_arguments_are_one_line(tmp_path: Path) -> None:
    for arguments, message in (
        (["rank", tmp_path / "absent.json", tmp_path / "none.f32"], "absent.json"),
        (["rank"], "one of preprocess,rank,golden,bundle, with its files"),
        (["constructor"], "one of preprocess"),
    ):
        done = core(*arguments)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr


def test_sha256_without_the_browsers() -> None:
    """Pages on plain http have no crypto.subtle."""
    sizes = [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]
    found = evaluated(
        "bytes.js",
        "const made = given[0].map((n) => Uint8Array.from({length: n}, (_, i) => i * 7 % 251));"
        "const hex = (bytes) => Buffer.from(bytes).toString('hex');"
        "return [made.map((one) => hex(m.sha256Here(one))), await Promise.all(made.map(m.sha256))]",
        sizes,
    )
    expected = [
        hashlib.sha256(bytes(i * 7 % 251 for i in range(size))).hexdigest() for size in sizes
    ]
    assert found == [expected, expected]


def test_percentiles_are_numpys() -> None:
    samples = np.random.default_rng(0).normal(size=11).tolist()
    shares = [0.0, 0.1, 0.5, 0.9, 1.0]
    found = evaluated(
        "statistics.js", "return given[1].map((s) => m.percentile(given[0], s))", samples, shares
    )
    assert found == pytest.approx(np.quantile(samples, shares).tolist(), abs=1e-12)


# From a photo to an answer


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """A tiny model for each runtime of a browser that can be had here."""
    folder = tmp_path_factory.mktemp("artefacts")
    for name in RUNTIMES:
        if not target(name).missing():
            command = [sys.executable, "-m", "edge_deit.export", "--precision", "fp32"]
            command += ["--target", name, "--weights", str(tiny_weights), "--output", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
            assert done.returncode == 0, done.stderr
    return folder


def artefact_of(folder: Path, name: str) -> Path:
    if missing := target(name).missing():
        pytest.skip(f"{', '.join(missing)} not installed")
    (path,) = folder.glob(f"*{target(name).suffix}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("name", RUNTIMES)
def test_javascript_around_the_runner_answers_like_predict(
    name: str, orientation: int, artefacts: Path, photos: Path, tmp_path: Path
) -> None:
    artefact = artefact_of(artefacts, name)
    manifest = read_manifest(artefact)
    with Image.open(photos / "dog/3.png") as stored:
        exif = stored.getexif()
        exif[0x0112] = orientation
        stored.save(tmp_path / "photo.png", exif=exif)
        size = stored.size
        (tmp_path / "photo.rgb").write_bytes(stored.convert("RGB").tobytes())
    made = [tmp_path / "photo.rgb", *size, orientation, tmp_path / "pixels.f32"]
    done = core("preprocess", manifest_path(artefact), *made)
    assert done.returncode == 0, done.stderr
    pixels = np.fromfile(tmp_path / "pixels.f32", "<f4").reshape(manifest.input["shape"])
    expected = load_pixels(tmp_path / "photo.png", manifest.preprocess_spec)
    assert pixels.tobytes() == expected.tobytes()
    runner = target(name).load_runner(artefact, 1)
    np.asarray(runner(pixels), "<f4").tofile(tmp_path / "logits.f32")
    done = core("rank", manifest_path(artefact), tmp_path / "logits.f32")
    assert done.returncode == 0, done.stderr
    logits = logits_of(runner, expected, manifest.artefact, manifest.labels)
    assert_same_answer(json.loads(done.stdout), logits, manifest)


def assert_same_answer(
    actual: list[dict[str, Any]], logits: np.ndarray, manifest: Manifest
) -> None:
    expected = [asdict(one) for one in rank(logits, manifest.labels, TOP)]
    assert len(actual) == TOP
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine["probability"] == pytest.approx(theirs["probability"], abs=1e-12)
        assert mine | {"probability": theirs["probability"]} == theirs


def test_bytes_and_probabilities_are_converted_as_in_python(tmp_path: Path) -> None:
    """Of a file that takes a photo's bytes: its own square goes in, logarithms come out."""
    spec = PreprocessSpec(resize_size=8, crop_size=8)
    case = ImageCase("photo", 21, 13, spec, seed=5)
    shares = [0.25, 0.75, 0.0, 1e-39]
    found = evaluated(
        "manifest.js",
        "const {squareOf} = await import(given[3] + '/preprocess.js');"
        "const {RgbImage} = await import(given[3] + '/rgb_image.js');"
        "const image = new RgbImage(21, 13, Uint8Array.from(Buffer.from(given[0], 'base64')));"
        "const spec = {resize: 'shortest', resizeSize: 8, cropSize: 8, cropRounding: 'half-even',"
        " resample: 'bicubic', mean: [0, 0, 0], std: [1, 1, 1]};"
        "const manifest = {preprocessing: spec, input: {dtype: 'uint8'},"
        " output: {probabilities: true}};"
        "const square = m.inputFor(squareOf(image, spec), manifest);"
        "return [Buffer.from(square).toString('base64'), [...m.logitsOf(given[1], manifest)]]",
        base64.b64encode(case.pixels().tobytes()).decode(),
        shares,
        None,
        (PAGE / "core").as_uri(),
    )
    contract = Contract(image=True, probabilities=True, spec=spec)
    square = contract.input_of(case.tensor()[None])
    assert base64.b64decode(found[0]) == square.tobytes()
    expected = contract.logits(np.float32([shares]))[0]
    assert np.allclose(found[1], expected, rtol=1e-6, atol=0)


@pytest.mark.slow
def test_the_core_reads_what_the_bundle_command_writes(
    artefacts: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    chosen = [artefact_of(artefacts, name) for name in RUNTIMES]
    page = tmp_path / "web_demo"
    shutil.copytree(PAGE, page, ignore=shutil.ignore_patterns("node_modules", "edge_deit"))
    done = command_line("bundle", *chosen, "--web", page)
    assert done.returncode == 0, done.stderr
    folder = page / "edge_deit"
    done = core("bundle", folder)
    assert done.returncode == 0, done.stderr
    assert {line.partition(":")[0] for line in done.stdout.splitlines()} == {c.name for c in chosen}
    done = core("golden", folder / "golden_spec.json", folder / "golden_cases.json")
    assert done.returncode == 0, done.stdout
    with (folder / chosen[0].name).open("r+b") as stream:
        stream.write(b"damaged!")
    done = core("bundle", folder)
    assert (done.returncode, done.stderr) == (2, f"error: {chosen[0].name} is damaged\n")


def test_python_reads_the_pages_device_report(tmp_path: Path) -> None:
    manifest = {
        "artefact": "a.int8.onnx",
        "sha256": "a" * 64,
        "target": "onnx",
        "precision": "int8",
        "model": "deit_tiny",
    }
    text = evaluated(
        "device_report.js",
        "const [manifest, device] = given;"
        "const latencyMs = Array.from({length: m.PROTOCOL.runs}, (_, index) => index + 1);"
        "const times = {latencyMs, preprocessMs: [5], loadMs: 7.5, loadWarmMs: 4, firstRunMs: 90};"
        "const check = {reference: 'a.fp32.onnx', images: 4, sameTop: 3, lowest: 0.75};"
        "return m.deviceReport(new Date(0), '0.1.0', device, true, ["
        " m.measured(manifest, 'ort, wasm', 1, times, check),"
        " m.measured(manifest, 'ort, wasm, 4 threads', 4, times, null),"
        " m.notMeasured(manifest, 'ort, WebGPU', null, 'refused')])",
        manifest,
        {"model": None, "osVersion": "Chromium 156 on Linux", "cores": 2},
    )
    path = tmp_path / "report.json"
    path.write_text(text, encoding="utf-8")
    report = read_device_report(path)
    assert (report.app.name, report.device.os) == ("edge-deit-web", "Web")
    ran, unchecked, refused = report.artefacts
    assert (ran.latency_ms_p50, ran.load_ms, ran.runs) == (50.5, 7.5, 100)
    assert ran.latency_ms_p90 == pytest.approx(90.1)
    assert (ran.load_warm_ms, ran.first_run_ms) == (4, 90)
    assert ran.check == ModelCheck("a.fp32.onnx", 4, 3, 0.75)
    assert "no answers" in unchecked.notes["check"]
    assert (report.protocol, report.conditions.left_foreground) == (PROTOCOL, True)
    assert (refused.runs, refused.threads, refused.load_ms) == (0, None, None)
    assert refused.notes["latency_ms_p50"] == "refused"


STAND_INS = {
    "dom.js": "export const pause = async () => {};",
    "engines.js": "export const runnerName = async () => 'a runner'; export const threadCount = () => 2;",
    "loaded.js": """
        import { EdgeDeitError } from "CORE/error.js";
        export const events = (globalThis.events = []);
        export const bytesOf = async ({ file }) => { events.push("hash"); return new Uint8Array(1); };
        export const engineFor = null; // of the first screen, which takes no part
        export const closeEngine = async () => { events.push("close"); };
        export const openFresh = async ({ file }) => {
          events.push("open");
          if (file.startsWith("bad")) throw new EdgeDeitError("refused");
          const run = async () => { events.push("run"); return Float32Array.of(1, 2); };
          return { run, inputOf: (photo) => { events.push(`${photo.width}`); return photo; } };
        };
    """,
}
"""Module of the page -> what stands in for it outside of a browser."""

HOOKS = """
    const standIns = STAND_INS;
    export const resolve = (name, context, next) => {
      const file = name.split("/").at(-1);
      const taken = context.parentURL?.includes("/app/") && file in standIns;
      return taken ? { url: standIns[file], shortCircuit: true } : next(name, context);
    };
"""


def test_the_page_measures_as_the_protocol_says(tmp_path: Path) -> None:
    """The benchmark's own code, with an engine that counts what it is told."""
    core_address = (PAGE / "core").as_uri()
    for name, text in STAND_INS.items():
        (tmp_path / name.replace(".js", ".mjs")).write_text(text.replace("CORE", core_address))
    stand_ins = {name: (tmp_path / name.replace(".js", ".mjs")).as_uri() for name in STAND_INS}
    hooks = tmp_path / "hooks.mjs"
    hooks.write_text(HOOKS.replace("STAND_INS", json.dumps(stand_ins)))
    main = tmp_path / "main.mjs"
    main.write_text(f"""
        import {{ register }} from "node:module";
        register({json.dumps(hooks.as_uri())});
        const {{ benchmark }} = await import({json.dumps((PAGE / "app/benchmark.js").as_uri())});
        const manifest = {{ artefact: "good.onnx", sha256: "{"a" * 64}", target: "onnx", precision: "int8",
          model: "deit_tiny" }};
        const artefacts = ["good.onnx", "bad.onnx"].map((file) => ({{ file, manifest }}));
        const cases = {{ images: [], classification: [], refused: [] }};
        const bundle = {{ artefacts, spec: {{ artefact: "good.onnx" }}, goldenCases: async () => cases }};
        const entries = [];
        for await (const entry of benchmark(bundle, ["wasm"])) entries.push(entry);
        console.log(JSON.stringify({{ entries, events: globalThis.events }}));
    """)
    done = node(main)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    good, bad = found["entries"]
    assert (good["runs"], good["check"], good["threads"]) == (100, None, 2)
    assert all(good[name] > 0 for name in ("load_ms", "load_warm_ms", "first_run_ms"))
    assert (bad["runs"], bad["notes"]["first_run_ms"]) == (0, "refused")
    events = found["events"][: found["events"].index("hash", 1)]
    assert events[:5] == ["hash", "close", "open", "close", "open"]
    assert events.count("4032") == 1 + 5 + 1
    assert events.count("run") == 1 + 5 + 100


# The page


def html() -> str:
    return (PAGE / "index.html").read_text(encoding="utf-8")


def test_the_policy_allows_this_import_map_and_nothing_foreign() -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html())
    rules = {rule.split()[0]: rule.split()[1:] for rule in policy.split(";")}
    (imports,) = re.findall(r'<script type="importmap">(.*?)</script>', html(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(imports.encode()).digest()).decode()
    assert rules["default-src"] == ["'none'"]
    assert set(rules["script-src"]) == {"'self'", "'wasm-unsafe-eval'", f"'sha256-{digest}'"}
    assert rules["connect-src"] == ["'self'"]
    addresses = json.loads(imports)["imports"].values()
    assert all(address.startswith("./node_modules/") for address in addresses)
    sources = "".join(path.read_text(encoding="utf-8") for path in OURS) + html()
    assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|\beval\(", sources)


def test_every_element_that_the_scripts_name_is_there() -> None:
    there = re.findall(r'\bid="([\w-]+)"', html())
    assert len(there) == len(set(there))
    sources = "".join(path.read_text(encoding="utf-8") for path in (PAGE / "app").glob("*.js"))
    named = set(re.findall(r'byId\("([\w-]+)"\)', sources))
    assert len(named) > 10
    assert named <= set(there)


def test_every_import_is_there() -> None:
    (imports,) = re.findall(r'<script type="importmap">(.*?)</script>', html(), re.DOTALL)
    known = json.loads(imports)["imports"]
    for path in OURS:
        for name in re.findall(r'(?:from|import) ?\(?"([^"]+)"', path.read_text(encoding="utf-8")):
            if name.startswith("."):
                assert (path.parent / name).is_file(), f"{path.name} imports {name}"
            else:
                assert name in known or name.startswith("node:"), f"{path.name} imports {name}"


def test_packages_are_pinned_with_their_hashes() -> None:
    wanted = json.loads((PAGE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    locked = json.loads((PAGE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert locked.pop("")["dependencies"] == wanted
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    for name, version in wanted.items():
        assert locked[f"node_modules/{name}"]["version"] == version


def test_the_self_tests_limits_are_the_exports() -> None:
    text = (PAGE / "app/self_test_view.js").read_text(encoding="utf-8")
    assert f"LEAST_COSINE = {{ fp32: {MIN_COSINE_FLOAT}, fp16: {MIN_COSINE_FLOAT} }}" in text
    assert f"LEAST_COSINE_INTEGER = {MIN_COSINE_INT8};" in text
