"""Camera frames of the golden cases against the written formula, and answers to a folder's photos."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from edge_deit.common.errors import EdgeDeitError
from edge_deit.mobile.golden import golden_of
from edge_deit.mobile.golden_frames import frame_cases
from edge_deit.mobile.golden_images import hash_pixels

COMMITTED = json.loads((ROOT / "tests/golden/golden_cases.json").read_text(encoding="utf-8"))


def turned(rgb: np.ndarray, turn: int) -> np.ndarray:
    """Pixels of (height, width), turned clockwise one quarter at a time."""
    for _ in range(turn // 90):
        rgb = rgb[::-1].transpose(1, 0, 2)
    return rgb


def converted(case: dict[str, Any]) -> np.ndarray:
    """The frame by the formula of docs/mobile.md, a pixel at a time in Python's whole numbers."""
    black, luma, red_v, green_u, green_v, blue_u = documented_factors()[
        case["matrix"], case["range"]
    ]
    source = case["buffer"]
    if "base64" in source:
        data = base64.b64decode(source["base64"])
    else:
        count, seed = source["hash"]["bytes"], source["hash"]["seed"]
        data = hash_pixels(-(-count // 3), 1, seed, 1).tobytes()[:count]
    rgb = np.zeros((case["height"], case["width"], 3), np.uint8)
    for y, x in np.ndindex(case["height"], case["width"]):
        luma_at, u, v = (
            data[p["offset"] + y // step * p["row_stride"] + x // step * p["pixel_stride"]]
            for p, step in zip(case["planes"], (1, 2, 2), strict=True)
        )
        grey = luma * (luma_at - black) + 32768
        u, v = u - 128, v - 128
        for channel, value in enumerate(
            (grey + red_v * v, grey - green_u * u - green_v * v, grey + blue_u * u)
        ):
            rgb[y, x, channel] = min(max(value >> 16, 0), 255)
    return turned(rgb, case["turn"])


def documented_factors() -> dict[tuple[str, str], list[int]]:
    """The table of docs/mobile.md, which is what a reader ports."""
    text = (ROOT / "docs/mobile.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(bt\d+)`, `(\w+)` \|((?: \d+ \|){6})$", text, re.MULTILINE)
    return {(matrix, range_): [*map(int, re.findall(r"\d+", row))] for matrix, range_, row in rows}


FRAMES = COMMITTED["frames"]


def test_frames_follow_the_written_formula() -> None:
    assert len(documented_factors()) == 4
    for case in FRAMES:
        if case["rgb_sha256"] is not None and case["width"] * case["height"] < 10_000:
            digest = hashlib.sha256(converted(case).tobytes()).hexdigest()
            assert digest == case["rgb_sha256"], case["name"]


def test_the_formula_is_the_standards_to_one_level() -> None:
    """In floating point, with the weights of BT.601 and BT.709, before the whole numbers."""
    y, u, v = np.meshgrid(*(np.arange(0, 256, 5.0),) * 3, indexing="ij")
    for (matrix, range_), numbers in documented_factors().items():
        red, blue = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
        luma = y if range_ == "full" else (y - 16) * 255 / 219
        chroma = 1.0 if range_ == "full" else 255 / 224
        pr, pb = 2 * (1 - red) * chroma * (v - 128), 2 * (1 - blue) * chroma * (u - 128)
        green = luma - (red * pr + blue * pb) / (1 - red - blue)
        exact = [np.clip(one, 0, 255) for one in (luma + pr, green, luma + pb)]
        black, *scaled = (int(number) for number in numbers)
        grey = scaled[0] * (y - black) + 32768
        sums = (
            grey + scaled[1] * (v - 128),
            grey - scaled[2] * (u - 128) - scaled[3] * (v - 128),
            grey + scaled[4] * (u - 128),
        )
        for one, value in zip(exact, sums, strict=True):
            assert np.abs(one - np.clip(np.floor(value / 65536), 0, 255)).max() <= 0.51


def test_committed_frames_are_what_is_made_now() -> None:
    assert [case.to_json() for case in frame_cases()] == FRAMES


def test_frames_cover_what_cameras_deliver() -> None:
    good = [case for case in FRAMES if case["rgb_sha256"] is not None]
    assert len({case["name"] for case in FRAMES}) == len(FRAMES)
    assert {case["turn"] for case in good} == {0, 90, 180, 270}
    assert {(case["matrix"], case["range"]) for case in good} == documented_factors().keys()
    assert {plane["pixel_stride"] for case in good for plane in case["planes"]} >= {1, 2}
    assert any(case["planes"][0]["row_stride"] > case["width"] for case in good)
    assert any(case["planes"][1]["offset"] > case["planes"][2]["offset"] for case in good)  # NV21
    assert any(case["width"] % 2 and case["height"] % 2 for case in good)
    assert len(FRAMES) - len(good) >= 8


# A folder's photos


def test_answers_to_a_folders_photos_are_written(
    photos: Path, tmp_path: Path, exported: Callable[[str], Path]
) -> None:
    artefact = exported("onnx")
    golden_of(artefact, photos=photos, images=6, output=tmp_path)
    cases = json.loads((tmp_path / "golden_cases.json").read_text(encoding="utf-8"))
    answers = cases["photos"]
    assert len(answers) == 6
    for answer in answers:
        data = (photos / answer["name"]).read_bytes()
        assert answer["sha256"] == hashlib.sha256(data).hexdigest()
        assert answer["artefact"] == artefact.name
    first = {case["name"]: case for case in cases["classification"]}[answers[0]["name"]]
    assert first["logits"] == answers[0]["logits"]
    assert first["image"] is None


@pytest.mark.parametrize("arguments", [{"images": 0, "photos": Path()}, {"images": 9}])
def test_a_number_of_photos_that_cannot_be_is_refused(
    arguments: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(EdgeDeitError, match="--images is"):
        golden_of(tmp_path / "a.onnx", output=tmp_path / "golden", **arguments)
    assert not (tmp_path / "golden").exists()
