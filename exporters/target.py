"""The seam between the core and the exporters: a target is data and a few functions."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import version_of
from edge_deit.exporters.runtime import MASK_NAME, Runner, Runtime, absent
from edge_deit.quantization.scheme import LayerRanges, Precision, Scheme

if TYPE_CHECKING:  # so that the list of targets costs no torch
    import numpy as np
    from torch import Tensor, nn

    from edge_deit.data.calibration import CalibrationSet
    from edge_deit.model.config import DeiTConfig
    from edge_deit.model.points import LayerReader
    from edge_deit.quantization.packed import PackedWeight

__all__ = ["ExportRequest", "Fine", "Form", "Runner", "Target", "run_each"]

_NEAR: Final[Mapping[str, tuple[Precision, ...]]] = {
    "fp16": ("fp32",),
    "int8-dynamic": ("int8",),
    "int8-full": ("int8",),
    "int4": ("palettized-4", "int8"),
    "palettized-6": ("int8",),
    "palettized-4": ("int4", "int8"),
}
"""What comes nearest to a precision that a target lacks, the nearest first."""

Form = Literal["ane", "cpu"]
"""How the operators of a file are laid out: `ExportRequest.form`."""


@dataclass(frozen=True)
class Fine:
    """Layers that carry more than `times` the mean of the predicted noise have finer activations."""

    times: float
    way: Literal["dynamic", "float"]


def _themselves(pixels: np.ndarray) -> np.ndarray:
    return pixels


@dataclass(frozen=True)
class ExportRequest:
    """All that an exporter is told.

    `model` is the deployment form (eval, float32), `example` an input of it: pixels (1, 3, H, W),
    or, where `model.image` is set, an image (`model.file_form`), with B for the 1 where it takes B photos,
    `calibration` the photos of a static scheme (None when it needs none), `ranges` what was found on them
    for each quantizable layer (empty when the scheme needs none), `output` the file or folder to write,
    which does not exist yet. `metadata` is text that the format may carry
    inside the file: `labels` (one a line), `preprocessing` (JSON), `author`, `license`,
    `description`, `version`. A model with a decoder takes a second input, `MASK_NAME`, of which `mask`
    (1, P) is an example. `backend` is one of the target's `backends`. `half_remainder` says that
    the operators which stay float may be computed in half precision where a core can
    (`quantization.half`), `single` which layers of an `fp16` file are computed in single precision
    (`model.mixed`), and why, `dynamic_batch` that the file takes any number of photos at once.
    `input_of` makes of pixels (M, 3, H, W) what the model takes.
    `weight_steps` are the steps of each output channel (O,) of layers whose grid is not their greatest
    weight's (`quantization.pairs`), `packed` the weights of layers that a file holds in few bits; those of
    `model` are the same, bit for bit. `form` is `ane` for channels first and half precision
    where the precision leaves it open, as Apple's Neural Engine wants it, or `cpu` for the deployment form
    as it is.
    """

    model: nn.Module
    example: Tensor
    scheme: Scheme
    calibration: CalibrationSet | None
    output: Path
    backend: str
    ranges: Mapping[str, LayerRanges] = field(default_factory=dict)
    input_name: str = "pixels"
    output_name: str = "logits"
    metadata: Mapping[str, str] = field(default_factory=dict)
    mask: Tensor | None = None
    half_remainder: bool = False
    single: Mapping[str, str] = field(default_factory=dict)
    dynamic_batch: bool = False
    form: Form = "cpu"
    weight_steps: Mapping[str, Tensor] = field(default_factory=dict)
    packed: Mapping[str, PackedWeight] = field(default_factory=dict)
    input_of: Callable[[np.ndarray], np.ndarray] = _themselves

    @property
    def inputs(self) -> dict[str, Tensor]:
        """Each input's name and an example of it, in the order of the model's arguments."""
        found = {self.input_name: self.example}
        return found if self.mask is None else found | {MASK_NAME: self.mask}

    @property
    def examples(self) -> tuple[Tensor, ...]:
        """What the model is called with."""
        return tuple(self.inputs.values())

    def calibration_inputs(self) -> Iterator[Tensor]:
        """The calibration photos one by one, as the model takes them; none without photos."""
        import torch

        for photo in self.calibration or ():
            yield torch.from_numpy(self.input_of(photo.numpy()))


def run_each(
    runner: Runner,
    pixels: np.ndarray,
    on_photo: Callable[[], None] = lambda: None,
    *,
    photos: int = 1,
) -> np.ndarray:
    """Outputs (M, ...) for pixels (M, 3, H, W), one photo at a time, or at most `photos`."""
    import numpy as np

    found = []
    for start in range(0, len(pixels), photos):
        found.append(np.asarray(runner(pixels[start : start + photos])))
        for _ in found[-1]:
            on_photo()
    return np.concatenate(found)


@dataclass(frozen=True)
class Target:
    """One output format.

    `runtime` says what its files are called and what runs them. `requires` maps each import name to the
    distribution that brings it. `backends` lists what may execute the file, the default first.
    `integer_outputs` says whether a static layer writes integers, so that its output is rounded too, which
    it does not for the backends in `float_outputs`.
    `layer_reader` opens a file that `load_runner` accepts so that its inside can be compared with the
    float model's, None where the format's runtime shows nothing; it raises EdgeDeitError for a file whose
    inside cannot be shown.
    `token_ranges` says whether ranges found at run time are each token's own. `int8_dynamic` holds shell
    patterns of the layers that find their ranges at run time in `int8` too, as the runtime is faster or
    finer with it. `fine` says, for a backend whose layers differ much in what rounding them costs, from
    how much noise on a layer's activations are finer in `int8`, and how: a range found at run
    time, or float. `least` says for each precision what runs its files: the oldest version of a runtime, or
    of a system that brings one. `half_remainder` lists for a backend the precisions whose files may
    compute what is float in half precision, all of it or nothing, `single` shell patterns of the layers
    that `fp16` files compute in single precision in any case, `batched` the precisions whose files can take
    any number of photos at once. `remarks` is for some precisions of the default backend what to read.
    `image_planes` says that the runtime makes float planes of an image by itself, of one at a time;
    `in_pairs` that its kernels add neighbouring products in 16 bits on some processors
    (`quantization.pairs`). `all_integer` lists the precisions that keep nothing in float and find
    ranges in a graph of their own, without token scales. `one_photo` maps the precisions whose
    files can take but one photo to the reason. `pins` maps distributions to the one version that is
    taken. A `beta` target is left out of `all`, with a note, where its packages are absent or of
    other versions. `forms` maps each precision to the form its files have by default, `ane` or
    `cpu` (`ExportRequest.form`); it is empty where a target has but one. `effort` is about how long making
    a file takes, `merges` for a backend which precisions merge tokens, `needless` unneeded imports.
    `pixels_only` says for a backend whose files take no image why, and what to do.
    """

    runtime: Runtime
    requires: Mapping[str, str]
    precisions: tuple[Precision, ...]
    backends: tuple[str, ...]
    export: Callable[[ExportRequest], Path]
    integer_outputs: bool = False
    float_outputs: tuple[str, ...] = ()
    token_ranges: bool = False
    int8_dynamic: tuple[str, ...] = ()
    fine: Mapping[str, Fine] = field(default_factory=dict)
    half_remainder: Mapping[str, tuple[Precision, ...]] = field(default_factory=dict)
    image_planes: bool = False
    in_pairs: bool = False
    single: tuple[str, ...] = ()
    remarks: Mapping[Precision, str] = field(default_factory=dict)
    least: Mapping[Precision, Mapping[str, str]] = field(default_factory=dict)
    batched: tuple[Precision, ...] = ()
    all_integer: tuple[Precision, ...] = ()
    one_photo: Mapping[Precision, str] = field(default_factory=dict)
    layer_reader: Callable[[Path, DeiTConfig], LayerReader] | None = None
    pins: Mapping[str, str] = field(default_factory=dict)
    beta: bool = False
    forms: Mapping[Precision, Form] = field(default_factory=dict)
    effort: int = 1
    needless: tuple[str, ...] = ()
    merges: Mapping[str, tuple[Precision, ...]] = field(default_factory=dict)
    pixels_only: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What the command line calls it."""
        return self.runtime.name

    @property
    def suffix(self) -> str:
        """How its files' names end, with the dot."""
        return self.runtime.suffix

    @property
    def extra(self) -> str:
        """The extra that installs its packages."""
        return self.runtime.extra

    def load_runner(self, path: Path, threads: int) -> Runner:
        """Load a file in this process; `artefacts.runners` does it in one of its own.

        Raises:
            EdgeDeitError: the runtime is absent, or refuses the file.
        """
        return self.runtime.load(path, threads, None)

    def runs_on(self) -> str | None:
        """None when the target's real runtime works here, otherwise why not and what stands in."""
        return self.runtime.runs_on()

    def warm_up(self) -> None:
        """Import the converter without what is `needless`, for a process that does nothing but convert."""
        if self.needless:
            with contextlib.suppress(ImportError), absent(self.needless):
                importlib.import_module(next(iter(self.requires)))

    def missing(self) -> list[str]:
        """Distributions that this target needs and this environment lacks."""
        found = importlib.util.find_spec
        return [dist for module, dist in self.requires.items() if found(module) is None]

    def mismatched(self) -> list[str]:
        """Pinned distributions of another version: `coreai-core 1.0.0b3 (1.0.0b4 is installed)`."""
        pairs = ((name, pin, version_of(name)) for name, pin in self.pins.items())
        return [
            f"{name} {pin} ({v} is installed)" for name, pin, v in pairs if v not in (None, pin)
        ]

    def fit(self, scheme: Scheme, model: nn.Module) -> Scheme:
        """The scheme as this target carries it out on the deployment form `model`: see `int8_dynamic`.

        Raises:
            EdgeDeitError: as `Scheme.quantized_layers`, layers that cannot stay float, or no layer that can
                have 4 bits where the scheme is made for them.
        """
        if scheme.precision in self.all_integer and scheme.keep_float:
            raise EdgeDeitError(
                f"{scheme.precision} keeps nothing in float; leave --keep-float out, or take int8"
            )
        if scheme.grouped:
            _check_groups(scheme, model)
        if scheme.precision != "int8":
            return scheme
        layers = scheme.quantized_layers(model)
        found = [n for n in layers if any(fnmatch.fnmatch(n, p) for p in self.int8_dynamic)]
        return replace(scheme, dynamic=tuple(dict.fromkeys((*scheme.dynamic, *found))))

    def single_layers(self, model: nn.Module) -> list[str]:
        """Layers of the form `model` that `fp16` files compute in single precision in any case."""
        names = (name for name, _ in model.named_modules() if name)
        return [n for n in names if any(fnmatch.fnmatch(n, p) for p in self.single)]

    def check(self, precision: str) -> None:
        """Refuse a precision that the format cannot hold, or a target whose packages are absent.

        Raises:
            EdgeDeitError: with the precisions there are, or the command that installs the packages.
        """
        if precision not in self.precisions:
            near = [name for name in _NEAR.get(precision, ()) if name in self.precisions]
            instead = f"take {near[0]}; " if near else ""
            raise EdgeDeitError(
                f"target {self.name} has no {precision}; {instead}it has: {', '.join(self.precisions)}"
            )
        if (remedy := self.remedy()) is not None:
            raise EdgeDeitError(f"target {remedy}")

    def remedy(self) -> str | None:
        """What to install, in one line, None when nothing is missing.

        `onnx needs onnxruntime: pip install 'edge-deit[onnx]'`.
        """
        if not (missing := self.missing() or self.mismatched()):
            return None
        return f"{self.name} needs {', '.join(missing)}: pip install 'edge-deit[{self.extra}]'"


def _check_groups(scheme: Scheme, model: nn.Module) -> None:
    from edge_deit.quantization.groups import GROUP, in_whole_groups

    layers = scheme.quantized_layers(model)
    if not any(in_whole_groups(model.get_submodule(name)) for name in layers):
        remedy = "leave --keep-float out, or take" if scheme.keep_float else "take"
        raise EdgeDeitError(
            f"{scheme.precision} would have no weight in 4 bits: of its layers "
            f"none has a multiple of {GROUP} input channels; {remedy} --precision int8"
        )
