"""Counting, comparing and refusing without an emulator; tiny files on emulated cores where it is set up."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import TINY, CommandLine, random_model
from edge_deit.arm64 import arm64
from edge_deit.checkpoint.save import save_checkpoint
from edge_deit.common.errors import EdgeDeitError
from edge_deit.data.preprocess import PreprocessSpec
from edge_deit.emulation import debian, setup
from edge_deit.emulation import emulator as run
from edge_deit.emulation.counts import (
    KINDS,
    Counts,
    kind_of,
    median,
    ratio,
    read_sections,
    relative_spread,
)
from edge_deit.emulation.emulator import CoreJob, Ran, run_jobs
from edge_deit.emulation.figures import Core, core_entry, merged, problems, remarks
from edge_deit.emulation.setup import native
from edge_deit.emulation.sysroot import (
    CPUS,
    PARTS,
    RUNTIMES,
    Part,
    cache_folder,
    find_cpu,
    missing_parts,
    parts_for,
)
from edge_deit.export import export
from edge_deit.report.report import read_report
from shared import once

# Kinds of instructions


@pytest.mark.parametrize(
    ("word", "assembly", "kind"),
    [
        (0x4E829420, "sdot v0.4s, v1.16b, v2.16b", "int8 dot product"),
        (0x4F82E020, "sdot v0.4s, v1.16b, v2.4b[0]", "int8 dot product"),
        (0x4F02F020, "sudot v0.4s, v1.16b, v2.4b[0]", "int8 dot product"),
        (0x4E82A420, "smmla v0.4s, v1.16b, v2.16b", "int8 matrix product"),
        (0x4E82AC20, "usmmla v0.4s, v1.16b, v2.16b", "int8 matrix product"),
        (0x4E22CC20, "fmla v0.4s, v1.4s, v2.4s", "float multiply-add"),
        (0x4EA2CC20, "fmls v0.4s, v1.4s, v2.4s", "float multiply-add"),
        (0x4F821020, "fmla v0.4s, v1.4s, v2.s[0]", "float multiply-add"),
        (0x1F020C20, "fmadd s0, s1, s2, s3", "float multiply-add"),
        (0x0E628020, "smlal v0.4s, v1.4h, v2.4h", "integer multiply-add"),
        (0x0F422020, "smlal v0.4s, v1.4h, v2.h[0]", "integer multiply-add"),
        (0x0E22C020, "smull v0.8h, v1.8b, v2.8b", "integer multiply-add"),
        (0x4E22D420, "fadd v0.4s, v1.4s, v2.4s", "other float"),
        (0x6E22FC20, "fdiv v0.4s, v1.4s, v2.4s", "other float"),
        (0x4E21D820, "scvtf v0.4s, v1.4s", "other float"),
        (0x4E21A820, "fcvtns v0.4s, v1.4s", "other float"),
        (0x1E222820, "fadd s0, s1, s2", "other float"),
        (0x4E614820, "sqxtn2 v0.8h, v1.4s", "other integer vector"),
        (0x4EA28420, "add v0.4s, v1.4s, v2.4s", "other integer vector"),
        (0x6F00E400, "movi v0.2d, #0", "vector move"),
        (0x4E040420, "dup v0.4s, v1.s[0]", "vector move"),
        (0x4E823820, "zip1 v0.4s, v1.4s, v2.4s", "vector move"),
        (0x6E022020, "ext v0.16b, v1.16b, v2.16b, #4", "vector move"),
        (0x3DC00020, "ldr q0, [x1]", "load"),
        (0xAD400420, "ldp q0, q1, [x1]", "load"),
        (0xB9800020, "ldrsw x0, [x1]", "load"),
        (0x4D40C820, "ld1r {v0.4s}, [x1]", "load"),
        (0x3D800020, "str q0, [x1]", "store"),
        (0xAD000420, "stp q0, q1, [x1]", "store"),
        (0x4C007820, "st1 {v0.4s}, [x1]", "store"),
        (0xF9800020, "prfm pldl1keep, [x1]", "prefetch"),
        (0x54000041, "b.ne +8", "branch"),
        (0xD65F03C0, "ret", "branch"),
        (0x8B020020, "add x0, x1, x2", "scalar"),
        (0xF1000400, "subs x0, x0, #1", "scalar"),
        (0xD503201F, "nop", "other"),
        (0xD4000001, "svc #0", "other"),
    ],
)
def test_kind(word: int, assembly: str, kind: str) -> None:
    assert kind_of(word) == kind, assembly
    assert kind in KINDS


# Counts


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="ascii")
    return path


def test_sections_are_summed_by_kind(tmp_path: Path) -> None:
    file = write(
        tmp_path / "counts",
        "mark\n400 7 d503201f\nmark\n400 10 4e829420 8b020020\n500 3 8b020020\nmark\n",
    )
    before, inference, after = read_sections(file)
    assert before == Counts(7, {"other": 7})
    assert inference == Counts(23, {"scalar": 13, "int8 dot product": 10})
    assert after == Counts(0, {})


@pytest.mark.parametrize(
    "text", ["400 7 d503201f\n", "mark\n400 x d503201f\n", "mark\n400\n"], ids=str.split
)
def test_a_damaged_counters_file_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="counts is not whole"):
        read_sections(write(tmp_path / "counts", text))


def test_no_counters_file(tmp_path: Path) -> None:
    with pytest.raises(EdgeDeitError, match="No such file"):
        read_sections(tmp_path / "counts")


def repeats(*totals: int) -> tuple[Counts, ...]:
    return tuple(Counts(total, {"load": total}) for total in totals)


def test_median_spread_and_ratio() -> None:
    assert median(repeats(103, 100, 101)).total == 101
    assert median(repeats(103, 100)).total == 100  # one that was counted, not a mean
    assert relative_spread(repeats(100, 103, 101)) == pytest.approx(0.03)
    assert ratio(Counts(40, {}), Counts(100, {})) == 0.4
    assert ratio(Counts(40, {}), None) is None


# Comparing


LOGITS = np.array([[0.0, 1.0], [3.0, 1.0]], np.float32)


def core(**changes: Any) -> Core:
    """An int8 artefact that agrees with everything."""
    whole = Core(LOGITS, LOGITS, LOGITS, repeats(100, 100, 100), Counts(250, {}))
    return replace(whole, **changes)


def test_figures_of_a_core() -> None:
    entry = core_entry(core(logits=LOGITS + np.float32([[0.0, 0.5], [0.0, 0.0]])))
    assert entry["instructions"] == 100
    assert entry["classes"] == {"load": 100}
    assert entry["ratio_to_fp32"] == 0.4
    assert entry["repeat_spread"] == 0.0
    assert (entry["images"], entry["same_argmax_as_x86"]) == (2, 1.0)
    assert entry["max_abs_to_x86"] == 0.5
    assert entry["snr_db_to_x86"] == pytest.approx(10 * np.log10(11 / 0.25))
    assert entry["snr_db_to_float"] == entry["snr_db_to_x86"]
    json.dumps(entry, allow_nan=False)


def test_equal_logits_have_the_largest_ratio_that_a_report_knows() -> None:
    entry = core_entry(core())
    assert (entry["snr_db_to_x86"], entry["snr_db_to_float"]) == (200.0, 200.0)


def test_noise_of_half_precision_is_the_cores_alone() -> None:
    """35 dB where the core computes in half precision is no fault, 25 dB and other files' 35 dB are."""
    for snr_db, halved, fine in ((35.0, True, True), (25.0, True, False), (35.0, False, False)):
        noise = np.float32(np.sqrt(np.square(LOGITS).sum() / 10 ** (snr_db / 10)))
        noisy = LOGITS + np.float32([[0.0, 0.0], [0.0, 1.0]]) * noise
        assert (problems(core(logits=noisy, halved=halved)) == []) is fine, (snr_db, halved)


