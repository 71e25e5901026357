"""The same seed gives the same files, whatever the number of threads; another seed gives others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import TINY, random_model
from edge_deit.artefacts.manifest import read_manifest
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.conversion import schedule
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import TARGETS, target
from edge_deit.quantization.scheme import Precision
from shared import once

CONFIG = replace(TINY, depth=1, image_size=32, num_classes=5)


@pytest.fixture
def weights(shared: Path) -> Path:
    def write(path: Path) -> None:
        spec = PreprocessSpec(resize_size=36, crop_size=32)
        save_checkpoint(path, random_model(CONFIG), spec, tuple("abcde"), half=False)

    return once(shared / "same-bytes.safetensors", write)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(4):
        pixels = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((50, 40)).save(folder / f"{index}.png")
    return folder


def hashes(
    weights: Path,
    photos: Path,
    output: Path,
    names: list[str],
    precision: Precision = "int8",
    **chosen: int,
) -> list[str]:
    done = export_model(
        str(weights), targets=names, precisions=[precision], output=output, calibration=photos,
        cache=False, **chosen,
    )  # fmt: skip
    assert read_manifest(done.artefacts[0].path).scheme["seed"] == chosen.get("seed", 0)
    return [one.manifest.sha256 for one in done.artefacts]


@pytest.mark.parametrize(
    ("names", "precision"),
    [
        (["onnx"], "int8"),
        pytest.param([*TARGETS], "int8", marks=pytest.mark.fuzz),
        pytest.param(["onnx"], "int4", marks=pytest.mark.slow),
        pytest.param(["onnx", "tflite", "executorch"], "int4", marks=pytest.mark.fuzz),
        pytest.param(["coreml"], "palettized-4", marks=pytest.mark.slow),
    ],
)
def test_the_same_bytes_twice(
    names: list[str], precision: Precision, weights: Path, few: Path, tmp_path: Path
) -> None:
    names = [name for name in names if not target(name).missing()]
    if not names:
        pytest.skip("the target's packages are not installed")
    before = torch.get_num_threads()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            folder = tmp_path / str(threads)
            found.append(hashes(weights, few, folder, names, precision, threads=threads))
            assert torch.get_num_threads() == threads, "the caller's number is as it was"
        finally:
            torch.set_num_threads(before)
    assert dict(zip(names, found[0], strict=True)) == dict(zip(names, found[1], strict=True))
    other = hashes(weights, few, tmp_path / "seed", names[:1], precision, seed=7)
    assert other != found[0][:1]


def test_the_same_tables_in_every_file(weights: Path, few: Path, tmp_path: Path) -> None:
    """Whatever the number of threads; the file for a photo's bytes has them divided by 255, in single
    precision where half precision would lose digits."""
    if remedy := target("coreai").remedy():
        pytest.skip(remedy)
    found = []
    for threads, kind in ((1, "pixels"), (2, "pixels"), (1, "image")):
        done = export_model(
            str(weights), targets=["coreai"], precisions=["palettized-4"], calibration=few,
            cache=False, threads=threads, output=tmp_path / f"{threads}{kind}", input_kind=kind,
        )  # fmt: skip
        found.append(done.artefacts[0].manifest)
    assert found[0].sha256 == found[1].sha256
    assert found[0].scheme["bits"] == found[2].scheme["bits"]
    assert {4} < set(found[0].scheme["bits"].values()) <= {4, 6, 8}
    assert found[0].scheme["seed"] == 0
    assert found[0].calibration is not None
    assert found[0].parity["snr_db"] > 15
    assert found[2].parity["snr_db"] == pytest.approx(found[0].parity["snr_db"], abs=3)


def test_tables_need_photos(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="palettized-4 needs photos like those"):
        export_model(str(weights), targets=["coreai"], precisions=["palettized-4"], output=tmp_path)


@pytest.mark.parametrize("threads", [1, 3])
def test_torch_computes_with_the_same_number_of_threads(
    threads: int, weights: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sums depend on that number: on 224 pixels ranges differed between one thread and two."""
    seen: list[int] = []

    def export_one(*_: object) -> None:
        seen.append(torch.get_num_threads())
        raise EdgeDeitError("seen")

    monkeypatch.setattr(schedule, "export_one", export_one)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(EdgeDeitError, match="seen"):
            hashes(weights, few, tmp_path / "out", ["onnx"], threads=threads)
    finally:
        torch.set_num_threads(before)
    assert seen == [2]


def test_a_seed_that_no_generator_takes_is_refused(
    weights: Path, few: Path, tmp_path: Path
) -> None:
    for seed in (-1, 2**63):
        with pytest.raises(EdgeDeitError, match=f"--seed is {seed}; it must be from 0 to"):
            hashes(weights, few, tmp_path / "out", ["onnx"], seed=seed)
