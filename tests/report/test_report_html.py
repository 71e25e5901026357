"""report.html: what it holds, and that a browser shows it, alone, in light and dark, on a phone."""

from __future__ import annotations

import base64
import functools
import html
import io
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from report_examples import (
    ARM64,
    EXAMPLES,
    IPHONE,
    NASTY,
    PHONE,
    STAND_IN,
    artefact,
    check,
    report,
    without_labels,
    without_latency,
)

pytest.importorskip("jinja2", reason="jinja2 is not installed: pip install 'edge-deit[report]'")
pytest.importorskip("matplotlib", reason="matplotlib is not installed: see above")

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import ARM_NOTE
from edge_deit.report.html import MOST_FLIPS, THUMBNAIL_PX, write_html
from edge_deit.report.plots import WORST_CLASSES, class_losses, plots
from edge_deit.report.report import ClassResult, Flip, Report
from edge_deit.report.verdict import Verdict

PLOTS = ("drop", "latency", "layers", "classes", "scatter")


class Page(HTMLParser):
    """Tags with their attributes, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.parts: list[str] = []
        self.hidden = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.hidden += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag == "style"

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    def all(self, tag: str, name: str) -> list[str]:
        return [str(found[name]) for kind, found in self.tags if kind == tag and name in found]


def page(
    tmp_path: Path, found: Report, *, root: Path | None = None, verdict: Verdict | None = None
) -> str:
    path = tmp_path / "report.html"
    write_html(found, path, data_root=root, verdict=verdict)
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def full(photos: Path | None = None) -> Report:
    """Every kind of artefact at once."""
    flips = tuple(
        Flip(f"{label}/{i}.png", label, "cat", 0.6, "dog", 0.5, "lost")
        for label in ("cat", "dog")
        for i in range(8)
    )
    return report(
        artefact(
            flips=flips if photos else (), flips_total=16, device=(PHONE, IPHONE), arm64=ARM64
        ),
        artefact(path="out/deit_tiny.int8-dynamic.onnx", precision="int8-dynamic", flips=()),
        without_latency(target="coreml", precision="fp16", flips=()),
        without_labels(path="out/" + "long-name-" * 20 + ".pte", flips=(), scatter=()),
    )


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The page of one of the examples, written once."""
    return functools.cache(lambda name: page(tmp_path_factory.mktemp("page"), EXAMPLES[name]()))


# What the page holds


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_needs_nothing_else(name: str, example: Callable[[str], str]) -> None:
    text = example(name)
    found = Page(text)
    assert "script" not in {tag for tag, _ in found.tags}
    links = [
        str(value)
        for _, attributes in found.tags
        for key, value in attributes.items()
        if key in ("src", "href", "xlink:href", "srcset", "action", "data", "poster")
    ]
    assert [link for link in links if not link.startswith(("data:", "#"))] == []
    assert re.findall(r"@import|url\((?!#)", text) == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_ids_are_unique_and_references_resolve(name: str, example: Callable[[str], str]) -> None:
    text = example(name)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    named = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert named - set(ids) == set()


def test_the_same_report_gives_the_same_bytes(tmp_path: Path, photos: Path) -> None:
    first = page(tmp_path, full(photos), root=photos)
    assert page(tmp_path, full(photos), root=photos) == first


def test_matplotlib_is_left_as_it_was_and_cannot_change_the_plots() -> None:
    import matplotlib

    before = plots(full())
    with matplotlib.rc_context({"lines.markersize": 30, "svg.fonttype": "path"}):
        assert plots(full()) == before
        assert matplotlib.rcParams["lines.markersize"] == 30


def test_plots_take_their_colours_from_the_page() -> None:
    for plot in plots(full()):
        assert plot.svg is not None
        assert re.findall(r"#[0-9a-f]{6}\b", plot.svg) == []
        assert "var(--ink)" in plot.svg
        assert "<text" in plot.svg


def test_style_sheet_defines_every_colour_twice(tmp_path: Path) -> None:
    text = page(tmp_path, report(*(artefact(precision=f"p{i}") for i in range(8))))
    for name in set(re.findall(r"var\((--[\w-]+)\)", text)):
        assert len(re.findall(rf"{name}: #", text)) >= 2, name


def test_dollar_signs_in_names_are_no_formulas() -> None:
    assert ">$a$ x.bin<" in str(plots(report(artefact(path="out/$a$ x.bin")))[0].svg)