def test_nothing_is_guessed() -> None:
    assert core_entry(core(fp32=None))["ratio_to_fp32"] is None
    native = core_entry(core(x86=None, repeats=()))
    absent = {"instructions", "ratio_to_fp32", "repeat_spread", "max_abs_to_x86"}
    absent |= {"snr_db_to_x86", "same_argmax_as_x86"}
    assert {name for name, value in native.items() if value is None} == absent


def test_a_logit_that_is_not_finite_is_no_result() -> None:
    with pytest.raises(EdgeDeitError, match="NaN or infinite"):
        core_entry(core(logits=np.array([[np.nan, 1.0], [3.0, 1.0]])))


NEAR_TIE = {
    "reference": np.float32([[0.9, 1.0], [3.0, 1.0]]),
    "x86": np.float32([[0.8, 1.1], [3.1, 1.1]]),
    "logits": np.float32([[1.0, 0.9], [2.9, 0.9]]),
}
"""Noise of 0.1 on either machine; the float model's margin is 0.1 on one photo and 2 on the other."""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"logits": LOGITS[:, ::-1]}, ["2 of 2 photos", "exclude"]),
        ({"logits": LOGITS[:, ::-1], "x86": LOGITS[:, ::-1]}, []),  # int8 itself, not the core
        ({"x86": LOGITS[:, ::-1]}, []),
        (NEAR_TIE, []),
        (
            {**NEAR_TIE, "logits": np.float32([[0.0, 0.9], [1.0, 3.0]])},
            ["1 of 2 photos", "exclude"],
        ),
        ({"logits": LOGITS + np.float32([[0.1, 0.0], [0.0, 0.0]])}, ["30.4 dB", "x86 200.0 dB"]),
        ({"logits": LOGITS + np.float32([[0.01, 0.0], [0.0, 0.0]])}, []),  # 50 dB
        ({"repeats": repeats(1000, 1005, 1001)}, []),
        ({"repeats": repeats(1000, 1006, 1001)}, ["0.60 % apart"]),
    ],
    ids=[
        *("well", "flips", "flips on x86 too", "better than x86", "near-tie", "no near-tie"),
        *("noisier", "noisier than nothing", "repeats", "does not repeat"),
    ],
)
def test_what_fails(changes: dict[str, Any], said: list[str]) -> None:
    text = " ".join(problems(core(**changes)))
    assert bool(text) == bool(said)
    assert all(part in text for part in said)


