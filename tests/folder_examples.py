"""A folder run's input for the ports' command lines, and what NumPy finds in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from golden_examples import golden_file

from edge_deit.metrics.outputs import closeness

__all__ = ["assert_folder_run", "folder_run"]

_PHOTOS = 12
_MISSING = 5
_WRONG = 7


def folder_run(folder: Path, manifest: dict[str, Any]) -> list[Path]:
    """Answers to photos, the manifest and a folder of what a model returned, for the command lines.

    One photo is missing; one has another first answer.
    """
    answers, returned = _logits(len(manifest["labels"]))
    photos = [
        {
            "name": f"cat/{index}.jpg",
            "sha256": "0" * 64,
            "artefact": manifest["artefact"],
            "logits": [float(value) for value in logits],
        }
        for index, logits in enumerate(answers)
    ]
    cases = golden_file(folder / "cases.json", [])
    data = json.loads(cases.read_text(encoding="utf-8")) | {"photos": photos}
    cases.write_text(json.dumps(data), encoding="utf-8")
    described = folder / "manifest.json"
    described.write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "returned/cat").mkdir(parents=True)
    for index, values in enumerate(returned):
        if index != _MISSING:
            values.astype("<f4").tofile(folder / f"returned/cat/{index}.jpg.f32")
    return [cases, described, folder / "returned"]


def _logits(classes: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    answers = random.normal(size=(_PHOTOS, classes)).astype(np.float32)
    returned = answers + random.normal(0, 0.02, answers.shape).astype(np.float32)
    returned[_WRONG] = np.roll(answers[_WRONG], 1)
    return answers, returned


def assert_folder_run(printed: str, manifest: dict[str, Any]) -> None:
    """What a port printed against `edge_deit.metrics`, which `validate` uses."""
    found = json.loads(printed)
    answers, returned = (np.delete(one, _MISSING, 0) for one in _logits(len(manifest["labels"])))
    centred = [one - one.mean(-1, keepdims=True) for one in (answers.astype(float), returned)]
    expected = closeness(*centred, classes=True)
    assert (found["photos"], found["compared"]) == (_PHOTOS, _PHOTOS - 1)
    assert found["same_top"] / found["compared"] == expected.agreement == 10 / 11
    assert abs(found["snr_db"] - expected.snr_db) < 1e-5
    worst = found["worst"][0]
    assert worst["name"] == f"cat/{_WRONG}.jpg"
    assert (
        worst["expected"]
        == manifest["labels"][int(_logits(len(manifest["labels"]))[0][_WRONG].argmax())]
    )
    assert worst["answer"] != worst["expected"]
    assert found["skipped_count"] == 1
    assert found["skipped"][0]["name"] == f"cat/{_MISSING}.jpg"
    assert "cannot be read" in found["skipped"][0]["reason"]
    assert [row["snr_db"] for row in found["worst"]] == sorted(
        row["snr_db"] for row in found["worst"]
    )
