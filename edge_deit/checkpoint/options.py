"""What a user adds where a checkpoint does not say everything about itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.processors import PreprocessChoice
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.strict_json import parse_json
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.model.config import Task

__all__ = ["LoadOptions"]


@dataclass(frozen=True)
class LoadOptions:
    """The options of `load_model` as a command line has them, so that a manifest can keep them.

    `ema` takes the averaged weights, `heads` is the number of attention heads. `preprocessing` is a
    recipe's name or a file; `mean`, `std`, `resize`, `crop` and `interpolation` replace single values,
    written as `PreprocessChoice.from_text` reads them. `stated` is a whole preprocessing as JSON, in place
    of all these: what a file said that others do not have.
    """

    ema: bool = False
    heads: int | None = None
    preprocessing: str | None = None
    mean: str | None = None
    std: str | None = None
    resize: str | None = None
    crop: int | None = None
    interpolation: str | None = None
    stated: str | None = None

    def shareable(self, spec: PreprocessSpec) -> LoadOptions:
        """The same without a file that others do not have: `spec`, read from it, is spelled out."""
        if self.preprocessing is None or not Path(self.preprocessing).exists():
            return self
        stated = json.dumps(spec.to_json())
        return LoadOptions(ema=self.ema, heads=self.heads, stated=stated)

    def to_json(self) -> dict[str, Any]:
        """What was given, by name; empty when nothing was."""
        default = asdict(LoadOptions())
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LoadOptions:
        """The reverse of `to_json`.

        Raises:
            EdgeDeitError: a name that is not known, or a value of another type.
        """
        kinds = {"ema": bool, "heads": int, "crop": int}
        known = {field.name for field in fields(cls)}
        for name, value in data.items():
            if name not in known or type(value) is not kinds.get(name, str):
                raise EdgeDeitError(f"the option {name} of the weights is {value!r:.40}")
        return cls(**data)

    def load(
        self,
        weights: str,
        model: str | None = None,
        *,
        image_size: int | None = None,
        task: Task | None = None,
        num_classes: int | None = None,
        allow_new_head: bool = False,
    ) -> Checkpoint:
        """`load_model` with these options.

        Raises:
            EdgeDeitError: as `load_model`, or an option of another form.
        """
        choice = self._choice()
        return load_model(
            weights,
            model,
            image_size=image_size,
            task=task,
            num_classes=num_classes,
            allow_new_head=allow_new_head,
            ema=self.ema,
            num_heads=self.heads,
            preprocessing=choice,
        )

    def _choice(self) -> PreprocessChoice | None:
        if self.stated is not None:
            try:
                stated = parse_json(self.stated)
            except ValueError as error:
                raise EdgeDeitError(f"the stated preprocessing is no JSON: {error}") from error
            return PreprocessChoice(stated=PreprocessSpec.from_json(stated))
        return PreprocessChoice.from_text(
            self.preprocessing,
            mean=self.mean,
            std=self.std,
            resize=self.resize,
            crop=self.crop,
            interpolation=self.interpolation,
        )
