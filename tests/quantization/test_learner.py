"""A form that learns while it rounds: it begins as what was chosen, and ends as what a file computes."""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from typing import Any

import pytest
import torch

from condition_examples import grey_photos, outliers
from edge_deit.data.preprocess import default_spec
from edge_deit.quantization.condition import Conditioned, condition
from edge_deit.quantization.fakequant import round_activation
from edge_deit.quantization.groups import short_scale
from edge_deit.quantization.learner import (
    LearnedRange,
    Learner,
    groups_learner,
    integer_learner,
)
from edge_deit.quantization.rounding import fits_pairs, round_weights
from edge_deit.quantization.trained import (
    Trained,
    TrainedGroups,
    exact_form,
    groups_to_begin_with,
    learned_groups,
    learned_integers,
    simulated,
    trained_from_tensors,
    trained_to_tensors,
)

SPEC = default_spec(64, 0.9)
PHOTOS = grey_photos(6)
AS_FAR_AS_ROUNDING = 20  # dB; a value at the edge of a step falls either way, and others follow it


@functools.cache
def conditioned() -> Conditioned:
    return condition(outliers(), PHOTOS, SPEC)


@functools.cache
def grouped() -> TrainedGroups:
    exact = exact_form(outliers(), SPEC, 0)
    return TrainedGroups(exact, groups_to_begin_with(exact, list(PHOTOS), seed=0))


def begun(precision: str) -> Learner:
    if precision == "int8":
        return integer_learner(conditioned())
    return groups_learner(grouped().form, grouped().packed)


def ended(learner: Learner) -> Trained:
    if any(layer.endswith("result.logarithms") for layer, _ in learner.named_parameters()):
        return learned_integers(learner, conditioned())
    return learned_groups(learner, grouped().form)


def taught(precision: str, steps: int = 3) -> Learner:
    """A learner after some steps towards other logits."""
    learner = begun(precision)
    optimizer = torch.optim.Adam(learner.parameter_groups(0.0, 20.0), lr=1e-3)
    wanted = torch.randn(len(PHOTOS), learner.config.num_classes)
    for _ in range(steps):
        optimizer.zero_grad()
        (learner(PHOTOS.pixels) - wanted).square().mean().backward()
        optimizer.step()
    return learner.eval()


