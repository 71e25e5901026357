"""Writes a checkpoint that says everything about itself."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from edge_deit.checkpoint.files import CONFIG_KEY, LABELS_KEY, PREPROCESS_KEY
from edge_deit.checkpoint.trained import TrainedIntegers
from edge_deit.common.errors import EdgeDeitError, first_line
from edge_deit.common.files import replacing
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.deit import DeiT

__all__ = ["save_checkpoint"]


def save_checkpoint(
    path: Path,
    model: DeiT,
    preprocess: PreprocessSpec,
    labels: tuple[str, ...],
    *,
    half: bool,
    metadata: Mapping[str, str] | None = None,
    trained: TrainedIntegers | None = None,
) -> None:
    """Write one safetensors file that says everything about itself; stored as float16 when `half`.

    `trained` are integers that were trained from the model, which are kept beside it.

    Raises:
        EdgeDeitError: labels that do not fit the classes, or a value beyond the stored format.
        OSError: the file cannot be written. A former file of that name stays as it was, here as there.
    """
    if labels and len(labels) != model.config.num_classes:
        raise EdgeDeitError(f"{len(labels)} labels for {model.config.num_classes} classes")
    own = {
        CONFIG_KEY: json.dumps(asdict(model.config)),
        PREPROCESS_KEY: json.dumps(preprocess.to_json()),
        LABELS_KEY: json.dumps(list(labels)),
    }
    if trained is not None:
        own |= trained.metadata()
    if taken := own.keys() & (metadata or {}).keys():
        raise EdgeDeitError(f"metadata {', '.join(sorted(taken))} is written by save_checkpoint")
    kind = torch.float16 if half else torch.float32
    state = {
        name: value.detach().to("cpu", kind).contiguous()
        for name, value in model.state_dict().items()
    }
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise EdgeDeitError(f"{name} holds values that {kind} cannot store; {path} not written")
    if trained is not None:
        state |= trained.stored()
    try:
        with replacing(path) as partial:
            save_file(state, partial, metadata={**(metadata or {}), **own})
    except SafetensorError as error:
        if code := re.search(r"\(os error (\d+)\)", str(error)):
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error
        raise EdgeDeitError(f"{path} cannot be written: {first_line(error)}") from error
