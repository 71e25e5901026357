#!/usr/bin/env python3
"""Makes the bundled checkpoint anew, from Debian's photos to the file in the package, with one command.

    apt-get install dataset-fashion-mnist
    python tools/make_checkpoint.py --work build

It takes hours on two processor cores. What is there already is not made again, and a stage that was
interrupted goes on where it was: give the same command. `--dry-run` prints the commands alone. The test
photos are looked at once, after the last stage: they choose nothing.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

TOOLS: Final = Path(__file__).parent
TEACHER_EPOCHS: Final = 3

STAGES: Final[tuple[tuple[str, ...], ...]] = (
    ("--weights", "none", "--model", "deit_tiny_distilled", "--image-size", "64", "--epochs", "2.5",
     "--learning-rate", "8e-4", "--min-crop-area", "0.6"),
    ("--epochs", "3.5", "--learning-rate", "6e-4", "--min-crop-area", "0.6", "--seed", "11"),
    ("--image-size", "112", "--epochs", "1.5", "--learning-rate", "6e-4", "--min-crop-area", "0.9",
     "--seed", "12"),
    ("--image-size", "224", "--epochs", "0.7", "--learning-rate", "5e-4", "--min-crop-area", "0.9",
     "--patch-dropout", "0.6", "--seed", "13"),
    ("--epochs", "0.15", "--batch-size", "32", "--learning-rate", "1.5e-4", "--min-crop-area", "0.95",
     "--seed", "14"),
    ("--crop-ratio", "1.0", "--epochs", "0.6", "--learning-rate", "4e-4", "--min-crop-area", "0.97",
     "--patch-dropout", "0.5", "--seed", "15"),
    ("--crop-ratio", "1.0", "--epochs", "0.4", "--batch-size", "32", "--learning-rate", "4e-4",
     "--min-crop-area", "0.97", "--seed", "16"),
    ("--epochs", "0.2", "--batch-size", "32", "--learning-rate", "2.5e-4", "--min-crop-area", "0.97",
     "--seed", "17"),
)  # fmt: skip
"""Options of `finetune`, stage by stage, each from the weights of the one before.

Small photos and patches that are left out are quick on a processor: they come first.
"""

app = typer.Typer(add_completion=False, help=__doc__)


def commands(work: Path, device: str) -> list[list[str]]:
    """Every command in order, as lists of arguments."""
    python, data, teacher = sys.executable, work / "fashion", work / "fashion" / "teacher.pt2"
    tool = [python, str(TOOLS / "fashion_mnist.py")]
    found = []
    if not (data / "test").is_dir():
        found.append([*tool, "folders", "--output", str(data)])
    if not teacher.is_file():
        found.append([*tool, "teacher", "--epochs", str(TEACHER_EPOCHS), "--output", str(teacher)])
    weights: Path | None = None
    for number, options in enumerate(STAGES, 1):
        output = work / f"stage{number}"
        command = [
            *(python, "-m", "edge_deit.finetune", "--data", str(data / "train")),
            *("--output", str(output), "--distillation", "hard", "--teacher", str(teacher)),
            *("--device", device, *options),
        ]
        if weights is not None:
            command += ["--weights", str(weights)]
        if (output / "state.pt").is_file():
            command.append("--resume")
        if number == len(STAGES):
            command += ["--test", str(data / "test")]
        found.append(command)
        weights = output / "model.safetensors"
    build = [
        python,
        str(TOOLS / "build_assets.py"),
        "--data",
        str(data),
        "--checkpoint",
        str(weights),
    ]
    return [*found, build]


@app.command()
def make(
    work: Annotated[Path, typer.Option(help="Folder for photos, teacher and stages.")] = Path(
        "build"
    ),
    device: Annotated[str, typer.Option(help="As `finetune` has it.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the commands alone.")] = False,
) -> None:
    """Run what is not done yet, and put the result into the package."""
    for command in commands(work, device):
        print(shlex.join(command), flush=True)
        if not dry_run and (code := subprocess.run(command, check=False).returncode):  # noqa: S603 # our own
            raise typer.Exit(code)


if __name__ == "__main__":
    app()