def test_every_plot_has_words_for_those_who_cannot_see_it() -> None:
    labels = [re.search(r'aria-label="([^"]+)"', plot.svg or "") for plot in plots(full())]
    assert all(labels)
    assert "deit_tiny.int8.tflite 0.3 (-0.7 to 1.7)" in str(labels[0] and labels[0][1])


def test_no_control_character_reaches_the_page(tmp_path: Path) -> None:
    """Names stand in text, in attributes and in the words for plots."""
    odd = "\x1b[31mred\x07\u202e"
    one = artefact(
        path=f"out/{odd}.tflite",
        classes=(ClassResult(odd, 9, 8, 2), ClassResult("dog", 9, 8, 8)),
        flips=(Flip(f"{odd}.png", odd, odd, 0.6, "dog", 0.5, "lost"),),
        worst_image=odd,
    )
    text = page(tmp_path, report(one))
    assert "\\x1b[31mred\\x07" in text
    assert {c for c in text if unicodedata.category(c) in ("Cc", "Cf")} <= {"\n", "\t"}


def test_nothing_to_draw_says_why() -> None:
    bare = without_labels(
        layers=None,
        scatter=(),
        latency_ms_p50=None,
        notes=without_labels().notes | {"layers": "no graph", "latency_ms_p50": "no runtime"},
    )
    found = {plot.name: plot for plot in plots(report(bare))}
    assert [name for name, plot in found.items() if plot.svg] == []
    assert tuple(found) == PLOTS
    assert "the photos have no labels" in found["drop"].caption
    assert "no runtime" in found["latency"].caption
    assert "no graph" in found["layers"].caption


def test_names_are_escaped(tmp_path: Path) -> None:
    found = Page(
        page(tmp_path, EXAMPLES["nasty names"](), verdict=Verdict((check("failed", NASTY),)))
    )
    assert "b" not in {tag for tag, _ in found.tags}
    assert found.text.count(NASTY) >= 8
    (placeholder,) = [one for one in found.parts if one == "no photo folder given"]
    assert placeholder


def test_null_figures_have_a_dash_and_their_reason(tmp_path: Path) -> None:
    text = page(tmp_path, report(without_labels()))
    assert '<span class="value">\N{EN DASH}<sup>1</sup></span>' in text
    assert "<li>the photos have no labels</li>" in text


def test_the_stand_in_is_shown(tmp_path: Path) -> None:
    text = page(tmp_path, report(without_latency()))
    assert f'<span class="tag stand-in">{STAND_IN}</span>' in text
    assert f"latency not measured here ({STAND_IN})." in Page(text).text
    assert "stand-in" not in page(tmp_path, report(artefact())).partition("</style>")[2]


def test_arm_note_stands_beside_latencies_of_other_machines(tmp_path: Path) -> None:
    assert page(tmp_path, report(artefact())).count(ARM_NOTE) == 2
    assert ARM_NOTE not in page(tmp_path, report(without_latency()))
    on_arm = report(artefact(), environment={"machine": "arm64"})
    assert ARM_NOTE not in page(tmp_path, on_arm)


def test_phones_and_emulated_cores(tmp_path: Path) -> None:
    text = Page(page(tmp_path, full())).text
    assert "Maker Phone 9, Android 16, 8 cores" in text
    assert "this phone does not tell" in text
    assert text.count("Core ML's plan") == 1
    assert (
        "Neural Engine 240 of 252 operators (97.0 % of the cost), CPU 12 (3.0 % of the cost)"
        in text
    )
    assert "Instructions on an emulated core" in text
    assert "A count is not a time" in text
    assert "184 M" in text
    assert "integer dot products 33 %" in text
    alone = Page(page(tmp_path, report(artefact()))).text
    assert "emulated" not in alone
    assert "phones" not in alone.replace(ARM_NOTE, "")


@pytest.mark.parametrize("status", ["passed", "failed", "error"])
def test_verdict_on_top(status: str, tmp_path: Path) -> None:
    text = page(tmp_path, report(artefact()), verdict=Verdict((check(status),)))
    assert f'<section class="verdict {status}"' in text
    top = Page(text[: text.index("</section>")]).text
    assert ("it failed" in top, "it error" in top) == (status == "failed", status == "error")
    assert "12.0" in text


def test_without_a_gate_the_top_says_what_was_lost(tmp_path: Path) -> None:
    text = page(tmp_path, report(artefact(), without_latency()))
    top = Page(text[: text.index("</section>")]).text
    assert "loses 0.3 points of top-1 (95 %: \N{MINUS SIGN}0.7 to 1.7)" in top
    assert top.count("points of top-1") == 2


