"""What a user adds where a checkpoint does not say everything about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_deit.checkpoint.load import Checkpoint, load_model
from edge_deit.checkpoint.processors import PreprocessChoice
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import Task

__all__ = ["LoadOptions"]


@dataclass(frozen=True)
class LoadOptions:
    """The options of `load_model` as a command line has them, so that a manifest can keep them.

    `ema` takes the averaged weights, `heads` is the number of attention heads. `preprocessing` is a
    recipe's name or a file; `mean`, `std`, `resize`, `crop` and `interpolation` replace single values,
    written as `PreprocessChoice.from_text` reads them.
    """

    ema: bool = False
    heads: int | None = None
    preprocessing: str | None = None
    mean: str | None = None
    std: str | None = None
    resize: str | None = None
    crop: int | None = None
    interpolation: str | None = None

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
        choice = PreprocessChoice.from_text(
            self.preprocessing,
            mean=self.mean,
            std=self.std,
            resize=self.resize,
            crop=self.crop,
            interpolation=self.interpolation,
        )
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
