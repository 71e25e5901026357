"""int4 exports: the mix of 4 and 8 bits, its limits, the cache, and other commands with the files."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from conftest import TINY, CommandLine, random_model
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion.produce import OverSizeError
from edge_deit.conversion.run import ExportResult, export_model
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import target as find_target
from shared import once

CONFIG = replace(TINY, depth=2, image_size=32, num_classes=5)


@pytest.fixture
def weights(shared: Path) -> Path:
    def write(path: Path) -> None:
        spec = PreprocessSpec(resize_size=36, crop_size=32)
        save_checkpoint(path, random_model(CONFIG), spec, tuple("abcde"), half=False)

    return once(shared / "int4.safetensors", write)


@pytest.fixture
def few(shared: Path) -> Path:
    def write(folder: Path) -> None:
        folder.mkdir()
        generator = np.random.default_rng(0)
        for index in range(8):
            pixels = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((50, 40)).save(folder / f"{index}.png")

    return once(shared / "int4-photos", write)


@pytest.fixture(autouse=True)
def _one_cache(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All mixes choose from the same weights, which are made once."""
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(shared / "int4-cache"))


def export(weights: Path, few: Path, output: Path, **more: object) -> ExportResult:
    arguments = {"targets": ["onnx"], "precisions": ["int4"], "calibration": few}
    return export_model(str(weights), output=output, **(arguments | more))  # type: ignore[arg-type]


def test_the_manifest_says_which_bits(weights: Path, few: Path, tmp_path: Path) -> None:
    done = export(weights, few, tmp_path, sensitivity_report=tmp_path / "report")
    (one,) = done.artefacts
    scheme = read_manifest(one.path).scheme
    bits, groups = scheme["bits"], scheme["groups"]
    assert bits["patch_embed"] == 8
    assert set(bits.values()) == {4, 8}
    assert groups == {name: 32 for name, count in bits.items() if count == 4}
    assert any("layers in 4 bits" in note for note in done.notes)
    assert one.closeness is not None
    assert one.closeness.snr_db > 10
    with (tmp_path / "report" / "int4.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(bits)  # the patch embedding has no choice, and one row has none in 8
    sizes = [float(row["size_mb"]) for row in rows]
    noises = [float(row["noise"]) for row in rows]
    assert sizes == sorted(sizes)
    assert noises == sorted(noises, reverse=True)
    assert (tmp_path / "report" / "int4.png").stat().st_size > 1000


def test_a_limit_on_the_size_is_kept_by_the_file(weights: Path, few: Path, tmp_path: Path) -> None:
    large = export(weights, few, tmp_path / "a", max_size=10.0).artefacts[0].manifest
    assert set(large.scheme["bits"].values()) == {8}
    limit = large.size_bytes / 1e6 - 0.01
    done = export(weights, few, tmp_path / "b", max_size=limit)
    assert done.artefacts[0].manifest.size_bytes <= limit * 1e6
    assert set(done.artefacts[0].manifest.scheme["bits"].values()) == {4, 8}
    late, seen = tmp_path / "c", Lines()
    with pytest.raises(OverSizeError, match=r"weights alone have .* than --max-size 0.01") as told:
        export(weights, few, late, max_size=0.01, progress=seen)
    assert not any("int4 weights" in line for line in seen.lines), "refused before long work"
    bare = told.value.excess_bytes + 10_100  # as large as the weights alone, which no file is
    with pytest.raises(OverSizeError, match="smallest int4 file"):
        export(weights, few, late, max_size=bare / 1e6, progress=seen)
    assert any("int4 weights" in line for line in seen.lines)
    assert not list(late.glob("*.onnx"))


def odd_weights(path: Path, width: int, hidden: int) -> Path:
    config = replace(CONFIG, depth=1, embed_dim=width, num_heads=3, mlp_dim=hidden)
    spec = PreprocessSpec(resize_size=36, crop_size=32)
    save_checkpoint(path, random_model(config), spec, tuple("abcde"), half=False)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("target", ["onnx", "tflite", "executorch"])
def test_layers_without_whole_groups_keep_8_bits(few: Path, tmp_path: Path, target: str) -> None:
    """Runtimes take 4-bit weights in groups of 32 inputs alone."""
    if missing := find_target(target).missing():
        pytest.skip(f"needs {', '.join(missing)}")
    odd = odd_weights(tmp_path / "odd.safetensors", 96, 100)
    (one,) = export(odd, few, tmp_path, targets=[target]).artefacts
    bits = one.manifest.scheme["bits"]
    assert bits["blocks.0.mlp.fc2"] == 8, "100 inputs"
    assert 4 in bits.values()
    assert set(one.manifest.scheme["groups"].values()) == {32}
    assert one.closeness is not None
    assert one.closeness.snr_db > 20


@pytest.mark.parametrize("kept", [(), ("blocks.*", "head")])
def test_nothing_in_4_bits_is_refused(few: Path, tmp_path: Path, kept: tuple[str, ...]) -> None:
    width = 96 if kept else 33
    odd = odd_weights(tmp_path / "odd.safetensors", width, 99)
    with pytest.raises(
        EdgeDeitError, match=r"no weight in 4 bits: .* multiple of 32 input"
    ) as told:
        export(odd, few, tmp_path / "out", keep_float=kept, precisions=["fp32", "int4"])
    assert ("--keep-float" in str(told.value)) == bool(kept)
    assert not list((tmp_path / "out").glob("*.onnx"))


def test_a_limit_on_the_drop_keeps_layers_finer(weights: Path, few: Path, tmp_path: Path) -> None:
    done = export(weights, few, tmp_path, max_drop=0.0)
    (note,) = [note for note in done.notes if note.startswith("int4:")]
    assert "0.0 % of decisions changed on" in note


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"max_size": 0.0}, "--max-size is 0"),
        ({"max_size": 3.0, "precisions": ["int8"]}, "add --precision int4"),
        ({"targets": ["coreml"]}, "coreml has no int4; take palettized-4; it has: fp32"),
        ({"targets": ["onnx"], "precisions": ["palettized-4"]}, "no palettized-4; take int4; it"),
        ({"targets": ["onnx"], "precisions": ["palettized-6"]}, "no palettized-6; take int8; it"),
        ({"calibration": None}, "int4 needs photos like those the model will see: --calibration"),
    ],
)
def test_refusals(
    weights: Path, few: Path, tmp_path: Path, more: dict[str, object], message: str
) -> None:
    with pytest.raises(EdgeDeitError, match=message):
        export(weights, few, tmp_path, **more)