def test_near_ties_are_told() -> None:
    (text,) = remarks(core(**NEAR_TIE))
    assert "1 of 2 photos" in text
    assert "on x86 0" in text
    swapped = {**NEAR_TIE, "x86": NEAR_TIE["logits"], "logits": NEAR_TIE["x86"]}
    assert remarks(core(**swapped)) == remarks(core()) == []
    assert remarks(core(x86=None)) == []


def test_a_report_keeps_the_cores_of_an_earlier_run() -> None:
    former = {"cpus": {"cortex-a53": 1, "cortex-a76": 2}, "runtime": "LiteRT 1", "note": ""}
    new = {"cpus": {"cortex-a76": 3}, "runtime": "LiteRT 1", "note": ""}
    assert merged(former, new)["cpus"] == {"cortex-a53": 1, "cortex-a76": 3}
    assert merged({**former, "runtime": "LiteRT 0"}, new) == new
    assert merged(None, new) == new


# Cores and parts


def test_a_core_says_what_it_has() -> None:
    features = {name: set(cpu.features.split()) for name, cpu in CPUS.items()}
    assert "asimddp" not in features["cortex-a53"]
    assert "asimddp" in features["cortex-a76"]
    assert "i8mm" not in features["cortex-a76"]
    assert {"asimddp", "i8mm"} <= features["i8mm"]
    assert not any("sve" in names for names in features.values())
    assert "CPU part\t: 0xd0b\n" in CPUS["cortex-a76"].cpuinfo
    with pytest.raises(
        EdgeDeitError, match="'cortex-m4'; --cpu takes cortex-a53, cortex-a76, i8mm"
    ):
        find_cpu("cortex-m4")


def test_every_wheel_is_pinned() -> None:
    wheels = [wheel for part in PARTS.values() for wheel in part.wheels]
    assert wheels
    for requirement, digest in wheels:
        assert "==" in requirement
        assert len(bytes.fromhex(digest)) == 32


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder without anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "edge-deit" / "arm64"


