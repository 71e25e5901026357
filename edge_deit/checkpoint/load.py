"""One strict loader: bundled, a file, a folder or a hub name -> a model and all it needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from edge_deit.checkpoint.checks import (
    DECODER,
    HEADS,
    check_classifier,
    check_tensors,
    check_variant,
    model_name,
)
from edge_deit.checkpoint.files import RawCheckpoint, Wanted, read_weights
from edge_deit.checkpoint.processors import PreprocessChoice, apply_choice, describe
from edge_deit.checkpoint.trained import TrainedIntegers
from edge_deit.common.arguments import checked_arguments
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import DeiTConfig, Task, variant
from edge_deit.model.deit import DeiT, interpolate_positions

__all__ = ["MOST_PIXELS", "Checkpoint", "load_model"]

_NO_LONGER: Final = (
    "taken: the float model alone; the integers trained with it fit its own shape and preprocessing"
)
MOST_PIXELS: Final = 4096
"""A side of a photo, before the crop; it takes 50 MB then."""


@dataclass(frozen=True)
class Checkpoint:
    """A loaded model (eval, float32) with all that belongs to it.

    `labels` has one name a class (their numbers where the checkpoint names none, nothing for
    features); `source` is what the user typed, `sha256` that of the weights file (of several shards:
    of their names and hashes), `name` the variant's or a descriptive one. `assumptions` are lines for the
    user: what no file says (`assumed: ...`), and what was taken where there was more (`taken: ...`).
    `trained` are integers that were trained from these weights, where the file has some.
    """

    model: DeiT
    config: DeiTConfig
    preprocess: PreprocessSpec
    labels: tuple[str, ...]
    source: str
    sha256: str
    name: str
    assumptions: tuple[str, ...] = ()
    trained: TrainedIntegers | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of the parameters in float32."""
        return 4 * sum(parameter.numel() for parameter in self.model.parameters())


@checked_arguments
def load_model(
    weights: str = "bundled",
    model: str | None = None,
    *,
    image_size: int | None = None,
    task: Task | None = None,
    num_classes: int | None = None,
    allow_new_head: bool = False,
    cache_dir: Path | None = None,
    ema: bool = False,
    num_heads: int | None = None,
    preprocessing: PreprocessChoice | None = None,
) -> Checkpoint:
    """Load `weights`: `bundled`, a `.safetensors` or `.pth` file, a Hugging Face or timm folder, or
    `hub:ORG/NAME[@REVISION]`, where a commit hash as REVISION pins what is downloaded.

    `model` is the variant it must be, classes aside. With `image_size` positions are interpolated and
    preprocessing scales along. `task="features"` drops the classifiers, `masked-image` takes the decoder of
    a folder that has one. With `allow_new_head`, another `num_classes` gives new random heads, for
    fine-tuning. `ema` takes the averaged weights of a training
    checkpoint. `num_heads` says how many attention heads there are, where no file does. `preprocessing`
    replaces what the files say of it.

    Raises:
        EdgeDeitError: anything missing, unreadable, incomplete, superfluous, of the wrong shape, not
            finite, or known from nothing; one line that names it.
    """
    expected = variant(model) if model else None
    raw = read_weights(weights, Wanted(ema, num_heads, expected, model), cache_dir)
    check_tensors(raw)
    as_it_is = raw.config
    raw = _other_task(raw, task)
    if expected and model:
        check_variant(raw, expected, model, image_size)
        raw = replace(raw, config=replace(raw.config, family=expected.family))
    raw = _other_classes(raw, num_classes, allow_new_head)
    if not allow_new_head or raw.config.num_classes == 1:
        check_classifier(raw)
    spec, lines = _preprocessing(raw, preprocessing, image_size or raw.config.image_size)
    if image_size is not None:
        raw = _resized(raw, image_size)
    if raw.trained is not None and (raw.config != as_it_is or preprocessing is not None):
        raw = replace(raw, trained=None)
        lines = (*lines, _NO_LONGER)
    form = _build(raw)
    return Checkpoint(
        model=form.eval(),
        config=raw.config,
        preprocess=spec,
        labels=_all_labels(raw),
        source=weights,
        sha256=raw.sha256,
        name=model_name(raw.config),
        assumptions=(*raw.notes, *lines),
        trained=raw.trained,
    )


# Preprocessing


