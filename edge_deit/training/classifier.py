"""Image classifiers of `transformers` as teachers: RegNet, ResNet, ConvNeXT, BEiT, Swin and others.

The graph is built by transformers, from a configuration and tensors that were read and checked here
(`checkpoint.classifier_folder`): it opens no file of the folder, and runs no code but its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import Tensor, nn

from edge_deit.checkpoint.class_names import labels_from_config
from edge_deit.checkpoint.classifier_folder import ClassifierFolder
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.progress import Progress
from edge_deit.common.quiet import quiet
from edge_deit.common.text import visible

__all__ = ["build_classifier"]

_NEEDED: Final = 5
_COUNTERS: Final = "num_batches_tracked"
_NAMED: Final = 3  # in a message


class _Logits(nn.Module):
    """A classifier that returns nothing but logits: (B, 3, H, W) -> (B, K)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self._used = model, False

    def forward(self, pixels: Tensor) -> Tensor:
        with nullcontext() if self._used else quiet():  # transformers warns at the first batch
            logits: Tensor = self.model(pixel_values=pixels, return_dict=True).logits
        self._used = True
        return logits


def build_classifier(
    found: ClassifierFolder, teacher: str, progress: Progress
) -> tuple[nn.Module, tuple[str, ...]]:
    """The model, in eval mode and float32, and the names of its classes; their numbers where it has none.

    Raises:
        EdgeDeitError: transformers is missing or too old, does not take the model for an image classifier,
            or cannot build it; tensors that are missing or of other shapes.
    """
    with quiet(), _explained(teacher):
        config, kind = _class_of(found, teacher)
        model, info = kind.from_pretrained(
            None,
            config=config,
            state_dict=found.state,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # they are refused below, by name
            output_loading_info=True,
        )
        classes = int(config.num_labels)
    _check(info, found, teacher)
    if left := sorted(info["unexpected_keys"]):
        progress.note(
            f"teacher {teacher}: tensors without a place in the model are left out: {_some(left)}"
        )
    names = labels_from_config(found.path / "config.json", found.config, classes)
    numbers = tuple(map(str, range(classes)))
    return _Logits(model.eval().requires_grad_(False)), names or numbers


def _class_of(found: ClassifierFolder, teacher: str) -> tuple[Any, Any]:
    """The configuration and the class of the model; importing transformers takes seconds."""
    try:
        import transformers
    except ImportError as error:
        raise EdgeDeitError(
            f"teacher {teacher} is a {found.config['model_type']}, which transformers builds: "
            "pip install 'edge-deit[teacher]'"
        ) from error
    if int(transformers.__version__.split(".")[0]) < _NEEDED:
        raise EdgeDeitError(
            f"teacher {teacher} needs transformers {_NEEDED}, {transformers.__version__} is installed: "
            "pip install -U 'edge-deit[teacher]'"
        )
    known = transformers.CONFIG_MAPPING
    models = transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    kind = found.config["model_type"]
    if kind not in known or known[kind] not in models:
        raise EdgeDeitError(
            f"teacher {teacher}: its model_type is {kind!r:.40}, which transformers "
            f"{transformers.__version__} does not take for an image classifier; give one that was saved by "
            "AutoModelForImageClassification, or export the model as a .pt2 file"
        )
    config = known[kind].from_dict(dict(found.config))
    chosen: Any = models[type(config)]
    if isinstance(chosen, list | tuple):
        named = {one.__name__: one for one in chosen if one is not None}
        chosen = next((named[n] for n in config.architectures or () if n in named), chosen[0])
    return config, chosen


def _check(info: Mapping[str, Iterable[Any]], found: ClassifierFolder, teacher: str) -> None:
    for name, stored, wanted in sorted(info["mismatched_keys"]):
        raise EdgeDeitError(
            f"teacher {teacher}: {name} is {tuple(stored)}, {tuple(wanted)} is expected from "
            f"{found.path / 'config.json'}; are config.json and weights of one model?"
        )
    missing = sorted(name for name in info["missing_keys"] if not name.endswith(_COUNTERS))
    if missing:
        raise EdgeDeitError(
            f"teacher {teacher}: its weights lack {_some(missing)}; give a folder of the whole model, "
            "trained to classify"
        )
    for line in info["error_msgs"]:
        raise EdgeDeitError(f"teacher {teacher}: transformers cannot load it: {visible(str(line))}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    )


@contextmanager
def _explained(teacher: str) -> Iterator[None]:
    """What transformers raises, in one line."""
    try:
        yield
    except EdgeDeitError:
        raise
    except Exception as error:  # its checks of configurations raise classes of their own
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:240]}"
        raise EdgeDeitError(
            f"teacher {teacher} cannot be built by transformers: {words}"
        ) from error