def test_a_later_file_takes_weights_from_the_cache(
    weights: Path,
    few: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command_line: CommandLine,
) -> None:
    monkeypatch.setenv("EDGE_DEIT_CACHE", str(tmp_path / "cache"))
    first = export(weights, few, tmp_path / "a", threads=2).artefacts[0]
    (tuned,) = [f for f in (tmp_path / "cache" / "conditioning").iterdir() if has(f, "table")]
    tuned.write_bytes(tuned.read_bytes()[:-9])
    seen = Lines()
    again = export(weights, few, tmp_path / "b", threads=1, progress=seen).artefacts[0]
    assert first.manifest.sha256 == again.manifest.sha256, "made anew, by another number of threads"
    assert sum("int4 weights: taken from" in line for line in seen.lines) == 1
    assert sum("int4 weights are made anew" in line for line in seen.lines) == 1
    image = export(weights, few, tmp_path / "c", input_kind="image").artefacts[0]
    assert image.closeness is not None
    assert image.closeness.snr_db > 10
    shown = command_line("predict", image.path, next(few.iterdir()))
    assert shown.returncode == 0, shown.stderr


def has(file: Path, name: str) -> bool:
    with safe_open(file, framework="pt") as content:
        return name in content.keys()  # noqa: SIM118 # no dict


class Lines:
    """A progress that keeps its notes."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @contextmanager
    def task(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        yield lambda count: None

    def note(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.fuzz
def test_bars_on_real_weights(command_line: CommandLine, real: Path, tmp_path: Path) -> None:
    """Few photos calibrate and few judge; docs/int4.md has the figures of all of them."""
    result = command_line(
        "export",
        *("--target", "tflite", "--precision", "int4", "--calibration-images", 16),
        *("--weights", real / "deit_tiny_patch16_224" / "model.safetensors"),
        *("--calibration", real / "imagenet400", "--parity-images", 24),
        *("--output", tmp_path),
    )
    assert result.returncode == 0, result.stderr
    (file,) = tmp_path.glob("*.json")
    made = json.loads(file.read_text())
    assert made["size_bytes"] < 0.17 * 22.9e6
    assert made["parity"]["agreement"] > 0.8
    assert made["parity"]["snr_db"] > 9