def test_hashes_environment_and_broken_photos_are_at_the_foot(tmp_path: Path) -> None:
    found = EXAMPLES["nasty names"]()
    text = page(tmp_path, found)
    foot = Page(text[text.index("<footer>") :]).text
    for expected in ("A processor", "avx2", "a" * 64, "b" * 64, "d" * 64, NASTY):
        assert expected in foot


# Classes


def test_class_losses_are_sorted_and_counted_in_points() -> None:
    first = artefact(classes=(ClassResult("a", 4, 4, 3), ClassResult("b", 2, 1, 2)))
    second = artefact(classes=(ClassResult("b", 2, 2, 0), ClassResult("none", 0, 0, 0)))
    assert class_losses([first, second]) == [("b", 2, [-50.0, 100.0]), ("a", 4, [25.0, 0.0])]


def test_a_thousand_classes_show_the_worst(tmp_path: Path) -> None:
    classes = tuple(ClassResult(f"class {i}", 100, 100, 100 - i % 50) for i in range(1000))
    (plot,) = [one for one in plots(report(artefact(classes=classes))) if one.name == "classes"]
    assert plot.svg is not None
    shown = set(re.findall(r">class (\d+) \(100\)<", plot.svg))
    assert shown == {str(50 * i + 49) for i in range(WORST_CLASSES)}
    assert "980 of 1000 classes" in plot.caption


# Thumbnails


def test_thumbnails_are_small_jpegs(tmp_path: Path, photos: Path) -> None:
    found = Page(page(tmp_path, full(photos), root=photos))
    images = found.all("img", "src")
    assert len(images) == 16
    for source in images:
        data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"), validate=True)
        with Image.open(io.BytesIO(data)) as image:
            assert image.format == "JPEG"
            assert image.size == (90, 70), "already small enough"
    assert found.all("img", "alt")[0] == "photo cat/0.png"


