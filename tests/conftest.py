"""Fixtures shared by the tests: tiny models, generated photos, and the real folder where there is one."""

# ruff: noqa: E402 # how threads wait is settled before torch is imported

from __future__ import annotations

from edge_deit.common.waiting import wait_asleep

wait_asleep()

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from PIL import Image

from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.quiet import quiet
from edge_deit.conversion.run import export_model
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import target
from edge_deit.model.config import DeiTConfig
from edge_deit.model.deit import DeiT
from edge_deit.quantization.scheme import Precision
from shared import once, shared_root

os.environ["EDGE_DEIT_CACHE"] = ""  # what tests condition is no use to anyone
os.environ["EDGE_DEIT_JOBS"] = "1"  # tests run side by side already

TINY = DeiTConfig(image_size=64, embed_dim=64, depth=2, num_heads=2, mlp_dim=128, num_classes=10)
ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Ctrl-C reaches the commands under test, also where a shell started the tests in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = (
    "mobile/test_ios",
    "evaluation/test_sabotage",
    "conversion/test_export",
    "mobile/test_android",
    "evaluation/test_layers",
    "conversion/test_masked_image",
    "exporters/test_fixed_batch",
    "evaluation/test_kills",
    "commands/test_bad_input",
    "exporters/test_relatives",
    "project/test_benchmarks",
    "commands/test_no_local_paths",
    "exporters/test_tflite",
    "exporters/test_executorch",
    "exporters/test_photo_bytes",
    "mobile/test_web",
    "conversion/test_same_bytes",
    "artefacts/test_process",
    "quantization/test_pinning",
    "evaluation/test_validate",
    "artefacts/test_mutations",
    "conversion/test_int4",
    "conversion/test_crew",
    "evaluation/test_validate_artefacts",
    "exporters/test_onnx",
    "exporters/test_coreml",
    "examples/test_examples",
    "conversion/test_layout",
    "emulation/test_arm64",
    "mobile/test_bundle",
    "exporters/test_coreai",
    "conversion/test_conditioning",
    "quantization/test_palette",
    "commands/test_weights",
)
"""Files of tests that take a minute or nearly, the longest first. A worker takes whole files (`make test`):
a long one that came last would run alone."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all others in their own order."""
    places = {ROOT / "tests" / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile(
    "fuzz",
    max_examples=2500,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("ci")  # `make fuzz` takes the other one

THREADS = max(1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


@pytest.fixture(autouse=True)
def _threads() -> None:
    torch.set_num_threads(THREADS)


def random_model(config: DeiTConfig, seed: int = 0) -> DeiT:
    """A DeiT whose every parameter is random, norms and biases too, so that nothing is trivially zero."""
    torch.manual_seed(seed)
    model = DeiT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run see; `once` fills it."""
    return shared_root(tmp_path_factory)


@pytest.fixture(scope="session")
def photos(shared: Path) -> Path:
    """Two classes of generated photos, eight each."""
    return once(shared / "photos", _write_photos)


def _write_photos(folder: Path) -> None:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / label).mkdir()
        for index in range(8):
            coarse = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize((90, 70), Image.Resampling.BICUBIC)
            image.save(folder / label / f"{index}.png")


@pytest.fixture(scope="session")
def tiny_weights(shared: Path) -> Path:
    """A checkpoint file of a distilled 64-pixel model with ten classes."""
    return once(shared / "tiny.safetensors", _write_weights)


def _write_weights(path: Path) -> None:
    model = random_model(replace(TINY, distilled=True, distillation_head=True))
    spec = PreprocessSpec(resize_size=72, crop_size=64)
    save_checkpoint(path, model, spec, tuple(f"class {index}" for index in range(10)), half=False)


@pytest.fixture(scope="session")
def exported(shared: Path, tiny_weights: Path) -> Callable[[str], Path]:
    """Exports the tiny model to a target in fp32, once: target's name -> file with its manifest."""

    def write(folder: Path) -> None:
        folder.mkdir()
        export_model(
            str(tiny_weights),
            targets=[folder.name.removeprefix("exported_")],
            precisions=["fp32"],
            output=folder,
            parity_images=2,
        )

    def artefact(name: str) -> Path:
        if missing := target(name).missing():
            pytest.skip(f"{', '.join(missing)} not installed")
        (path,) = once(shared / f"exported_{name}", write).glob(f"*{target(name).suffix}")
        return path

    return artefact


@pytest.fixture(scope="session")
def labelled_photos(shared: Path) -> Path:
    """Four classes of generated photos, called as the labels of `onnx_files`, six each."""
    return once(shared / "labelled_photos", _write_labelled)


def _write_labelled(folder: Path) -> None:
    generator = np.random.default_rng(1)
    for label in "abcd":
        (folder / label).mkdir(parents=True)
        for index in range(6):
            coarse = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize((48, 40)).save(folder / label / f"{index}.png")


@pytest.fixture(scope="session")
def onnx_files(shared: Path, labelled_photos: Path) -> tuple[Path, Path, Path]:
    """fp32 and int8 of a 32-pixel model of four classes, and fp32 of another one."""
    if missing := target("onnx").missing():
        pytest.skip(f"{', '.join(missing)} not installed")
    folder = once(shared / "onnx_files", lambda made: _export_two(made, labelled_photos))
    first, second = sorted(folder.glob("*d64*.onnx"))
    (other,) = folder.glob("*d32*.onnx")
    return first, second, other


def _export_two(folder: Path, photos: Path) -> None:
    folder.mkdir()
    precisions: dict[int, tuple[Precision, ...]] = {64: ("fp32", "int8"), 32: ("fp32",)}
    for width, wanted in precisions.items():
        config = replace(TINY, image_size=32, patch_size=8, embed_dim=width, num_classes=4)
        weights = folder / f"{width}.safetensors"
        spec = PreprocessSpec(resize_size=36, crop_size=32)
        save_checkpoint(weights, random_model(config), spec, tuple("abcd"), half=False)
        with quiet():
            export_model(
                str(weights),
                targets=["onnx"],
                precisions=wanted,
                output=folder,
                calibration=photos,
            )


CommandLine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command_line() -> CommandLine:
    """Runs `python -m edge_deit.ARGUMENTS` as a user would."""

    def call(
        module: str, *arguments: object, **settings: object
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", f"edge_deit.{module}", *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "100", "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=environment,
            cwd=ROOT,
            **settings,  # type: ignore[call-overload]
        )

    return call


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder with a real DeiT-tiny and labelled photos."""
    folder = os.environ.get("EDGE_DEIT_REAL")
    if not folder:
        pytest.skip("EDGE_DEIT_REAL is not set: no real weights and photos on this machine")
    return Path(folder)
