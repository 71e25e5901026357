"""action.yml and the CI snippets of docs/gate.md: their structure, and what their scripts really run."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

ROOT = Path(__file__).parents[2]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
SCRIPTS = {step["name"]: step["run"] for step in STEPS if "run" in step}


def fenced(language: str) -> list[str]:
    """The code blocks of docs/gate.md in one language."""
    text = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_it_is_a_composite_action() -> None:
    assert ACTION["runs"]["using"] == "composite"
    assert {"name", "description", "inputs", "outputs", "runs"} == ACTION.keys()
    for name, given in ACTION["inputs"].items():
        assert given["description"], name
        assert ("default" in given) != given.get("required", False), name
    for step in STEPS:
        assert ("run" in step) != ("uses" in step)
        assert "run" not in step or step["shell"] == "bash"


def test_every_input_is_used_and_every_used_one_declared() -> None:
    text = (ROOT / "action.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"inputs\.([\w-]+)", text)) == ACTION["inputs"].keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_expression_reaches_a_script(name: str) -> None:
    """`${{ }}` is pasted into the script's text before bash sees it; environment variables are not."""
    assert "${{" not in SCRIPTS[name]
    (step,) = [step for step in STEPS if step.get("name") == name]
    runner = {"GITHUB_ACTION_PATH", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"}
    used = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", SCRIPTS[name]))
    assert used <= step["env"].keys() | runner


def test_the_output_refers_to_a_step_that_sets_it() -> None:
    step, name = re.findall(r"steps\.(\w+)\.outputs\.(\w+)", ACTION["outputs"]["report"]["value"])[
        0
    ]
    (script,) = [found["run"] for found in STEPS if found.get("id") == step]
    assert f'echo "{name}=' in script


def test_reports_are_kept_when_the_gate_fails() -> None:
    assert STEPS[-1]["uses"].startswith("actions/upload-artifact@")
    assert "always()" in STEPS[-1]["if"]


@pytest.mark.parametrize(
    "script", [*SCRIPTS.values(), *fenced("sh")], ids=lambda script: script.split("\n")[0][:30]
)
def test_scripts_are_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["validate", "gate"])
def test_options_exist(module: str) -> None:
    texts = "\n".join([*SCRIPTS.values(), *fenced("yaml"), *fenced("sh")])
    calls = (f"edge_deit.{module} ", f"edge-deit {module} ")
    lines = [line for line in texts.splitlines() if any(call in line for call in calls)]
    assert lines
    named = {option for line in lines for option in re.findall(r"--[a-z][a-z-]+", line)}
    (script,) = [text for text in SCRIPTS.values() if f"edge-deit {module} " in text]
    named |= set(re.findall(r'"(--[a-z-]+)=', script))  # collected in an array first
    command = typer.main.get_command(importlib.import_module(f"edge_deit.{module}").app)
    known = {name for parameter in command.params for name in parameter.opts}
    assert named
    assert named <= known, f"{module} has no {sorted(named - known)}"


class Runner:
    """Runs a step as GitHub does, with programs that write down their names and arguments, one a line."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / ".log"
        tools = folder / ".tools"
        tools.mkdir()
        for name in ("python", "edge-deit"):
            fake = tools / name
            fake.write_text(
                '#!/bin/sh\nprintf "%s\\n" "${0##*/}" "$@" "summary=$GITHUB_STEP_SUMMARY" > .log\n'
            )
            fake.chmod(0o755)
        self.path = f"{tools}{os.pathsep}{os.environ['PATH']}"

    def __call__(self, name: str, **inputs: str) -> subprocess.CompletedProcess[str]:
        self.log.unlink(missing_ok=True)
        settings = {
            "PATH": self.path,
            "GITHUB_ACTION_PATH": "/action",
            "GITHUB_OUTPUT": str(self.folder / ".output"),
            "GITHUB_STEP_SUMMARY": "summary.md",
        }
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", SCRIPTS[name]]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**settings, **inputs},
        )

    def arguments(self) -> list[str]:
        """What was called with what, and the summary's place at the end."""
        return self.log.read_text().splitlines()


