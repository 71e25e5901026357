"""A benchmark's result as a file, and the rows of its tables."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import ARM_NOTE, host_line
from tables.grid import Grid, to_markdown
from tables.resizes import resize_grids
from tables.scale import scale_grids

__all__ = ["grids", "read_result", "write_result"]


_KINDS: Final = ("accuracy", "latency", "resizes", "scale")
_ABSENT: Final = "–"  # noqa: RUF001 # an en dash, as tables have it


def read_result(path: Path) -> dict[str, Any]:
    """A result that `accuracy.py`, `latency.py`, `resizes.py` or `scale.py` wrote.

    Raises:
        EdgeDeitError: absent, or not such a file.
    """
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EdgeDeitError(f"{path} is not readable: {error}") from error
    if not isinstance(result, dict) or result.get("kind") not in _KINDS:
        scripts = ", ".join(f"benchmarks/{kind}.py" for kind in _KINDS)
        raise EdgeDeitError(f"{path} is no result of {scripts}")
    return result


def write_result(result: dict[str, Any], path: Path) -> None:
    """Write the JSON and, beside it, its tables as Markdown."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    for file, content in ((path, text), (path.with_suffix(".md"), to_markdown(grids(result)))):
        partial = file.with_name(f"{file.name}.part")
        partial.write_text(content + "\n", encoding="utf-8")
        os.replace(partial, file)


def grids(result: dict[str, Any]) -> list[Grid]:
    """All tables of a result: figures, bars, and how the stock files were made."""
    if result["kind"] == "resizes":
        return resize_grids(result)
    if result["kind"] == "scale":
        return scale_grids(result)
    if result["kind"] == "accuracy":
        tables = [_accuracy(result), _accuracy_bars(result)]
    else:
        tables = [_latency(result), _latency_bars(result)]
    recipes = _recipes(result)
    return [*tables, recipes] if recipes.rows else tables


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return _ABSENT if value is None else f"{value:.{digits}f}{unit}"


def _ratio(ratio: dict[str, float] | None) -> str:
    if ratio is None:
        return _ABSENT
    return f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def _verdict(holds: bool | None, certain: bool | None = True) -> str:
    word = {True: "yes", False: "**no**", None: "not measured"}[holds]
    return word if holds is None or certain else f"{word}, within noise"


def _marked(one: dict[str, Any]) -> str:
    return str(one["name"]) + ("*" if one.get("stand_in") else "")


def _accuracy(result: dict[str, Any]) -> Grid:
    rows = []
    for one in result["artefacts"]:
        drop = _number(one["top1_drop"], 2)
        if one["top1_drop_ci95"]:
            drop += " [{:.2f}, {:.2f}]".format(*one["top1_drop_ci95"])
        rows.append(
            (
                _marked(one),
                _number(_percent(one["agreement"]), 2, " %"),
                _number(one["snr_db"], 1),
                _number(one["cosine"], 5),
                f"{_number(one['top1'], 2)} of {_number(one['top1_float'], 2)}",
                drop,
                f"{_number(one['size_bytes'] / 1e6, 2)} of {_number(one['size_fp32_bytes'] / 1e6, 2)}",
                _number(one["size_ratio"], 3),
            )
        )
    settings = result["settings"]
    stand_ins = {one["stand_in"] for one in result["artefacts"] if one["stand_in"]}
    return Grid(
        f"{result['model']}: {settings['images']} photos against the float model",
        (
            *("artefact", "same argmax", "logit SNR, dB", "worst cosine", "top-1 of float's, %"),
            *("drop, points [95 %]", "MB of fp32 file's", "of fp32"),
        ),
        tuple(rows),
        (
            *(f"\\* {line}" for line in sorted(stand_ins)),
            f"{settings['calibration_images']} photos for ranges, {settings['images']} others for the "
            f"figures; {host_line(result['environment'])}",
        ),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _accuracy_bars(result: dict[str, Any]) -> Grid:
    rows = []
    for bar in result["bars"]:
        figure = f"{_number(bar['value'], bar['digits'])} {bar['unit']}".strip()
        limit = f"{bar['relation']} {bar['limit']:g} {bar['unit']}".strip()
        rows.append((bar["artefact"], bar["figure"], figure, limit, _verdict(bar["holds"])))
    return Grid("Bars", ("artefact", "figure", "value", "limit", "holds"), tuple(rows))


def _latency(result: dict[str, Any]) -> Grid:
    rows = tuple(
        (
            _marked(one),
            _number(one["p50_ms"], 2),
            _number(one["p90_ms"], 2),
            _ratio(one["ratio_to_torch"]),
            _ratio(one["ratio_to_stock"]),
            one["stock"] or _ABSENT,
            _number(one["forward_to_reversed"], 3),
            _number(_percent(one["peak_share"]), 0, " %"),
        )
        for one in result["artefacts"]
    )
    settings, peak = result["settings"], result["peak"]
    best = f"{peak['gflops']:.0f} GFLOP/s at {peak['side']}^3, {settings['threads']} threads"
    return Grid(
        f"{result['model']}: one photo, {settings['threads']} threads, "
        f"{settings['runs']} rounds in each of two passes",
        (
            *("artefact", "p50, ms", "p90, ms", "p50 / torch eager's [95 %]", "/ stock's [95 %]"),
            *("which stock file", "forward / reversed", "of torch.mm's peak"),
        ),
        rows,
        (
            f"Peak: the best float32 torch.mm of several sizes, {best}; share: 2 x "
            f"{result['macs'] / 1e9:.3g} GMAC / p50 / peak.",
            *result["notes"],
            *([ARM_NOTE] if result["environment"]["machine"] in ("x86_64", "AMD64") else []),
            host_line(result["environment"]),
        ),
    )


def _latency_bars(result: dict[str, Any]) -> Grid:
    rows = tuple(
        (
            bar["name"],
            f"{bar['numerator']} / {bar['denominator']}",
            f"{'<' if bar['below'] else '<='} {bar['limit']:g}",
            _ratio(bar["ratio"]),
            f"{_number(bar['forward'], 3)}, {_number(bar['backward'], 3)}",
            _verdict(bar["holds"], bar["certain"]),
        )
        for bar in result["bars"]
    )
    head = ("bar", "measured", "limit", "ratio of p50 [95 %]", "forward, reversed", "holds")
    return Grid("Bars", head, rows)


def _recipes(result: dict[str, Any]) -> Grid:
    rows = tuple(
        (one["name"], one["description"])
        for one in result["artefacts"]
        if one["origin"] != "ours" or "," in one["description"]
    )
    return Grid("How the others were made", ("file", "made by"), rows)
