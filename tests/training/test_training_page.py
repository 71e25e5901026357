"""training.html: its figures, that it needs nothing else, and that a browser shows it at any width."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install 'edge-deit[report]'")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: see above")

import edge_deit.training.result as result_module
from edge_deit.common.progress import Silent
from edge_deit.training.log import Log
from edge_deit.training.measure import Measured
from edge_deit.training.page import MOST_CLASSES, Story, write_training_page
from edge_deit.training.recipe import Recipe
from edge_deit.training.run import finetune_model

NASTY = '<b>&"x"\x1b'


def story(
    classes: int = 3, epochs: int = 3, *, val: bool = True, test: float | None = 0.5
) -> Story:
    """Class i is right i + 1 times in the second epoch, which is the best, and wrong twice as class 0."""
    log = Log()
    for epoch in range(1, epochs + 1):
        log.hear(2.0 / epoch, 10, 5.0)
        counts = torch.diag(torch.arange(1, classes + 1) * (2 if epoch == 2 else 1)).int()
        counts[1:, 0] += 2
        log.close(epoch, 4 * epoch, 1e-4, Measured(1.0 / epoch, counts) if val else None)
    labels = tuple(NASTY if index == 1 else f"class {index}" for index in range(classes))
    return Story(log, labels, Recipe(epochs=epochs), 4 * epochs, 10, "cpu, float32", 8, test)


def page(tmp_path: Path, told: Story) -> str:
    path = tmp_path / "training.html"
    write_training_page(path, told)
    return path.read_text(encoding="utf-8")


def test_figures_by_hand(tmp_path: Path) -> None:
    text = page(tmp_path, story())
    assert "<h1>75.0 % top-1 in validation, epoch 2; 3 classes, 3 epochs</h1>" in text  # 12 of 16
    assert "75.00&nbsp;% of 16 photos. They chose the epoch" in text
    assert "Test: 50.00&nbsp;% of 8 photos, measured once" in text
    rows = re.findall(r'<tr><th scope="row"[^>]*>(.*?)</th>(.*?)</tr>', text)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for _, row in rows]
    assert cells[:3] == [["2", "", ""], ["2", "4", ""], ["2", "", "6"]]
    assert cells[3:6] == [
        ["6", "4", "66.7 %", "class 0 (2)"],
        ["8", "6", "75.0 %", "class 0 (2)"],
        ["2", "2", "100.0 %", ""],
    ]
    assert 'style="background: color-mix(in srgb, var(--series-1) 15%, transparent)">2<' in text
    assert text.count("kept</span>") == 1
    assert cells[7][-2] == "75.00&nbsp;%"


def test_one_step_is_a_mark_and_one_is_singular(tmp_path: Path) -> None:
    told = story(epochs=1, val=False, test=None)
    row = replace(told.log.rows[0], step=1, learning_rate=5e-4)
    log = Log(rows=[row])
    text = page(tmp_path, replace(told, log=log, steps=1))
    assert "<h1>Trained on 10 photos, 3 classes, 1 epoch</h1>" in text
    assert "; 1 step on cpu" in text
    plot = text.partition('id="plot-rate"')[2].partition("</figure>")[0]
    assert re.search(r"<use [^>]*var\(--series-2\)", plot)


def test_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    text = page(tmp_path, story())
    assert "<b>" not in text
    assert "\x1b" not in text
    assert "&lt;b&gt;&amp;&#34;x&#34;\\x1b" in text


def test_without_validation_there_is_no_accuracy(tmp_path: Path) -> None:
    text = page(tmp_path, story(val=False, test=None))
    assert "<h1>Trained on 10 photos, 3 classes, 3 epochs</h1>" in text
    assert re.findall(r'<figure id="plot-(\w+)"', text) == ["loss", "rate"]
    assert "What is taken for what" not in text


def test_many_classes_have_tables_and_no_matrix(tmp_path: Path) -> None:
    text = page(tmp_path, story(classes=MOST_CLASSES + 1))
    assert 'class="confusion"' not in text
    assert "20 of 25." in text
    assert 'class="confusion"' in page(tmp_path, story(classes=MOST_CLASSES))


def test_it_needs_nothing_else(tmp_path: Path) -> None:
    text = page(tmp_path, story())
    assert "<script" not in text
    found = re.findall(r'(?:src|href|xlink:href)="([^"]*)"', text)
    assert [one for one in found if not one.startswith(("data:", "#"))] == []
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_without_the_packages_the_weights_are_written_and_a_line_says_why(
    photos: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []

    class Heard(Silent):
        def note(self, line: str) -> None:
            lines.append(line)

    monkeypatch.setattr(result_module, "no_html", lambda page: f"{page} needs jinja2")
    done = finetune_model(
        photos, tmp_path, weights=str(tiny_weights), recipe=Recipe(epochs=0.1), workers=0,
        progress=Heard(),
    )  # fmt: skip
    assert done.page is None
    assert "training.html needs jinja2" in lines
    assert (tmp_path / "model.safetensors").is_file()
    assert not (tmp_path / "training.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("width_px", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it(scheme: str, width_px: int, tmp_path: Path) -> None:
    browser = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium is installed: training.html was NOT seen by a browser")
    text = page(tmp_path, story(classes=MOST_CLASSES))
    if scheme == "dark":
        text = text.replace("(prefers-color-scheme: dark)", "all")
    probe = (
        "const seen = document.getElementById('frame').contentDocument;"
        "const box = one => one.getBoundingClientRect();"
        "const back = one => seen.defaultView.getComputedStyle(one).backgroundColor;"
        "document.getElementById('probe').textContent = JSON.stringify({"
        "width: seen.documentElement.scrollWidth,"
        "plots: [...seen.querySelectorAll('figure svg')].map(one => box(one).width),"
        "paper: back(seen.body),"
        "cell: back(seen.querySelector('.confusion td[style]')),"
        "requests: seen.defaultView.performance.getEntriesByType('resource').length});"
    )
    path = tmp_path / "frame.html"
    path.write_text(
        f'<!DOCTYPE html><iframe id="frame" style="border:0;width:{width_px}px;height:800px" '
        f'srcdoc="{html.escape(text)}"></iframe><pre id="probe"></pre>'
        f'<script>addEventListener("load", () => {{{probe}}});</script>',
        encoding="utf-8",
    )
    done = subprocess.run(
        [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--hide-scrollbars",
            "--virtual-time-budget=5000", "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri(),
        ],
        capture_output=True, text=True, timeout=180, check=True,
    )  # fmt: skip
    found = re.search(r'<pre id="probe">(.+?)</pre>', done.stdout, re.S)
    assert found, "the probe wrote nothing"
    seen = json.loads(html.unescape(found[1]))
    assert seen["width"] == width_px
    assert seen["requests"] == 0
    assert len(seen["plots"]) == 3
    assert min(seen["plots"]) > 250
    assert ("20, 22, 26" in seen["paper"]) == (scheme == "dark")
    assert "color" in seen["cell"] or "rgb" in seen["cell"]
    assert seen["cell"] != "rgba(0, 0, 0, 0)"
