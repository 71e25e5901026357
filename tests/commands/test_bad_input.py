"""Bad input, typed at the command line: one clear line on stderr, exit code 2, nothing left behind."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from conftest import TINY, CommandLine, random_model

Call = Callable[..., subprocess.CompletedProcess[str]]


class Place:
    """Files that the cases are made of."""

    def __init__(self, root: Path, weights: Path, photos: Path) -> None:
        self.root, self.weights, self.photos, self.out = root, weights, photos, root / "out"

    def file(self, name: str, content: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def state(self, name: str, **changes: torch.Tensor) -> Path:
        model = random_model(replace(TINY, distilled=True, distillation_head=True))
        path = self.root / name
        save_file({**model.state_dict(), **changes}, path)
        return path

    def nan_weights(self) -> Path:
        return self.state("nan.safetensors", **{"norm.weight": torch.full((64,), torch.nan)})

    def pickle(self) -> Path:
        path = self.root / "evil.pth"
        torch.save({"model": subprocess.Popen}, path)
        return path

    def broken_photos(self) -> Path:
        folder = self.root / "broken"
        shutil.copytree(self.photos, folder)
        (folder / "cat" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\nnot really")
        return folder

    def empty_photos(self) -> Path:
        (self.root / "empty").mkdir()
        return self.root / "empty"


def export(place: Place, *options: object) -> list[object]:
    """`export` with good defaults that a case overrides."""
    chosen = {
        "--target": "onnx",
        "--weights": place.weights,
        "--calibration": place.photos,
        "--output": place.out,
    }
    chosen |= dict(zip(options[::2], options[1::2], strict=True))
    return ["export", *(part for pair in chosen.items() for part in pair if pair[1] is not None)]


Case = Callable[[Place], list[object]]
CASES: dict[str, tuple[Case, str]] = {
    "unknown target": (lambda p: export(p, "--target", "tensorrt"), "choose one of: executorch"),
    "unknown precision": (lambda p: export(p, "--precision", "int3"), "choose one of: fp32"),
    "precision the target lacks": (
        lambda p: export(p, "--target", "coreml", "--precision", "int8-full"),
        "coreml has no int8-full; take int8; it has",
    ),
    "negative seed": (lambda p: export(p, "--seed", -1), "--seed is -1; it must be from 0"),
    "unknown backend": (lambda p: export(p, "--backend", "cuda"), "has no backend 'cuda'"),
    "unknown variant": (lambda p: export(p, "--model", "deit_huge"), "deit_tiny_distilled"),
    "unknown task": (lambda p: export(p, "--task", "segmentation"), "classification, features"),
    "unknown option": (lambda p: [*export(p), "--quantize"], "--quantize"),
    "missing target": (lambda p: ["export"], "--target"),
    "unknown layout": (lambda p: export(p, "--layout", "zip"), "one of: plain, huggingface"),
    "layout without that target": (
        lambda p: export(p, "--layout", "huggingface", "--target", "tflite"),
        "holds onnx files, no tflite",
    ),
    "layout without that precision": (
        lambda p: export(p, "--layout", "huggingface", "--precision", "int8-dynamic"),
        "no name for int8-dynamic",
    ),
    "layout over other files": (
        lambda p: export(p, "--layout", "huggingface", "--output", p.photos),
        "would be lost",
    ),
    "batch that a target lacks": (
        lambda p: [*export(p, "--target", "tflite"), "--dynamic-batch"],
        "with a free batch",
    ),
    "batch of none": (lambda p: [*export(p), "--batch", 0], "--batch is 0; it must be from 1 to 64"),
    "batch for a precision with a range for all photos": (
        lambda p: [
            *export(p, "--target", "onnx", "--precision", "int8-dynamic"),
            *("--batch", 2),
        ],
        "onnx has no int8-dynamic with --batch 2",
    ),
    "batch of images for Core ML": (
        lambda p: [*export(p, "--target", "coreml"), "--batch", 2, "--input", "image"],
        "its images come one at a time",
    ),
    "image for Core ML's delegate": (
        lambda p: [
            *export(p, "--target", "executorch", "--backend", "coreml"),
            *("--input", "image"),
        ],
        "executorch (coreml) has no --input image: Core ML's delegate takes no bytes; leave --input",
    ),
    "missing weights": (lambda p: export(p, "--weights", p.root / "no.safetensors"), "no.safetens"),
    "empty weights": (
        lambda p: export(p, "--weights", p.file("empty.safetensors", b"")),
        "empty.safetensors",
    ),
    "truncated weights": (
        lambda p: export(
            p, "--weights", p.file("cut.safetensors", p.weights.read_bytes()[:5000])
        ),
        "cut.safetensors",
    ),
    "not weights at all": (
        lambda p: export(p, "--weights", p.file("weights.pth", b"hello")),
        "weights.pth",
    ),
    "pickle with code": (lambda p: export(p, "--weights", p.pickle()), "evil.pth"),
    "NaN weights": (lambda p: export(p, "--weights", p.nan_weights()), "norm.weight"),
    "wrong shape": (
        lambda p: export(
            p, "--weights", p.state("odd.safetensors", **{"norm.weight": torch.ones(3)})
        ),
        "norm.weight",
    ),
    "extra key": (
        lambda p: export(
            p, "--weights", p.state("extra.safetensors", **{"norm.other": torch.ones(3)})
        ),
        "norm.other",
    ),
    "distilled weights as plain": (
        lambda p: export(p, "--weights", p.state("d.safetensors"), "--model", "deit_tiny"),
        "d.safetensors",
    ),
    "folder without config": (lambda p: export(p, "--weights", p.photos), "config.json"),
    "bad hub name": (lambda p: export(p, "--weights", "hub:nonsense"), "hub:"),
    "hub, offline": (lambda p: export(p, "--weights", "hub:org/name"), "org/name"),
    "no calibration": (lambda p: export(p, "--calibration", None), "--calibration DIR"),
    "missing photos": (lambda p: export(p, "--calibration", p.root / "gone"), "does not exist"),
    "no photo": (lambda p: export(p, "--calibration", p.empty_photos()), "no image in"),
    "broken photo": (lambda p: export(p, "--calibration", p.broken_photos()), "3.png cannot be"),
    "odd image size": (lambda p: export(p, "--image-size", 100), "100"),
    "pattern without a layer": (
        lambda p: export(p, "--keep-float", "blocks.99.*"),
        "matches no layer",
    ),
    "unwritable folder": (lambda p: export(p, "--output", "/proc/none"), "/proc/none"),
    "output is a file": (
        lambda p: export(p, "--output", p.file("taken", b"keep me")),
        "a file",
    ),
    "no photos to learn from": (
        lambda p: ["finetune", "--data", p.empty_photos(), "--output", p.out],
        "no image in",
    ),
    "teacher without distillation": (
        lambda p: [
            "finetune", "--data", p.photos, "--output", p.out, "--weights", p.weights,
            "--teacher", p.root / "teacher.pt2",
        ],
        "--distillation hard, soft or classic",
    ),
    "nothing to resume": (
        lambda p: [
            "finetune", "--data", p.photos, "--output", p.out, "--weights", p.weights, "--resume",
        ],
        "nothing to resume",
    ),
    "no Ray": (
        lambda p: ["validate", p.root / "no.onnx", "--ray", "auto", "--output", p.out],
        "--ray needs Ray: pip install 'edge-deit[ray]'",
    ),
    "missing artefact": (
        lambda p: ["predict", p.root / "no.onnx", p.photos / "cat" / "0.png"],
        "does not exist",
    ),
    "artefact of another version": (
        lambda p: [
            "predict",
            p.file("a.onnx.json", json.dumps({"schema": 0}).encode()).with_suffix("")
            if p.file("a.onnx", b"x")
            else "",
            p.photos / "cat" / "0.png",
        ],
        "schema 0, this version reads",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_one_line_and_exit_code_two(
    name: str, tmp_path: Path, tiny_weights: Path, photos: Path, command_line: CommandLine
) -> None:
    case, expected = CASES[name]
    place = Place(tmp_path, tiny_weights, photos)
    arguments = case(place)
    result = command_line(*arguments)
    lines = result.stderr.strip().splitlines()
    assert result.returncode == 2, result.stderr
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert expected in lines[0]
    assert not place.out.exists() or not [f for f in place.out.iterdir() if f.name != "state.pt"]
    print(f"\n{name} | {result.returncode} | {lines[0]}")


@pytest.mark.slow
def test_full_disk_keeps_the_former_file(
    tmp_path: Path, tiny_weights: Path, photos: Path, command_line: CommandLine
) -> None:
    place = Place(tmp_path, tiny_weights, photos)
    assert command_line(*export(place, "--precision", "fp32")).returncode == 0
    before = {path.name: path.read_bytes() for path in place.out.iterdir()}

    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    result = command_line(*export(place, "--precision", "fp32"), preexec_fn=small_files_only)
    assert result.returncode == 2, result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert {path.name: path.read_bytes() for path in place.out.iterdir()} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupt_leaves_nothing(
    name: str, tmp_path: Path, tiny_weights: Path, photos: Path
) -> None:
    place = Place(tmp_path, tiny_weights, photos)
    code = (
        "import signal, sys\n"
        "from edge_deit import export\n"
        "from edge_deit.exporters.onnx import target as onnx\n"
        "from dataclasses import replace\n"
        "def stop(request):\n"
        "    request.output.write_bytes(b'half')\n"
        f"    signal.raise_signal(signal.{name})\n"
        "onnx.TARGET = replace(onnx.TARGET, export=stop)\n"
        "from edge_deit.common.console import run\n"
        "run(export.app)\n"
    )
    arguments = [str(part) for part in export(place)[1:]]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 130, result.stderr
    assert "interrupted" in result.stderr
    assert list(place.out.iterdir()) == []
