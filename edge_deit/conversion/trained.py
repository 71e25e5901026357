"""Integers that were trained: what a checkpoint brings along, and what cannot be asked of it then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edge_deit.checkpoint.load import Checkpoint
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.conversion.fallback import DropLimit
from edge_deit.conversion.plan import Item, calibration_needed
from edge_deit.quantization.scheme import Scheme
from edge_deit.quantization.trained import Trained, TrainedGroups, trained_from_tensors

__all__ = ["as_trained", "check_trained", "photos_needed", "trained_of"]

_COVERED = {"int8": ("int8", "int8-dynamic", "int8-full"), "int4": ("int4",)}


def trained_of(checkpoint: Checkpoint) -> Trained | None:
    """The integers that the checkpoint brings along, None where it has none.

    Raises:
        EdgeDeitError: they are damaged, or another model's.
    """
    if (found := checkpoint.trained) is None:
        return None
    given = found.text, found.tensors, checkpoint.config, checkpoint.preprocess
    try:
        return trained_from_tensors(found.precision, *given)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise EdgeDeitError(
            f"{checkpoint.source}: its trained integers are damaged, or another model's: "
            f"{first_line(error)}; train them anew, finetune --quantize {found.precision}"
        ) from error


def check_trained(checkpoint: Checkpoint, plan: Sequence[Item], limit: DropLimit) -> None:
    """Refuse what would choose anew what was trained.

    Raises:
        EdgeDeitError: another integer precision, or an option that chooses layers.
    """
    if (found := checkpoint.trained) is None:
        return
    schemes = [scheme for _, scheme, _ in plan if scheme.quantized or scheme.packed]
    for scheme in schemes:
        if scheme.precision not in _COVERED[found.precision]:
            raise EdgeDeitError(
                f"{checkpoint.source} has integers that were trained for {found.precision}, not for "
                f"{scheme.precision}; export --precision {', '.join(_COVERED[found.precision])} or a float "
                "one, or give the checkpoint that the training began with"
            )
        if scheme.keep_float:
            raise EdgeDeitError(
                "--keep-float: the integers of these weights were trained together; leave it out, or give "
                "the checkpoint that the training began with"
            )
    if schemes and limit.wanted:
        raise EdgeDeitError(
            "--max-drop, --max-size and --sensitivity-report choose layers, and those of these weights are "
            "trained as they are; leave them out, and let validate or gate judge the file"
        )


def photos_needed(checkpoint: Checkpoint, plan: Sequence[Item]) -> list[str]:
    """Names of the precisions that are not made without calibration photos.

    Trained integers need none, but in int8-full, whose other operators have ranges too.
    """
    if checkpoint.trained is None:
        return calibration_needed(plan)
    return calibration_needed([item for item in plan if item[1].precision == "int8-full"])


def as_trained(found: TrainedGroups, scheme: Scheme) -> tuple[Scheme, str]:
    """The scheme with the layers in 8 bits that were trained so, and a line on them."""
    eight = tuple(name for name, one in found.packed.items() if one.bits == 8)
    line = (
        f"int4: as trained, {len(found.packed) - len(eight)} layers in 4 bits and {len(eight)} in 8"
    )
    return replace(scheme, eight=eight), line
