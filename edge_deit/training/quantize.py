"""`--quantize`: training goes on with a precision's rounding simulated, and leaves integers for its files.

It begins with what an export would choose from photos of the training: the conditioned form and its ranges
for int8, packed weights and the layers in 8 bits for int4 (`quantization.learner` says what is learned
then). The float model stays as it is. It is the teacher, unless another one is named.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

import torch

from edge_deit.checkpoint.load import load_model
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.checkpoint.trained import TrainedIntegers
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import hash_path
from edge_deit.common.progress import Progress
from edge_deit.data.calibration import CalibrationSet
from edge_deit.data.listing import Photo, pick_evenly
from edge_deit.data.preprocess import PreprocessSpec, load_pixels
from edge_deit.model.deit import DeiT
from edge_deit.model.deploy import deploy
from edge_deit.model.form import DeployDeiT, quantizable_layers
from edge_deit.quantization.condition import Conditioned, condition, passes
from edge_deit.quantization.groups import GROUP, in_whole_groups
from edge_deit.quantization.learner import Learner, groups_learner, integer_learner
from edge_deit.quantization.reach import passes as reach_passes
from edge_deit.quantization.trained import (
    Trained,
    TrainedPrecision,
    exact_form,
    groups_to_begin_with,
    learned_groups,
    learned_integers,
    simulated,
    trained_from_tensors,
    trained_to_tensors,
)
from edge_deit.training.device import PrecisionChoice
from edge_deit.training.kinds import Judged, Learning
from edge_deit.training.recipe import Recipe
from edge_deit.training.start import Start

__all__ = ["Quantized", "begin_quantized", "check_quantized"]

_PHOTOS: Final = 100
"""Of the training, that ranges and rounding begin with."""


@dataclass(frozen=True)
class Quantized:
    """A learner, what it began with (`begun`), and the float `model` that both come from.

    `seed` drew their rotation.
    """

    learner: Learner
    begun: Conditioned | DeployDeiT
    model: DeiT
    spec: PreprocessSpec
    labels: tuple[str, ...]
    seed: int

    @property
    def words(self) -> str:
        """What is special about this training."""
        precision = "int8" if isinstance(self.begun, Conditioned) else "int4"
        return f"with {precision}'s rounding simulated"

    def trained(self, learner: Learner) -> Trained:
        """What files are made of."""
        if isinstance(self.begun, Conditioned):
            return learned_integers(learner, self.begun)
        return learned_groups(learner, self.begun)

    def stored(self, model: Learning) -> Judged:
        """What the file would compute."""
        assert isinstance(model, Learner)
        return simulated(self.trained(model))

    def write(self, path: Path, model: Learning) -> None:
        """The float model and the integers in one checkpoint, whole or not at all."""
        assert isinstance(model, Learner)
        save_checkpoint(
            path,
            self.model,
            self.spec,
            self.labels,
            half=all(bool((p.half() == p).all()) for p in self.model.parameters()),
            trained=TrainedIntegers(*trained_to_tensors(self.trained(model)), seed=self.seed),
        )

    def read(self, path: Path) -> Judged:
        """What a file that was written computes."""
        found = load_model(str(path))
        assert found.trained is not None
        one = found.trained
        given = one.precision, one.text, one.tensors, found.config, found.preprocess
        return simulated(trained_from_tensors(*given))


def check_quantized(
    precision: str, recipe: Recipe, weights: str, computes: PrecisionChoice, processes: int
) -> PrecisionChoice:
    """Refuse what does not go together, before anything is read; returns what training computes in.

    Raises:
        EdgeDeitError: another precision, random weights, several processes, or parts of a recipe that a
            rounded form has not.
    """
    if precision not in get_args(TrainedPrecision):
        raise EdgeDeitError(
            f"--quantize {precision!r}; choose one of: {', '.join(get_args(TrainedPrecision))}"
        )
    if weights == "none":
        raise EdgeDeitError("--quantize goes on from trained weights: --weights FILE, not none")
    if processes > 1:
        raise EdgeDeitError("--quantize trains in one process; start it without torchrun")
    for name, off in (("stochastic_depth", 0.0), ("layer_decay", 1.0)):
        if getattr(recipe, name) != off:
            option = name.replace("_", "-")
            raise EdgeDeitError(f"--{option} is not for --quantize; leave it out")
    if recipe.distillation not in ("none", "classic"):
        raise EdgeDeitError(
            f"--distillation {recipe.distillation} needs two heads, and a quantized model's are one; say "
            "classic, or leave it out"
        )
    if computes not in ("auto", "float32"):
        raise EdgeDeitError(f"--precision {computes}: --quantize computes in float32; leave it out")
    return "float32"


def begin_quantized(
    start: Start,
    precision: TrainedPrecision,
    photos: Sequence[Photo],
    seed: int,
    progress: Progress,
) -> Quantized:
    """The learner of a checkpoint's model, its ranges and rounding chosen on photos of the training.

    Raises:
        EdgeDeitError: no layer that int4 could have, a broken photo, or an output that is not finite.
    """
    spec = start.spec
    form, given = deploy(start.model), (start.model, spec, start.labels, seed)
    if precision == "int4" and not _has_groups(form):
        raise EdgeDeitError(
            "--quantize int4 would have no weight in 4 bits: of the model's layers none has a multiple of "
            f"{GROUP} input channels; take --quantize int8"
        )
    some = pick_evenly(list(photos), _PHOTOS)
    found = _pixels(some, spec)
    progress.note(f"{precision} begins with what {len(some)} of the training photos say")
    if precision == "int8":
        with progress.task("conditioning", passes(len(found))) as advance:
            begun = condition(form, found, spec, seed=seed, on_photo=lambda: advance(1))
        return Quantized(integer_learner(begun), begun, *given)
    exact = exact_form(form, spec, seed)
    with progress.task("reach of errors", reach_passes(len(found))) as advance:
        packed = groups_to_begin_with(exact, list(found), seed=seed, on_photo=lambda: advance(1))
    return Quantized(groups_learner(exact, packed), exact, *given)


def _has_groups(form: DeployDeiT) -> bool:
    return any(in_whole_groups(form.get_submodule(name)) for name in quantizable_layers(form))


def _pixels(photos: Sequence[Photo], spec: PreprocessSpec) -> CalibrationSet:
    pixels = torch.cat([torch.from_numpy(load_pixels(photo.path, spec)) for photo in photos])
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()
    files = tuple(hash_path(photo.path) for photo in photos)
    return CalibrationSet(pixels, digest, f"{len(photos)} photos", photo_sha256=files)