def _preprocessing(
    raw: RawCheckpoint, choice: PreprocessChoice | None, image_size: int
) -> tuple[PreprocessSpec, tuple[str, ...]]:
    """What the files say, for the size that the model has in the end, or what is asked for instead."""
    size = raw.config.image_size

    def found() -> tuple[PreprocessSpec, tuple[str, ...]]:
        spec, lines = raw.find_spec()
        if spec.crop_size not in (size, image_size):
            raise EdgeDeitError(
                f"{raw.path}: preprocessing makes {spec.crop_size} pixels a side, the model takes {size}; "
                "correct the file that says so, give --preprocessing, or interpolate the positions: "
                f"--image-size {spec.crop_size}"
            )
        if image_size == spec.crop_size:
            return spec, lines
        scaled = max(1, round(spec.resize_size * image_size / size))
        spec = replace(spec, crop_size=image_size, resize_size=scaled)
        return spec, (*lines, f"assumed: scaled along to {image_size} pixels ({describe(spec)})")

    spec, lines = apply_choice(choice, image_size, found)
    if spec.crop_size != image_size:
        raise EdgeDeitError(
            f"the preprocessing asked for makes {spec.crop_size} pixels a side, the model takes "
            f"{image_size}; give --crop {image_size}, or --image-size {spec.crop_size}"
        )
    if spec.resize_size > MOST_PIXELS:
        raise EdgeDeitError(
            f"{raw.path}: resize_size is {spec.resize_size}; photos are scaled to at most {MOST_PIXELS} "
            "pixels a side"
        )
    return spec, lines


# Changing


def _build(raw: RawCheckpoint) -> DeiT:
    """The model around its tensors; only new heads cost an initialisation."""
    if raw.new_heads:
        form = DeiT(raw.config)
        form.load_state_dict(raw.state, strict=False)
        return form
    with torch.device("meta"):
        form = DeiT(raw.config)
    form.load_state_dict(raw.state, assign=True)
    return form


def _other_task(raw: RawCheckpoint, task: Task | None) -> RawCheckpoint:
    if task is None and raw.decoder:
        line = "taken: the encoder; --task masked-image takes the decoder of masked images too"
        return replace(raw, notes=(*raw.notes, line))
    if task is None or task == raw.config.task:
        return raw
    if task == "classification":
        raise EdgeDeitError(f"{raw.path} has no classifier; export it with --task features")
    outside = (*HEADS, *DECODER)
    state = {key: value for key, value in raw.state.items() if key not in outside}
    plain = replace(
        raw, state=state, config=raw.config.without_head(), labels=(), head_problem=None
    )
    return plain if task == "features" else _with_decoder(plain)


def _with_decoder(raw: RawCheckpoint) -> RawCheckpoint:
    if not raw.decoder:
        raise EdgeDeitError(
            f"{raw.path} has no masked-image decoder; --task masked-image is for folders of "
            "transformers' DeiTForMaskedImageModeling: leave --task out, or take features"
        )
    config = replace(raw.config, decoder_stride=raw.decoder_stride)
    found = replace(raw, state={**raw.state, **raw.decoder}, config=config)
    check_tensors(found)
    return found


def _other_classes(raw: RawCheckpoint, num_classes: int | None, allow: bool) -> RawCheckpoint:
    if num_classes is None or num_classes == raw.config.num_classes:
        return raw
    if not allow:
        raise EdgeDeitError(
            f"{raw.path} has {raw.config.num_classes} classes, {num_classes} are expected"
        )
    state = {key: value for key, value in raw.state.items() if key not in HEADS}
    head = raw.config.distillation_head or (raw.config.distilled and not raw.config.num_classes)
    config = replace(raw.config, num_classes=num_classes, distillation_head=head)
    return replace(raw, state=state, config=config, labels=(), head_problem=None, new_heads=True)


def _resized(raw: RawCheckpoint, image_size: int) -> RawCheckpoint:
    if image_size == raw.config.image_size:
        return raw
    config = replace(raw.config, image_size=image_size)
    positions = interpolate_positions(
        raw.state["pos_embed"],
        config.num_prefix_tokens,
        config.grid_size,
        antialias=config.register_tokens > 0,
    )
    return replace(raw, state={**raw.state, "pos_embed": positions}, config=config)


def _all_labels(raw: RawCheckpoint) -> tuple[str, ...]:
    count = raw.config.num_classes
    if raw.labels and len(raw.labels) != count:
        raise EdgeDeitError(f"{raw.path} names {len(raw.labels)} labels for {count} classes")
    return raw.labels or tuple(str(index) for index in range(count))
