"""The benchmarks' own arithmetic, and the latency harness on two tiny files."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT, TINY, random_model
from edge_deit.common.errors import EdgeDeitError
from edge_deit.model.config import VARIANTS
from edge_deit.model.deploy import deploy

sys.path.insert(0, str(ROOT / "benchmarks"))

from apple_forms.variants import CHANGES, changed
from clients import compared
from latency import SPEED_BARS, macs
from resizes import compare

from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.exporters import TARGETS, Form
from harness.candidates import Candidate, counterpart, select
from resizing.geometry import Placed, bilinear, middles, nearest, placed
from resizing.ways import WAYS, reference
from tables.accuracy import ACCURACY_BARS, SIZE_LIMIT, judge_accuracy, score
from tables.grid import Grid, insert, to_markdown
from tables.results import grids, read_result
from tables.scale import exponent
from tables.speed import SpeedBar, judge_speed
from toolchains import recipes
from toolchains.recipes import RECIPES, at_hand, find_recipe

# Other people's programs


def test_answers_are_compared_class_by_class() -> None:
    wanted = {"a": [("cat", 0.5), ("hen", 0.25)], "b": [("cat", 0.5), ("hen", 0.25)]}
    found = {"a": [("cat", 0.75), ("dog", 0.25)], "b": [("cat", 0.5), ("hen", 0.25)]}
    assert compared(found, wanted) == ("2 of 2", "1 of 2", "0.25")
    assert compared(wanted, wanted) == ("2 of 2", "2 of 2", "0")
    with pytest.raises(AssertionError):
        compared({"a": found["a"]}, wanted)


# Speed bars


def times(**medians: float) -> dict[str, np.ndarray]:
    return {name.replace("__", "/"): np.full((2, 40), value) for name, value in medians.items()}


def test_a_bar_holds_fails_or_is_not_measured() -> None:
    samples = times(ours__a__int8=2.0, stock__a__x=4.0)
    bar = SpeedBar("a", "ours/a/int8", "stock/a/x", 0.5)
    assert judge_speed(bar, samples).holds is True
    assert judge_speed(replace(bar, limit=0.49), samples).holds is False
    assert judge_speed(replace(bar, below=True), samples).holds is False
    absent = judge_speed(replace(bar, denominator="stock/b/x"), samples)
    assert (absent.holds, absent.ratio, absent.denominator) == (None, None, "stock/b/x")


def test_the_fastest_of_several_counts() -> None:
    samples = times(ours__a__int8=3.0, ours__b__int8_full=2.0, ours__a__fp32=5.0, ours__b__fp32=4.0)
    found = judge_speed(SpeedBar("best", "ours/*/int8*", "ours/*/fp32", 1.0, below=True), samples)
    assert (found.numerator, found.denominator) == ("ours/b/int8_full", "ours/b/fp32")
    assert found.ratio is not None
    assert found.ratio.value == 0.5


def test_passes_are_shown_apart_and_doubt_is_said() -> None:
    slow_first = np.stack([np.full(40, 3.0), np.full(40, 1.0)])
    samples = {"a": slow_first, "b": np.full((2, 40), 2.0)}
    found = judge_speed(SpeedBar("x", "a", "b", 1.0), samples)
    assert (found.forward, found.backward) == (1.5, 0.5)
    assert found.certain is False


def test_every_bar_names_something_that_can_be_made() -> None:
    made = {f"stock/{recipe.target}/{recipe.recipe}" for recipe in RECIPES} | {"torch/eager/fp32"}
    for bar in SPEED_BARS:
        origin, target, what = bar.denominator.split("/")
        assert bar.denominator in made or (origin, target, what) == ("ours", "*", "fp32"), bar
        assert bar.numerator.split("/")[1] in {*TARGETS, "*"}, bar
        assert 0 < bar.limit <= 1, bar


def test_macs_of_the_published_variants() -> None:
    """Touvron et al., arXiv 2012.12877, name 1.3, 4.6 and 17.6 billion FLOPs (here: MACs) at 224."""
    found = [macs(VARIANTS[name]) / 1e9 for name in ("deit_tiny", "deit_small", "deit_base")]
    assert found == pytest.approx([1.3, 4.6, 17.6], rel=0.05)
    by_hand = 16 * 768 * 64 + 2 * (17 * 64 * 4 * 64 + 2 * 17 * 17 * 64 + 2 * 17 * 64 * 128) + 640
    assert macs(TINY) == by_hand


# Accuracy


def test_score_by_hand() -> None:
    reference = np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    logits = reference.copy()
    logits[0] = [0.0, 2.0]
    found = score(reference, logits, np.array([0, 1, 1, 0]))
    assert found["agreement"] == 0.75
    assert (found["top1_float"], found["top1"], found["top1_drop"]) == (75.0, 50.0, 25.0)
    assert found["snr_db"] == pytest.approx(10 * np.log10(16 / 8))
    low, high = found["top1_drop_ci95"]
    assert low <= 25.0 <= high


def row(name: str, **changed: Any) -> dict[str, Any]:
    good = {"agreement": 1.0, "snr_db": 40.0, "top1_drop": 0.0, "size_ratio": 0.27}
    return {"name": name, **good, **changed}


def test_accuracy_bars_figure_by_figure() -> None:
    rows = [row("ours/onnx/int8"), row("ours/tflite/int8", snr_db=21.9, top1_drop=0.71)]
    verdicts = {(v["artefact"], v["figure"]): v["holds"] for v in judge_accuracy(rows)}
    assert all(verdicts["ours/onnx/int8", f] for f in ("same argmax", "logit SNR", "top-1 drop"))
    assert verdicts["ours/tflite/int8", "logit SNR"] is False
    assert verdicts["ours/tflite/int8", "top-1 drop"] is False
    assert verdicts["ours/coreml/int8", "logit SNR"] is None
    assert len(verdicts) == 4 * sum(len(bar.targets) for bar in ACCURACY_BARS)
    (size,) = [v["limit"] for v in judge_accuracy([row("ours/onnx/int8")]) if v["value"] == 0.27]
    assert size == SIZE_LIMIT


# Cost against photos and size


def test_an_exponent_by_hand() -> None:
    assert exponent([1000, 4000, 16000], [2.0, 4.0, 8.0]) == 0.5
    assert exponent([10, 20, 40], [7.0, 7.0, 7.0]) == 0.0
    assert exponent([10, 10], [1.0, 2.0]) is None


def test_tables_of_cost() -> None:
    one = {"photos": 1000, "seconds": 20.0, "runner_seconds": 19.0, "parameters": 10**6}
    one |= {"peak_bytes": 2 * 10**8, "journal_bytes": 700_000}
    four = {**one, "photos": 4000, "seconds": 80.0, "runner_seconds": 74.0, "parameters": 4 * 10**6}
    settings = {"threads": 1, "workers": 2, "models": ["deit_tiny"], "image_size": 224}
    host = {"cpu": "X", "cores": 2, "vnni": False, "load_average": [0, 0, 0], "versions": {}}
    models = [{"model": "a", **one}, {"model": "b", **four, "photos": 1000}]
    result = {"kind": "scale", "host": host, "settings": settings, "photos": [one, four]}
    text = to_markdown(grids({**result, "models": models}))
    assert "| 4000 | 80 | 20.0 | 0.925 | 200 | 175 |" in text
    assert "Time grows with photos to the power of 1.00, peak memory to that of 0.00." in text
    assert "| b | 4.0 | 1000 | 80 | 0.925 | 200 |" in text
    assert "Time grows with parameters to the power of 1.00" in text


# Candidates and recipes


def candidate(name: str, precision: str) -> Candidate:
    origin, target, _ = name.split("/")
    return Candidate(name, origin, target, precision, Path(name), "", "", 1)  # type: ignore[arg-type]


def test_counterpart_is_the_stock_file_of_the_same_precision() -> None:
    stock = [
        candidate(f"stock/{recipe.target}/{recipe.recipe}", recipe.precision) for recipe in RECIPES
    ]
    expected = {
        ("executorch", "int8"): "static",
        ("tflite", "int8"): "static_wi8_ai8",
        ("tflite", "int8-full"): "static_wi8_ai8",
        ("onnx", "int8"): "quantize_static",
        ("onnx", "fp32"): "float",
        ("coreml", "fp16"): "float16",
    }
    for (target, precision), recipe in expected.items():
        found = counterpart(candidate(f"ours/{target}/{precision}", precision), stock)
        assert found is not None
        assert found.name == f"stock/{target}/{recipe}"
    assert counterpart(candidate("ours/onnx/int8-full", "int8-full"), stock) is None


def test_only_refuses_what_fits_nothing() -> None:
    found = [candidate("ours/onnx/int8", "int8"), candidate("ours/onnx/fp32", "fp32")]
    assert [one.name for one in select(found, ["*/int8"])] == ["ours/onnx/int8"]
    with pytest.raises(EdgeDeitError, match="ours/onnx/fp32"):
        select(found, ["*/int4"])


def test_recipes_have_names_of_their_own() -> None:
    assert len({recipe.name for recipe in RECIPES}) == len(RECIPES)
    assert len({recipe.file_name for recipe in RECIPES}) == len(RECIPES)
    assert {recipe.target for recipe in RECIPES} == set(TARGETS)
    with pytest.raises(EdgeDeitError, match=r"onnx\.quantize_static"):
        find_recipe("onnx.int4")


def test_a_recipe_whose_package_is_absent_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = find_recipe("coreai.static")
    assert recipe.needs == ("coreai-opt", "0.4.0")
    for found in (None, "0.5.0", "0.4.0"):
        monkeypatch.setattr(recipes, "version_of", lambda name, found=found: found)
        able = found == "0.4.0"
        assert (recipe in at_hand(), recipe.remedy is None) == (able, able)
        assert able or "--no-deps coreai-opt==0.4.0 ninja" in str(recipe.remedy)
        assert find_recipe("coreai.float32") in at_hand()


# Forms for Apple's processors


@pytest.mark.parametrize("changes", [(), *((one,) for one in CHANGES), CHANGES[:2], CHANGES[::2]])
@pytest.mark.parametrize("layout", ["cpu", "ane"])
def test_whole_norms_and_single_heads_are_the_same_function(
    layout: Form, changes: tuple[str, ...]
) -> None:
    if layout == "cpu" and "keys first" in changes:
        pytest.skip("channels stand last: there is no axis of keys to turn first")
    model = random_model(replace(TINY, num_heads=2))
    form = deploy(model)
    made, pixels = changed(form, layout, changes), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(made(pixels), model(pixels), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(form(pixels), model(pixels), rtol=1e-4, atol=1e-5)
    norms = [name for name, _ in made.named_modules() if name.endswith("mean_square")]
    assert bool(norms) == ("norms" not in changes)
    graph = str(torch.export.export(made, (pixels,)).graph)
    blocks = len(form.blocks)
    assert graph.count("aten.softmax") == blocks * (2 if changes not in ((), ("norms",)) else 1)
    assert graph.count("aten.layer_norm") == (2 * blocks + 1 if "norms" in changes else 0)


# Markdown


def test_markdown_of_a_table() -> None:
    grid = Grid("T", ("artefact", "ms"), (("a|b", "1.0"), ("c", "2.0")), ("note",))
    lines = to_markdown([grid]).splitlines()
    assert lines[2:6] == ["| artefact | ms |", "|---|---:|", "| a\\|b | 1.0 |", "| c | 2.0 |"]
    assert lines[-1] == "note"


def test_insert_needs_its_marks_once() -> None:
    document = "a\n<!-- latency -->\nold\n<!-- /latency -->\nb\n"
    once = insert(document, "latency", "| 1 |")
    assert "old" not in once
    assert insert(once, "latency", "| 1 |") == once
    for wrong in ("nothing", document + document):
        with pytest.raises(EdgeDeitError, match="latency"):
            insert(wrong, "latency", "x")


@pytest.mark.parametrize("text", ["", "[1]", '{"kind": "speed"}'])
def test_a_file_that_is_no_result_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(EdgeDeitError, match=r"x\.json"):
        read_result(path)


def test_the_document_has_the_marks_that_the_tables_go_between() -> None:
    document = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    for kind in ("accuracy", "latency"):
        assert "figures" in insert(document, kind, "figures")


# The harness


def benchmark(script: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_latency_of_two_tiny_files(tiny_weights: Path, photos: Path, tmp_path: Path) -> None:
    common = ("--weights", tiny_weights, "--calibration", photos)
    ours, stock = tmp_path / "ours", tmp_path / "stock"
    export = ("-m", "edge_deit.export", "--target", "onnx", "--precision", "fp32", *common)
    subprocess.run(
        [sys.executable, *map(str, (*export, "--output", ours))],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    benchmark("stock.py", *common, "--only", "onnx.float", "--output", stock)
    written = stock / "stock.float.onnx"
    before = written.stat().st_mtime_ns
    benchmark("stock.py", *common, "--only", "onnx.float", "--output", stock)
    assert written.stat().st_mtime_ns == before, "made again although nothing had changed"
    folders = ("--ours", ours, "--stock", stock, "--weights", tiny_weights, "--output", tmp_path)
    benchmark("latency.py", *folders, "--runs", 40, "--pause-ms", 1, "--threads", 1)
    result = json.loads((tmp_path / "latency.json").read_text(encoding="utf-8"))
    names = [one["name"] for one in result["artefacts"]]
    assert names == ["torch/eager/fp32", "ours/onnx/fp32", "stock/onnx/float"]
    for one in result["artefacts"]:
        assert np.array(one["samples_ms"]).shape == (2, 40)
        assert one["p50_ms"] <= one["p90_ms"]
        assert 0 < one["peak_share"] < 1.5
    holds = {bar["name"]: bar["holds"] for bar in result["bars"]}
    assert holds["LiteRT int8"] is None
    assert holds["ONNX Runtime fp32"] in (True, False)
    text = to_markdown(grids(result))
    assert (tmp_path / "latency.md").read_text(encoding="utf-8") == text + "\n"
    assert "| ours/onnx/fp32 |" in text


SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_runs_by_its_path(script: str) -> None:
    """Its own folder is the first place for imports, so `harness`, `tables` and `toolchains` are found."""
    text = benchmark(script, "--help")
    assert "Usage" in text
    assert script in text


# Resizes


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (249, 251), (90, 1000), (224, 224)])
@pytest.mark.parametrize("rounding", ["half-even", "floor"])
def test_squares_lie_where_the_reference_has_them(size: tuple[int, int], rounding: Any) -> None:
    """Pillow's nearest pixel, under the reference preprocessing, is the formula's, but for ties."""
    spec = PreprocessSpec(crop_rounding=rounding, resize_size=248, resample="nearest")
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    to = placed(size[1], size[0], spec)
    rows = middles(size[0], to.height, to.top, to.crop)
    columns = middles(size[1], to.width, to.left, to.crop)
    clear = [np.abs(places - places.round()) > 1e-9 for places in (rows, columns)]
    assert min(map(np.mean, clear)) > 0.9
    differs = (nearest(photo, to) != reference(photo, spec)).any(2)
    assert not differs[np.ix_(*clear)].any()


def test_bilinear_by_hand() -> None:
    row = np.array([0, 30, 90, 255], np.uint8)
    photo = np.stack([row] * 4)[..., None].repeat(3, axis=2)
    half = Placed(2, 2, 0, 0, 2)
    assert bilinear(photo, half)[0, :, 0].tolist() == [15, 173]  # between 0 and 30, 90 and 255
    assert bilinear(photo, half, corners=True)[0, :, 0].tolist() == [0, 90]
    third = Placed(3, 3, 0, 0, 3)  # middles at 1/6, 3/2, 17/6; in quarters at 1/4, 3/2, 11/4
    assert bilinear(photo, third)[0, :, 0].tolist() == [5, 60, 228]
    assert bilinear(photo, third, steps=4)[0, :, 0].tolist() == [8, 60, 214]
    assert bilinear(photo, Placed(8, 8, 6, 6, 2))[:, 0, 0].tolist() == [214, 214]


def test_other_sizes_than_the_short_sides_are_refused() -> None:
    for spec in (PreprocessSpec("exact", 224, 224), PreprocessSpec(resize_size=200)):
        with pytest.raises(EdgeDeitError, match="scale the short side"):
            placed(10, 10, spec)


def test_answers_are_compared_up_to_a_constant() -> None:
    own = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    same = compare(own, own + 3.0, np.array([0, 0]))
    assert (same["same_answer"], same["same_five"], same["top1"]) == (1.0, 1.0, 0.5)
    assert same["score_max"] < 1e-12
    assert same["snr_db"] > 150
    other = np.log(np.array([[0.5, 0.25, 0.25], [0.7, 0.2, 0.1]]))
    found = compare(own, other, np.array([0, 0]))
    assert (found["same_answer"], found["same_five"], found["top1"]) == (0.5, 0.5, 1.0)
    assert found["score_mean"] == pytest.approx(0.3)
    assert found["score_max"] == pytest.approx(0.6)


def test_the_tables_of_resizes_name_every_way() -> None:
    one = compare(np.eye(3), np.eye(3)[::-1].copy(), np.arange(3))
    files = {"a.onnx": {way.name: one for way in WAYS}}
    result = {"kind": "resizes", "photos": 3, "chromium": "C 1", "files": files}
    made, legend = grids({**result, "canvas_qualities_differ": False})
    assert [row[0] for row in made.rows] == [row[0] for row in legend.rows]
    assert made.rows[0][1] == "33.3 %"
    assert "drawn by C 1" in to_markdown([legend])
    assert "the others drew the same bytes" in legend.notes[0]