@pytest.fixture
def step(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_validate_expands_patterns_and_leaves_out_manifests(step: Runner) -> None:
    (step.folder / "out").mkdir()
    names = ("a.int8.bin", "a.int8.bin.json", "b c.int8.bin", "b c.int8.bin.json", "a.fp32.bin")
    for name in names:
        (step.folder / "out" / name).touch()
    done = step(
        "Validate", ARTEFACTS="\n  out/*.int8.*  \nout/a.fp32.bin\n", DATA="my photos", OUTPUT="r"
    )
    assert done.returncode == 0, done.stderr
    assert step.arguments() == [
        *("edge-deit", "validate", "--output=r", "--data=my photos", "--"),
        *("out/a.int8.bin", "out/b c.int8.bin", "out/a.fp32.bin", "summary="),
    ]
    assert (step.folder / ".output").read_text() == "report=r/report.json\n"


def test_validate_without_data_takes_the_bundled_photos(step: Runner) -> None:
    (step.folder / "a.bin").touch()
    assert step("Validate", ARTEFACTS="a.bin", DATA="", OUTPUT="r").returncode == 0
    assert step.arguments() == ["edge-deit", "validate", "--output=r", "--", "a.bin", "summary="]


@pytest.mark.parametrize("artefacts", ["", "\n \n", "missing.bin", "a.bin\nmissing*.bin", "m.json"])
def test_validate_refuses_artefacts_that_are_not_there(step: Runner, artefacts: str) -> None:
    for name in ("a.bin", "m.json"):
        (step.folder / name).touch()
    done = step("Validate", ARTEFACTS=artefacts, DATA="", OUTPUT="r")
    assert done.returncode == 2
    assert "::error::" in done.stdout
    assert not step.log.exists(), "validate ran all the same"


@pytest.mark.parametrize(
    "hostile", ["$(touch x)", "`touch x`", "a; touch x", "a' ; touch x '", "-x"]
)
def test_inputs_never_become_commands(step: Runner, hostile: str) -> None:
    (step.folder / hostile).touch()
    done = step("Validate", ARTEFACTS=hostile, DATA=hostile, OUTPUT="r")
    assert done.returncode == 0, done.stderr
    assert step.arguments()[3:] == [f"--data={hostile}", "--", hostile, "summary="]
    done = step("Gate", BASELINE=hostile, OUTPUT="r", THRESHOLDS=hostile)
    assert done.returncode == 0, done.stderr
    assert f"--baseline={hostile}" in step.arguments()
    assert step("Install Edge DeiT", EXTRAS=hostile).returncode == 0
    assert step.arguments()[-2] == f"/action[{hostile},report]"
    assert not (step.folder / "x").exists()


def test_gate_judges_the_report_that_validate_wrote(step: Runner) -> None:
    assert step("Gate", BASELINE="", OUTPUT="my r", THRESHOLDS="t.toml").returncode == 0
    assert step.arguments() == [
        *("edge-deit", "gate", "--thresholds=t.toml", "--junit=my r/gate.xml"),
        *("--html=my r/report.html", "--", "my r/report.json", "summary=summary.md"),
    ]


def test_github_snippet_uses_inputs_that_exist() -> None:
    (snippet,) = [text for text in fenced("yaml") if "uses:" in text]
    (use,) = [s for s in yaml.safe_load(snippet)["jobs"]["model"]["steps"] if "with" in s]
    assert use["with"].keys() <= ACTION["inputs"].keys()
    required = {name for name, given in ACTION["inputs"].items() if given.get("required")}
    assert required <= use["with"].keys()


def test_gitlab_snippet() -> None:
    (snippet,) = [text for text in fenced("yaml") if "image:" in text]
    job = yaml.safe_load(snippet)["model-gate"]
    script = "\n".join(job["script"])
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "edge-deit validate" in script
    report = job["artifacts"]["reports"]["junit"]
    assert f"--junit {report}" in script
    assert job["artifacts"]["when"] == "always"


@pytest.mark.parametrize("output", ["r\nreport=evil", "r\r", "r\x1b[0m"])
def test_an_output_with_a_line_break_writes_no_line_of_its_own(step: Runner, output: str) -> None:
    (step.folder / "a.bin").touch()
    done = step("Validate", ARTEFACTS="a.bin", DATA="", OUTPUT=output)
    assert done.returncode == 2
    assert not (step.folder / ".output").exists()
    assert not step.log.exists()


def test_actions_are_pinned_by_commit() -> None:
    for path in (ROOT / "action.yml", *(ROOT / ".github" / "workflows").glob("*.yml")):
        for used in re.findall(r"uses: (\S+)", path.read_text(encoding="utf-8")):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", used), f"{path.name}: {used}"


PLANTED = ("edge_deit/__init__.py", "edge_deit/gate.py", "edge_deit/exporters.py", "tomllib.py")


@pytest.mark.parametrize("call", [["-P", "-m", "edge_deit.gate"], ["edge-deit", "gate"]])
def test_a_pull_request_cannot_bring_its_own_gate(call: list[str], tmp_path: Path) -> None:
    """Files of the checked-out folder that have our modules' names are not imported."""
    for name in PLANTED:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("from pathlib import Path\nPath('mark').touch()\nraise SystemExit(0)\n")
    program = Path(sys.executable).with_name("edge-deit")
    command = [sys.executable, *call] if call[0] == "-P" else [str(program), *call[1:]]
    done = subprocess.run(
        [*command, "report.json"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: report report.json does not exist")
    assert not (tmp_path / "mark").exists()
