"""Where the files of an export lie, and what they are called."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from edge_deit.artefacts.manifest import MOST_PHOTOS
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.files import workplace
from edge_deit.conversion.plan import Item, check_form
from edge_deit.exporters import Form
from edge_deit.exporters.huggingface import FILE_NAMES, FOLDER, INPUT_NAME, TARGET_NAME
from edge_deit.model.config import Task
from edge_deit.model.file_form import FileForm, InputKind, ReturnKind
from edge_deit.quantization.scheme import Precision

__all__ = ["Layout", "LayoutName"]

LayoutName = Literal["plain", "huggingface"]

_DEFAULT: Final[Precision] = "int8"
_PARTS: Final = ("config.json", "preprocessor_config.json", "model.safetensors", "README.md")


@dataclass(frozen=True)
class Layout:
    """One way of laying out an export.

    `plain`: MODEL.PRECISION.SUFFIX in the output folder, beside what is there. `huggingface`: the output
    folder itself is what Hugging Face's tools load; it appears whole or not at all, and takes the place of
    a former one. `dynamic_batch` says that files take any number of photos at once, `batch` how many they
    take otherwise, `form` how their operators are laid out (None: each target's own way).
    """

    name: LayoutName = "plain"
    dynamic_batch: bool = False
    batch: int = 1
    form: Form | None = None

    @property
    def whole_folder(self) -> bool:
        """Whether the output folder as a whole is what is made."""
        return self.name == "huggingface"

    @property
    def batched(self) -> bool:
        """Whether files take any number of photos at once."""
        return self.dynamic_batch or self.whole_folder

    @property
    def input_name(self) -> str:
        """What files call their input."""
        return INPUT_NAME if self.whole_folder else "pixels"

    def targets(self, names: Sequence[str] | None) -> Sequence[str] | None:
        """The targets that are meant by `names`, None meaning all.

        Raises:
            EdgeDeitError: one that the layout has no place for.
        """
        if not self.whole_folder:
            return names
        if other := [name for name in names or () if name != TARGET_NAME]:
            raise EdgeDeitError(
                f"--layout huggingface holds {TARGET_NAME} files, no {other[0]}; leave --target out"
            )
        return [TARGET_NAME]

    def precisions(self, wanted: Sequence[Precision] | None) -> Sequence[Precision]:
        """The precisions that are meant; None is int8, or all that a folder has names for.

        Raises:
            EdgeDeitError: one without a name.
        """
        if not self.whole_folder:
            return (_DEFAULT,) if wanted is None else wanted
        if other := [name for name in wanted or () if name not in FILE_NAMES]:
            raise EdgeDeitError(
                f"--layout huggingface has no name for {other[0]}; it has: {', '.join(FILE_NAMES)}"
            )
        return tuple(FILE_NAMES) if wanted is None else wanted

    def check(self, plan: Sequence[Item], takes: InputKind) -> None:
        """Refuse files that cannot take images or many photos, or be laid out so, where that is wanted.

        Raises:
            EdgeDeitError: a number of photos that is none, or the target, and what it has.
        """
        check_form(plan, self.form)
        for target, _, backend in plan if takes == "image" else ():
            if (reason := target.pixels_only.get(backend)) is not None:
                raise EdgeDeitError(f"{target.name} ({backend}) has no --input image: {reason}")
        if self.form == "ane" and self.batch > 1:
            raise EdgeDeitError(
                "--form ane is for one photo: leave --batch out, or take --form cpu"
            )
        self._check_batch()
        for target, scheme, _ in plan if self.batch > 1 else ():
            reason = target.one_photo.get(scheme.precision)
            if target.image_planes and takes == "image":
                reason = "its images come one at a time; leave --input image out, or --batch"
            if reason is not None:
                raise EdgeDeitError(
                    f"target {target.name} has no {scheme.precision} with --batch {self.batch}: {reason}"
                )
        for target, scheme, _ in plan if self.batched else ():
            if scheme.precision not in target.batched:
                able = ", ".join(target.batched) or "nothing; leave --dynamic-batch out"
                raise EdgeDeitError(
                    f"target {target.name} has no {scheme.precision} with a free batch; with "
                    f"--dynamic-batch it has: {able}"
                )

    def _check_batch(self) -> None:
        if not 1 <= self.batch <= MOST_PHOTOS:
            raise EdgeDeitError(f"--batch is {self.batch}; it must be from 1 to {MOST_PHOTOS}")
        if self.batch > 1 and self.batched:
            free = "--layout huggingface" if self.whole_folder else "--dynamic-batch"
            raise EdgeDeitError(
                f"files of {free} take any number of photos at once; leave --batch out"
            )

    def file_form(self, takes: InputKind, returns: ReturnKind | None, task: Task) -> FileForm:
        """What the files take and return.

        Raises:
            EdgeDeitError: answers are asked of a model that has none, or another form than a folder has.
        """
        if task != "classification":
            if returns is not None:
                raise EdgeDeitError(
                    f"--returns {returns}: --task {task} returns neither; leave it out"
                )
            return FileForm(takes, photos=self.batch)
        default: ReturnKind = "probabilities" if takes == "image" else "logits"
        form = FileForm(takes, returns or default, self.batch)
        if self.whole_folder and form != FileForm():
            raise EdgeDeitError(
                "--layout huggingface has pixels in and logits out, as its tools do; leave --input and "
                "--returns out"
            )
        return form

    def file_name(self, model: str, precision: Precision, mark: str, suffix: str) -> str:
        """The name of one file; `mark` tells the backend where it is not the target's first."""
        if self.whole_folder:
            return FILE_NAMES[precision]
        return f"{model}.{precision}{mark}{suffix}"

    def files_in(self, output: Path) -> Path:
        """The folder of the files themselves."""
        return output / FOLDER if self.whole_folder else output

    @contextmanager
    def opened(self, output: Path) -> Iterator[Path]:
        """A folder to write into: `output`, or one that takes its place when the block ends well.

        One that cannot be written is refused before there is anything to write.

        Raises:
            EdgeDeitError: `output` holds what is no part of such a folder, so it may not be replaced.
            OSError: it cannot be made or written.
        """
        if not self.whole_folder:
            output.mkdir(parents=True, exist_ok=True)
            with workplace(output, ".export-"):
                pass
            yield output
            return
        final = Path(os.path.realpath(output))
        _check_replaceable(output, final)
        final.parent.mkdir(parents=True, exist_ok=True)
        with workplace(final.parent, ".export-") as work:
            made, former = work / "made", work / "former"
            self.files_in(made).mkdir(parents=True)
            yield made
            if final.exists():
                final.rename(former)
            try:
                made.rename(final)
            except OSError:
                if former.exists():
                    former.rename(final)
                raise


def _check_replaceable(output: Path, final: Path) -> None:
    if not os.path.lexists(final):
        return
    if not final.is_dir():
        raise EdgeDeitError(f"--output {output} is no folder")
    found = sorted(path.relative_to(final).as_posix() for path in final.rglob("*"))
    known = {*_PARTS, FOLDER}
    for name in FILE_NAMES.values():
        known |= {f"{FOLDER}/{name}", f"{FOLDER}/{name}.json"}
    other = [name for name in found if name not in known]
    if found and "config.json" not in found:
        other = other or found
    if other:
        raise EdgeDeitError(
            f"--output {output} holds {other[0]}, which is no part of a folder for Hugging Face's tools "
            "and would be lost; give a new folder"
        )