def test_a_changed_recipe_is_another_folder(empty_cache: Path) -> None:
    part = PARTS["tflite"]
    assert part.path.parent == cache_folder() == empty_cache
    changed = replace(part, wheels=(*part.wheels, ("more==1", "00")))
    assert changed.path != part.path
    assert replace(part, what="another description").path == part.path


def test_missing_parts(empty_cache: Path) -> None:
    assert [part.name for part in missing_parts(["onnx", "onnx"])] == [
        *("qemu", "sysroot", "counter", "onnx")
    ]
    PARTS["qemu"].path.mkdir(parents=True)
    assert [part.name for part in missing_parts(["onnx"])] == ["sysroot", "counter", "onnx"]
    with pytest.raises(EdgeDeitError, match="of target coreml run on no emulated core"):
        parts_for(["coreml"])


Maker = Callable[[Part, Path, Path], None]


def test_a_failed_part_leaves_nothing_and_is_made_later(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    def maker(part: Part, downloads: Path, target: Path) -> None:
        (target / "half").touch()
        made.append(part.name)
        if part.name == "counter" and made.count("counter") == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(setup, "unsupported", lambda: None)
    monkeypatch.setattr(setup, "_MAKERS", dict.fromkeys(PARTS, maker))
    with pytest.raises(KeyboardInterrupt):
        setup.set_up(lambda line: None)
    assert {path.name for path in empty_cache.iterdir()} == {
        *("lock", PARTS["qemu"].path.name, PARTS["sysroot"].path.name)
    }
    said: list[str] = []
    setup.set_up(said.append)
    assert made == ["qemu", "sysroot", "counter", "counter", *RUNTIMES]
    assert said[0] == "QEMU's emulator of Arm programs: there already"
    assert missing_parts(RUNTIMES) == []
    (empty_cache / "tflite-000000000000").mkdir()  # of another version
    setup.set_up(said.append)
    assert not (empty_cache / "tflite-000000000000").exists()
    assert missing_parts(RUNTIMES) == []


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(EdgeDeitError, match=r"try: sh failed: no space; run --setup again"):
        debian.call("try", ["sh", "-c", "echo much; echo no space >&2; exit 3"])


# Jobs


class FakeProcess:
    """A job that ends when it has been looked at three times."""

    started: list[CoreJob]
    most: int
    killed: int

    def __init__(self, job: CoreJob, folder: Path) -> None:
        type(self).started.append(job)
        self.job, self.looks = job, 0

    def ended(self) -> bool:
        self.looks += 1
        return self.looks == 3

    def news(self) -> int:
        return 1

    def result(self) -> Ran:
        return Ran(self.job.target, self.job.pixels, ())

    def kill(self) -> None:
        type(self).killed += 1


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> type[FakeProcess]:
    FakeProcess.started, FakeProcess.killed = [], 0
    monkeypatch.setattr(run, "_Process", FakeProcess)
    monkeypatch.setattr(run, "_POLL_SECONDS", 0)
    return FakeProcess


def job(name: str, photos: int = 1) -> CoreJob:
    return CoreJob(name, Path(name), CPUS["cortex-a76"], np.zeros((photos, 3, 8, 8), np.float32))


def test_results_come_in_the_order_of_the_jobs(processes: type[FakeProcess]) -> None:
    seen = []
    ran = run_jobs([job(name) for name in "abcde"], 2, lambda: seen.append(1))
    assert [one.runtime for one in ran] == list("abcde")
    assert len(seen) == 15
    assert processes.killed == 0


def test_an_interrupt_ends_what_runs_and_starts_no_more(processes: type[FakeProcess]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([job(name) for name in "abcde"], 2, interrupt)
    assert [one.target for one in processes.started] == ["a", "b"]
    assert processes.killed == 2


def test_three_inferences_are_counted_at_least() -> None:
    assert [job("a", photos).inferences for photos in (1, 3, 4, 5, 20)] == [4, 4, 4, 5, 20]


# The command


SUFFIXES = {"tflite": ".tflite", "executorch": ".pte", "onnx": ".onnx"}
PACKAGES = {"tflite": "litert_torch", "executorch": "executorch", "onnx": "onnxscript"}


class Exported:
    """Tiny float and int8 artefacts of each target, made when they are first asked for."""

    def __init__(self, root: Path, weights: Path, photos: Path) -> None:
        self.root, self.weights, self.photos = root, weights, photos

    def of_image(self, target: str) -> Path:
        """The float one that takes a photo's bytes and returns probabilities."""
        pytest.importorskip(PACKAGES[target], reason=f"{target}'s converter is not installed")
        folder = once(
            self.root / f"{target}_image",
            lambda output: export(
                target=[target],
                weights=str(self.weights),
                precision=["fp32"],
                input_kind="image",
                output=output,
            ),
        )
        (found,) = folder.glob(f"*.image{SUFFIXES[target]}")
        return found

    def __call__(self, target: str) -> tuple[Path, Path]:
        """(fp32, int8)."""
        pytest.importorskip(PACKAGES[target], reason=f"{target}'s converter is not installed")
        folder = once(
            self.root / target,
            lambda output: export(
                target=[target],
                weights=str(self.weights),
                precision=["fp32", "int8"],
                calibration=self.photos,
                output=output,
            ),
        )
        names = [f"*.{precision}{SUFFIXES[target]}" for precision in ("fp32", "int8")]
        ((fp32,), (int8,)) = (list(folder.glob(name)) for name in names)
        return fp32, int8


@pytest.fixture(scope="session")
def exported(shared: Path, photos: Path) -> Exported:
    """Artefacts of a small model, wider than the other tests' one.

    A runtime's own bookkeeping differs by some thousand instructions from call to call; that is nothing
    in a model that a phone would run, but half a percent of the smallest one's inference.
    """

    def make(path: Path) -> None:
        config = replace(TINY, embed_dim=256, num_heads=4, mlp_dim=1024)
        model, spec = random_model(config), PreprocessSpec(resize_size=72, crop_size=64)
        labels = tuple(f"class {index}" for index in range(config.num_classes))
        save_checkpoint(path, model, spec, labels, half=False)

    folder = shared / "arm64"
    folder.mkdir(exist_ok=True)
    return Exported(folder, once(folder / "small.safetensors", make), photos)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "name at least one artefact, or --setup"),
        ({"artefacts": [Path("a.tflite")], "images": 0}, "must be at least 1"),
        ({"artefacts": [Path("a.tflite")], "jobs": 0}, "must be at least 1"),
        ({"artefacts": [Path("a.tflite")], "cpu": ["m1"]}, "there is no core 'm1'"),
        ({"artefacts": [Path("a.tflite")]}, "a.tflite does not exist"),
    ],
    ids=["nothing", "no images", "no jobs", "core", "file"],
)
def test_refusals(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(EdgeDeitError, match=said):
        arm64(**arguments)


def test_without_the_set_up(
    exported: Exported, photos: Path, tmp_path: Path, empty_cache: Path
) -> None:
    fp32, _ = exported("tflite")
    with pytest.raises(EdgeDeitError) as caught:
        arm64([fp32], data=photos, output=tmp_path / "out")
    assert "LiteRT for Arm missing" in str(caught.value)
    assert "python -m edge_deit.arm64 --setup" in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert not empty_cache.exists()


def test_the_denominator_must_be_the_same_model_in_float(exported: Exported) -> None:
    fp32, int8 = exported("tflite")
    with pytest.raises(EdgeDeitError, match="is int8, not fp32"):
        arm64([fp32], fp32=[int8])
    other, _ = exported("onnx")
    with pytest.raises(EdgeDeitError, match="another model or target"):
        arm64([int8], fp32=[other])


def test_on_an_arm_machine_nothing_is_counted(
    exported: Exported,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    empty_cache: Path,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    fp32, _ = exported("tflite")
    arm64([fp32], data=photos, images=2, output=tmp_path)
    (entry,) = json.loads((tmp_path / "arm64.json").read_text())["artefacts"]
    found = entry["arm64"]["cpus"]["aarch64"]
    assert (found["instructions"], found["images"]) == (None, 2)
    assert found["snr_db_to_float"] > 60
    assert "nothing was counted" in entry["arm64"]["note"]
    assert not empty_cache.exists()
    arm64(setup=True)  # says that there is nothing to do
    assert not empty_cache.exists()


def test_no_emulation_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    with pytest.raises(EdgeDeitError, match="on x86-64 Linux only, this is Darwin on x86_64"):
        arm64(setup=True)


# On emulated cores


@pytest.mark.slow
@pytest.mark.parametrize("target", RUNTIMES)
def test_on_emulated_cores(
    target: str,
    exported: Exported,
    photos: Path,
    tmp_path: Path,
    command_line: CommandLine,
) -> None:
    """Arm logits are this machine's, counts add up and repeat, and int8 takes the core's instructions."""
    if native() or missing_parts([target]):
        pytest.skip("the emulator is not set up: python -m edge_deit.arm64 --setup")
    fp32, int8 = exported(target)
    report, loose = tmp_path / "report.json", photos / "cat"
    done = command_line(
        *("validate", fp32, int8, "--data", loose, "--images", 2),
        *("--no-latency", "--output", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    cores = ("cortex-a53", "cortex-a76", "i8mm")
    done = command_line(
        *("arm64", int8, fp32, "--data", loose, "--images", 2, "--output", tmp_path),
        *(word for core in cores for word in ("--cpu", core)),
        *("--report", report),
    )
    assert done.returncode == 0, done.stderr
    assert "instructions on an emulated core, never a time" in done.stdout
    integer, real = json.loads((tmp_path / "arm64.json").read_text())["artefacts"]
    for entry in (*integer["arm64"]["cpus"].values(), *real["arm64"]["cpus"].values()):
        assert sum(entry["classes"].values()) == entry["instructions"]
        assert entry["repeat_spread"] < 0.005
        assert entry["images"] == 2
    assert list(integer["arm64"]["cpus"]) == list(real["arm64"]["cpus"]) == list(cores)
    for core in cores:
        counted, floating = integer["arm64"]["cpus"][core], real["arm64"]["cpus"][core]
        assert floating["ratio_to_fp32"] == 1.0
        assert floating["same_argmax_as_x86"] == 1.0
        assert floating["snr_db_to_x86"] > 80
        assert counted["snr_db_to_x86"] > 20
        assert counted["ratio_to_fp32"] == counted["instructions"] / floating["instructions"]
    kinds = {core: set(entry["classes"]) for core, entry in integer["arm64"]["cpus"].items()}
    assert not {"int8 dot product", "int8 matrix product"} & kinds["cortex-a53"]
    assert "int8 dot product" in kinds["cortex-a76"]
    assert "int8 matrix product" not in kinds["cortex-a76"]
    assert "int8 matrix product" in kinds["i8mm"]
    results = {Path(one.path).name: one for one in read_report(report).artefacts}
    assert asdict(results[int8.name].arm64) == integer["arm64"]
    assert asdict(results[fp32.name].arm64) == real["arm64"]


@pytest.mark.slow
@pytest.mark.parametrize("target", RUNTIMES)
def test_images_on_an_emulated_core(
    target: str, exported: Exported, photos: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    """A file of bytes and probabilities says on an Arm core what the float model says."""
    if native() or missing_parts([target]):
        pytest.skip("the emulator is not set up: python -m edge_deit.arm64 --setup")
    file = exported.of_image(target)
    done = command_line(
        "arm64", file, "--data", photos / "cat", "--images", 2, "--output", tmp_path
    )
    assert done.returncode == 0, done.stderr
    (entry,) = json.loads((tmp_path / "arm64.json").read_text())["artefacts"]
    (found,) = entry["arm64"]["cpus"].values()
    assert found["same_argmax_as_x86"] == 1.0
    assert found["snr_db_to_x86"] > 80
    assert found["snr_db_to_float"] > 60


@pytest.mark.slow
def test_a_file_that_the_runtime_refuses(tmp_path: Path) -> None:
    if native() or missing_parts(["tflite"]):
        pytest.skip("the emulator is not set up: python -m edge_deit.arm64 --setup")
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    pixels = np.zeros((1, 3, 8, 8), np.float32)
    with pytest.raises(EdgeDeitError, match=r"broken\.tflite on cortex-a76 failed, exit code 1"):
        run_jobs([CoreJob("tflite", broken, CPUS["cortex-a76"], pixels)], 1)
