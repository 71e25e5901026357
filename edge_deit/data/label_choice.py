"""What `--labels` names: the classes of a model that does not name them itself."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.strict_json import parse_json
from edge_deit.common.text import is_one_line
from edge_deit.data.imagenet import imagenet_classes, repeated_names

__all__ = ["IMAGENET", "LabelChoice", "check_lines", "read_label_choice"]

IMAGENET: Final = "imagenet-1k"


@dataclass(frozen=True)
class LabelChoice:
    """What `--labels` said: the classes' names in the order of the model's outputs, and where from."""

    source: str
    names: tuple[str, ...]


def read_label_choice(text: str) -> LabelChoice:
    """What `--labels` names: `imagenet-1k`, a text file with one name a line, or JSON.

    JSON is a list of names, an object from index to name, or one with the key `id2label` (config.json). A
    file is JSON if it is called so, or begins and ends as JSON does.

    Raises:
        EdgeDeitError: no such file, not UTF-8, no names, a gap, or a name twice.
    """
    if text == IMAGENET:
        return LabelChoice(IMAGENET, tuple(one.name for one in imagenet_classes()))
    path = Path(text)
    if not os.path.isfile(path):
        raise EdgeDeitError(f"--labels {text}: no such file; give a file of names, or {IMAGENET}")
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        raise EdgeDeitError(f"--labels {text} is UTF-16 or damaged; save it as UTF-8")
    try:
        content = data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise EdgeDeitError(f"--labels {text} is not UTF-8; save it as UTF-8") from error
    if path.suffix.lower() == ".json" or content[:1] + content[-1:] in ("{}", "[]"):
        names = _from_json(content, text)
    else:
        names = [line.strip() for line in re.split(r"\r\n|\r|\n", content)] if content else []
    return LabelChoice(text, _checked(names, text))


def check_lines(names: Sequence[str], choice: LabelChoice | None) -> None:
    """Refuse a name of several lines, the weights' own or of `choice`: files carry them one a line.

    Raises:
        EdgeDeitError: it names the class.
    """
    where = "the weights call" if choice is None else f"--labels {choice.source} calls"
    for index, name in enumerate(names):
        if not is_one_line(name):
            raise EdgeDeitError(
                f"{where} class {index} {name!r:.60}, which is more than one line; give a file with a name "
                "a line: --labels FILE"
            )


def _from_json(content: str, source: str) -> list[str]:
    try:
        data: Any = parse_json(content)
    except ValueError as error:
        raise EdgeDeitError(f"--labels {source} is no JSON: {error}") from error
    if isinstance(data, dict):
        data = data.get("id2label", data)
    if isinstance(data, dict):
        keys = {str(index) for index in range(len(data))}
        if set(data) != keys:
            raise EdgeDeitError(
                f"--labels {source}: its keys are not the numbers 0 to {len(data) - 1} of the classes"
            )
        data = [data[str(index)] for index in range(len(data))]
    if not isinstance(data, list) or not all(isinstance(name, str) for name in data):
        raise EdgeDeitError(f"--labels {source} is neither a list of names nor index: name")
    return [str(name).strip() for name in data]


def _checked(names: Sequence[str], source: str) -> tuple[str, ...]:
    if not names:
        raise EdgeDeitError(f"--labels {source} is empty; it needs a name for each class")
    for index, name in enumerate(names):
        if not name:
            raise EdgeDeitError(f"--labels {source}: class {index} has no name; give it one")
    for name, places in repeated_names(names).items():
        numbers = ", ".join(map(str, places[:3]))
        raise EdgeDeitError(
            f"--labels {source} calls {len(places)} classes {name!r:.60} ({numbers}); give each a name of "
            "its own"
        )
    return tuple(names)
