"""Whether tensors that were read are a whole model, and the one that was asked for."""

from __future__ import annotations

from typing import Final

import torch

from edge_deit.checkpoint.files import RawCheckpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import VARIANTS, DeiTConfig
from edge_deit.model.deit import DeiT

__all__ = ["DECODER", "HEADS", "check_classifier", "check_tensors", "check_variant", "model_name"]

HEADS: Final = ("head.weight", "head.bias", "head_dist.weight", "head_dist.bias")
"""Tensors of the classifiers, which come and go with classes and task."""

DECODER: Final = ("mask_token", "decoder.weight", "decoder.bias")
"""Tensors of the masked-image task."""

_WIDTHS: Final = (
    "patch_size", "embed_dim", "depth", "num_heads", "mlp_dim", "qkv_bias", "layer_scale",
    "register_tokens",
)  # fmt: skip


def check_tensors(raw: RawCheckpoint) -> None:
    """Refuse what is not every tensor that the shape asks for, no other, all finite.

    Raises:
        EdgeDeitError: one line that names what is absent, unknown or of another shape, and a likely cause.
    """
    with torch.device("meta"):
        expected = DeiT(raw.config).state_dict()
    absent = [key for key in expected if key not in raw.state]
    extra = [key for key in raw.state if key not in expected]
    odd = [k for k in expected if k in raw.state and raw.state[k].shape != expected[k].shape]
    problems = []
    if absent:
        wants = [f"{key} {tuple(expected[key].shape)}" for key in absent[:3]]
        problems.append(f"lacks {', '.join(wants)} ({len(absent)} in all)")
    if extra:
        has = [f"{key} {tuple(raw.state[key].shape)}" for key in extra[:3]]
        problems.append(f"has unknown {', '.join(has)} ({len(extra)} in all)")
    for key in odd[:2]:
        have, want = tuple(raw.state[key].shape), tuple(expected[key].shape)
        problems.append(f"{key} has shape {have}, {want} is expected ({len(odd)} in all)")
    if problems:
        cause = _likely_cause(raw, {*absent, *odd}, set(extra))
        raise EdgeDeitError(
            f"{raw.path} is not a whole {model_name(raw.config)}: {'; '.join(problems)}{cause}"
        )
    for key, value in raw.state.items():
        if not torch.isfinite(value).all():
            raise EdgeDeitError(f"{raw.path}: {key} holds NaN or infinite values")


def check_classifier(raw: RawCheckpoint) -> None:
    """Refuse a classifier whose softmax means nothing, and a model that answers every photo alike.

    Raises:
        EdgeDeitError: one class, classes that do not exclude one another, or weights that are all zero.
    """
    remedy = "export it with --task features, or train a classifier with finetune"
    if raw.head_problem is not None:
        raise EdgeDeitError(f"{raw.path}: {raw.head_problem}; {remedy}")
    if raw.config.num_classes == 1:
        raise EdgeDeitError(
            f"{raw.path} has one logit, as for a sigmoid; softmax over one class says 100 % for every "
            "photo; put a row of zeros before its own (softmax then equals the sigmoid), or export it with "
            "--task features"
        )
    heads = [raw.state[name] for name in HEADS if name in raw.state and name.endswith("weight")]
    if heads and all((head == head[0]).all() for head in heads):
        zero = "zero" if not any(head.any() for head in heads) else "the same for every class"
        raise EdgeDeitError(
            f"{raw.path} answers every photo with the same logits: its classifier's weights are {zero}; "
            f"{remedy}"
        )
    for name in ("norm.weight", "patch_embed.proj.weight"):
        if not raw.state[name].any():
            raise EdgeDeitError(
                f"{raw.path} answers every photo with the same output: {name} is all zero"
            )


def _likely_cause(raw: RawCheckpoint, wrong: set[str], extra: set[str]) -> str:
    distilled = {"dist_token", "head_dist.weight"}
    dim = raw.state["cls_token"].shape[-1] if "cls_token" in raw.state else raw.config.embed_dim
    if dim != raw.config.embed_dim:
        names = [name for name, row in VARIANTS.items() if row.embed_dim == dim]
        return f"; its widths are those of {names[0]}" if names else f"; its width is {dim}"
    if extra & distilled:
        return "; it looks like a distilled checkpoint described as a plain one"
    if wrong & distilled:
        return "; it looks like a plain checkpoint described as a distilled one"
    if wrong and wrong <= set(HEADS):
        return f"; its classifier is not one of {raw.config.num_classes} classes"
    if wrong == {"pos_embed"}:
        return "; its positions are no square of patches after the class (and distillation) token"
    return ""


def check_variant(
    raw: RawCheckpoint, expected: DeiTConfig, name: str, image_size: int | None
) -> None:
    """The checkpoint must be that variant, but for classes, epsilon and family, and image size if one is
    given.

    Raises:
        EdgeDeitError: it is another one.
    """
    heads = ("distillation_head",) if raw.config.num_classes else ()
    for field in ("distilled", *_WIDTHS, *heads):
        want, have = getattr(expected, field), getattr(raw.config, field)
        if want == have:
            continue
        cause = f"it looks like {model_name(raw.config)}"
        if field == "distilled":
            cause = f"it is a {'distilled' if have else 'plain'} checkpoint, {cause[3:]}"
        raise EdgeDeitError(
            f"{raw.path} does not fit {name}: {field} is {have}, {want} is expected; {cause}; name "
            "another --model, or none"
        )
    size = raw.config.image_size
    if image_size is None and size != expected.image_size:
        raise EdgeDeitError(
            f"{raw.path} does not fit {name}: it takes {size} pixels a side, {name} takes "
            f"{expected.image_size}; leave --model out to keep {size}, or say --image-size "
            f"{expected.image_size} to interpolate its positions"
        )


def model_name(config: DeiTConfig) -> str:
    """The family's variant with these widths, else a name that describes them."""
    same = ("family", "image_size", "distilled", *_WIDTHS)
    for name, row in VARIANTS.items():
        if all(getattr(row, field) == getattr(config, field) for field in same):
            return name
    kind = "_distilled" if config.distilled else "_registers" if config.register_tokens else ""
    widths = f"d{config.embed_dim}_l{config.depth}_h{config.num_heads}"
    return f"{config.family}_{widths}_{config.image_size}{kind}"