def test_a_large_photo_becomes_small(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    (root / "cat").mkdir(parents=True)
    Image.new("RGB", (300, 200)).save(root / "cat" / "0.png")
    output = tmp_path / "output"
    output.mkdir()
    (source,) = Page(page(output, report(artefact()), root=root)).all("img", "src")
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as image:
        assert image.size == (THUMBNAIL_PX, 64)


def test_at_most_so_many_photos_are_shown(tmp_path: Path, photos: Path) -> None:
    flips = tuple(Flip("cat/0.png", None, "cat", 0.6, "dog", 0.5, "other") for _ in range(40))
    text = page(tmp_path, report(artefact(flips=flips, flips_total=57)), root=photos)
    assert len(Page(text).all("img", "src")) == MOST_FLIPS
    assert f"{MOST_FLIPS} of 57 shown." in text


@pytest.mark.parametrize(
    ("file", "instead"),
    [
        ("gone.png", "photo not found"),
        ("../secret.png", "not in the photo folder"),
        ("/etc/hostname", "not in the photo folder"),
        ("broken.png", "photo cannot be read"),
    ],
)
def test_a_photo_that_is_not_there(file: str, instead: str, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    (root / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    flip = Flip(file, None, "cat", 0.6, "dog", 0.5, "other")
    output = tmp_path / "output"
    output.mkdir()
    found = Page(page(output, report(artefact(flips=(flip,))), root=root))
    assert found.all("img", "src") == []
    assert instead in found.text


@pytest.mark.parametrize("name", ["jinja2", "matplotlib"])
def test_a_missing_package_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EdgeDeitError, match=rf"{name}.*pip install 'edge-deit\[report\]'"):
        write_html(report(artefact()), tmp_path / "report.html", data_root=None)
    assert list(tmp_path.iterdir()) == []


# In a browser

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_PROBE = """
const seen = document.getElementById("frame").contentDocument;
seen.querySelectorAll("details").forEach(one => { one.open = true; });
const plots = {};
for (const one of seen.querySelectorAll("figure")) {
  const svg = one.querySelector("svg");
  const box = svg ? svg.getBoundingClientRect() : { width: 0, height: 0 };
  plots[one.id] = svg ? [box.width, box.height, svg.querySelectorAll("path").length] : null;
}
const view = seen.defaultView;
const colour = (query, what) => view.getComputedStyle(seen.querySelector(query))[what];
document.getElementById("probe").textContent = JSON.stringify({
  width: seen.documentElement.scrollWidth,
  plots: plots,
  requests: view.performance.getEntriesByType("resource").map(one => one.name),
  images: [...seen.images].map(one => one.naturalWidth),
  paper: colour("body", "backgroundColor"),
  ink: colour("body", "color"),
  muted: colour(".kicker", "color"),
  text: colour("svg text", "fill"),
});
"""


@pytest.fixture(scope="session")
def browser() -> str:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(
            f"none of {', '.join(_BROWSERS)} is installed: report.html was NOT seen by a browser"
        )
    return found


def browse(browser: str, path: Path) -> tuple[str, list[str]]:
    """The document after loading, and the console's messages; nothing outside can be reached."""
    options = (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        "--enable-logging=stderr",
        *("--virtual-time-budget=5000", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *(
            "--disable-background-networking",
            "--no-first-run",
            f"--user-data-dir={path.parent / 'profile'}",
        ),
    )
    done = subprocess.run(
        [browser, *options, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    return done.stdout, re.findall(r".*:CONSOLE.*", done.stderr)


def probe(browser: str, tmp_path: Path, page_text: str, width_px: int) -> dict[str, Any]:
    """What a frame of this width shows of the page."""
    frame = (
        f'<!DOCTYPE html><iframe id="frame" style="border:0;width:{width_px}px;height:800px" '
        f'srcdoc="{html.escape(page_text)}"></iframe><pre id="probe"></pre>'
        f'<script>addEventListener("load", () => {{{_PROBE}}});</script>'
    )
    path = tmp_path / "frame.html"
    path.write_text(frame, encoding="utf-8")
    document, messages = browse(browser, path)
    assert messages == []
    written = re.search(r'<pre id="probe">(.+?)</pre>', document, re.S)
    assert written, "the probe wrote nothing"
    found = json.loads(html.unescape(written[1]))
    assert isinstance(found, dict)
    return found


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two CSS colours `rgb(r, g, b)`."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def dark(text: str) -> str:
    """A copy of the page that is dark whatever the system prefers."""
    query = "(prefers-color-scheme: dark)"
    assert text.count(query) == 1
    return text.replace(query, "all")


@pytest.mark.slow
def test_an_error_would_be_seen(browser: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<!DOCTYPE html><script>nothing()</script>", encoding="utf-8")
    _, (message,) = browse(browser, path)
    assert "nothing is not defined" in message


@pytest.mark.slow
def test_the_browser_is_content(browser: str, tmp_path: Path, photos: Path) -> None:
    path = tmp_path / "report.html"
    write_html(full(photos), path, data_root=photos)
    document, messages = browse(browser, path)
    assert messages == []
    assert "<footer>" in document


@pytest.mark.slow
@pytest.mark.parametrize("width_px", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_plots_and_width(
    scheme: str, width_px: int, browser: str, tmp_path: Path, photos: Path
) -> None:
    wordy = replace(EXAMPLES["nasty names"]().artefacts[0], path=f"out/{NASTY}".replace("</", ""))
    found = report(*full(photos).artefacts, wordy, environment={"cpu": NASTY, NASTY: [NASTY]})
    path = tmp_path / "report.html"
    verdict = Verdict((check("passed"), check("failed", NASTY, NASTY)), (NASTY,))
    write_html(found, path, data_root=photos, verdict=verdict)
    text = path.read_text(encoding="utf-8")
    seen = probe(browser, tmp_path, dark(text) if scheme == "dark" else text, width_px)
    assert seen["width"] == width_px
    assert seen["requests"] == []
    assert set(seen["plots"]) == {f"plot-{name}" for name in PLOTS}
    for name, (width, height, paths) in seen["plots"].items():
        assert width > 250, name
        assert height > 100, name
        assert paths > 10, name
    assert len(seen["images"]) == 16
    assert min(seen["images"]) > 0
    assert (contrast(seen["paper"], "rgb(0, 0, 0)") < 2) == (scheme == "dark")
    for colour in ("ink", "muted", "text"):
        assert contrast(seen["paper"], seen[colour]) >= 4.5, colour


@pytest.mark.slow
def test_a_request_and_a_wide_page_would_be_seen(browser: str, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html(report(artefact()), path, data_root=None)
    bad = '<main><div style="width:999px">wide</div><img src="https://example.com/x.png">'
    text = path.read_text(encoding="utf-8").replace("<main>", bad)
    seen = probe(browser, tmp_path, text, 360)
    assert seen["width"] > 900
    assert seen["requests"] == ["https://example.com/x.png"]