def snr_db(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float(10 * torch.log10(wanted.square().sum() / (found - wanted).square().sum()))


@pytest.mark.parametrize("ends", [(-1.0, 3.0), (-0.17, 5.0), (0.0, 1.0), (-2.0, 0.0)])
def test_a_range_rounds_as_the_files_range_does(ends: tuple[float, float]) -> None:
    learned, x = LearnedRange(ends), torch.linspace(-4, 6, 4001)
    low, high = learned.ends()
    step = (ends[1] - ends[0]) / 255
    assert abs(low - ends[0]) <= step
    assert abs(high - ends[1]) <= step
    assert torch.allclose(learned(x), round_activation(x, (low, high)), atol=step * 1e-3)


def test_a_range_follows_what_it_loses() -> None:
    """Values beyond the ends pull them out; a range that is far too wide shrinks."""
    x = torch.randn(4000, generator=torch.Generator().manual_seed(0))
    for ends, grows in (((-0.5, 0.5), True), ((-40.0, 40.0), False)):
        learned = LearnedRange(ends)
        (learned(x) - x).square().sum().backward()
        slope = learned.logarithms.grad
        assert slope is not None
        assert bool((slope < 0).all()) == grows
        assert bool((slope > 0).all()) != grows


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_it_begins_as_what_was_chosen(precision: str) -> None:
    """No weight rounds otherwise than before, and outputs are those of the rounded form."""
    learner = begun(precision).eval()
    if precision == "int8":
        before: Trained = conditioned()
        for name in learner.names:
            expected = conditioned().form.get_submodule(name).get_parameter("weight")
            assert torch.allclose(learner.layer(name).rounded(), expected, atol=1e-6), name
    else:
        before = grouped()
        for name in learner.names:
            found, expected = learner.layer(name).packed(), grouped().packed[name]
            assert torch.equal(found.integers, expected.integers), name
            assert torch.allclose(found.scales, expected.scales, rtol=1e-6), name
    with torch.inference_mode():
        rounded = simulated(before)
        first = learner.form.embed(PHOTOS.pixels), rounded.embed(PHOTOS.pixels)
        assert snr_db(*first) > 50, (
            "one layer, before a value at the edge of a step can fall otherwise"
        )
        assert snr_db(learner(PHOTOS.pixels), rounded(PHOTOS.pixels)) > AS_FAR_AS_ROUNDING


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_it_ends_as_what_a_file_computes(precision: str) -> None:
    learner = taught(precision)
    with torch.inference_mode():
        found = simulated(ended(learner))(PHOTOS.pixels)
        assert snr_db(found, learner(PHOTOS.pixels)) > AS_FAR_AS_ROUNDING
        assert snr_db(found, begun(precision).eval()(PHOTOS.pixels)) < 15, "nothing was learned"


def test_what_reads_one_tensor_has_one_range() -> None:
    found = learned_integers(taught("int8"), conditioned())
    for index in range(len(found.form.blocks)):
        q, k, v = (found.ranges[f"blocks.{index}.attn.{n}"].input for n in "qkv")
        assert q == k == v
    assert found.ranges["patch_embed"].input == (0.0, 1.0), "grey levels are integers already"


def test_trained_int8_weights_are_found_again_by_the_usual_rule() -> None:
    found = learned_integers(taught("int8"), conditioned())
    for name in found.ranges:
        weight = found.form.get_submodule(name).get_parameter("weight").detach()
        assert torch.allclose(round_weights(weight, None), weight, atol=1e-6), name
    assert found.paired.keys() == found.ranges.keys() - {"patch_embed"}
    for name, layer in found.paired.items():
        pairs = layer.integers.int().unflatten(1, (-1, 2)).sum(-1)
        assert int(pairs.abs().max()) <= 128, name
        assert fits_pairs(layer.integers)
        assert not fits_pairs(torch.full_like(layer.integers, 65))


def test_trained_scales_have_the_digits_of_a_file() -> None:
    found = learned_groups(taught("int4"), grouped().form)
    bits = {one.bits for one in found.packed.values()}
    assert bits == {4, 8}
    for name, one in found.packed.items():
        if one.bits == 4:
            assert torch.equal(short_scale(one.scales), one.scales), name
            assert int(one.integers.min()) >= -8
            assert int(one.integers.max()) <= 7


def test_nothing_that_is_no_weight_learns_what_it_must_not() -> None:
    """The mean inside a norm, and the bias of layers with tokens of one magnitude, stay."""
    start = dataclasses.replace(conditioned(), token_scaled=("blocks.0.mlp.fc2",))
    learner = integer_learner(start)
    learning = {name for name, one in learner.named_parameters() if one.requires_grad}
    assert not [name for name in learning if "mean_square" in name or "coarse" in name]
    assert "form.blocks.0.mlp.fc2.bias" not in learning
    assert "form.blocks.0.mlp.fc1.bias" in learning
    assert "form.token_table" in learning


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_as_tensors_and_back(precision: str) -> None:
    before = ended(taught(precision))
    kind, text, tensors = trained_to_tensors(before)
    after = trained_from_tensors(kind, text, tensors, before.form.config, SPEC)
    with torch.inference_mode():
        assert torch.equal(
            simulated(after)(PHOTOS.pixels), simulated(copy.deepcopy(before))(PHOTOS.pixels)
        )


def _without(name: str) -> Any:
    return lambda text, tensors: (text, {k: v for k, v in tensors.items() if k != name})


def _with(name: str, change: Any) -> Any:
    return lambda text, tensors: (text, {**tensors, name: change(tensors[name])})


def _text(change: Any) -> Any:
    return lambda text, tensors: (json.dumps(change(json.loads(text))), tensors)


def _narrower(said: dict[str, Any]) -> dict[str, Any]:
    return {"bits": dict.fromkeys(said["bits"], 4)}


def _first_range_gone(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "ranges": dict(list(said["ranges"].items())[1:])}


def _upside_down(said: dict[str, Any]) -> dict[str, Any]:
    return {**said, "ranges": {name: [[1, -1], [0, 1]] for name in said["ranges"]}}


def _token_scaled(name: str) -> Any:
    return _text(lambda said: {**said, "token_scaled": [name]})


PAIRS = "paired.integers.head"
DAMAGE = {
    "int8: a range is gone": ("int8", _text(_first_range_gone)),
    "int8: a range is upside down": ("int8", _text(_upside_down)),
    "int8: a range is not finite": ("int8", lambda t, x: (t.replace("[[", "[[NaN, 1], [", 1), x)),
    "int8: token scales that there are not": ("int8", _token_scaled("no.such")),
    "int8: a token scale where none can be": ("int8", _token_scaled("blocks.0.mlp.fc1")),
    "int8: a weight is gone": ("int8", _without("form.head.weight")),
    "int8: pairs of another shape": ("int8", _with(PAIRS, lambda v: v[:1])),
    "int8: pairs that are too large": ("int8", _with(PAIRS, lambda v: torch.full_like(v, 120))),
    "int4: an integer is too large": ("int4", _text(_narrower)),
    "int4: integers are gone": ("int4", _without("integers.head")),
    "int4: integers are floats": ("int4", _with("integers.head", lambda v: v.float())),
    "int4: scales do not fit": ("int4", _with("scales.head", lambda v: torch.ones(len(v), 5))),
    "int4: a scale of zero": ("int4", _with("scales.head", lambda v: v * 0)),
    "int4: a scale that is no number": ("int4", _with("scales.head", lambda v: v * torch.nan)),
    "int4: bits that there are not": ("int4", _text(lambda s: {"bits": dict.fromkeys(s["bits"], 2)})),
    "int4: no JSON": ("int4", lambda t, x: ("{", x)),
    "int4: more than it should say": ("int4", _text(lambda s: {**s, "more": 1})),
    "int4: positions of another shape": ("int4", _with("form.token_table", lambda v: v[:, 1:])),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_integers_are_refused(case: str) -> None:
    precision, damage = DAMAGE[case]
    found: Trained = conditioned() if precision == "int8" else grouped()
    kind, text, tensors = trained_to_tensors(found)
    text, tensors = damage(text, tensors)
    with pytest.raises((KeyError, ValueError, TypeError, RuntimeError)):
        trained_from_tensors(kind, text, tensors, found.form.config, SPEC)
