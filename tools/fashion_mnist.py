#!/usr/bin/env python3
"""Prepares Fashion-MNIST and the convnet teacher that the bundled checkpoint is distilled from.

The data comes from Debian's package `dataset-fashion-mnist` (Expat licence). Two steps:

    python tools/fashion_mnist.py folders --output build/fashion
    python tools/fashion_mnist.py teacher --output build/fashion/teacher.pt2

`folders` writes class folders of PNG files (`train/`, `test/`), which is what
`python -m edge_deit.finetune` reads. `teacher` trains a small convolutional network on the
training split and saves it as an ExportedProgram that takes a DeiT's own normalised pixels,
of any size, and returns logits.
"""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

LABELS = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MEAN = 0.449  # grey level of ImageNet's mean and deviation, the bundled checkpoint's normalisation
STD = 0.226
SOURCE = Path("/usr/share/datasets/fashion-mnist")

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)


def folder_name(label: int) -> str:
    """Class folder of a label; the number keeps the alphabetical order equal to the label order.

    >>> folder_name(0)
    '0_T-shirt_top'
    """
    return f"{label}_{LABELS[label].replace('/', '_').replace(' ', '_')}"


def read_idx(source: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) uint8 and labels (N,) uint8 of `split`, `train` or `test`.

    Format: http://yann.lecun.com/exdb/mnist (big-endian magic, dimensions, bytes).
    """
    prefix = {"train": "train", "test": "t10k"}[split]
    try:
        images = gzip.decompress((source / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((source / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    except FileNotFoundError as error:
        raise typer.BadParameter(
            f"{error.filename} is missing: apt-get install dataset-fashion-mnist, or name --source"
        ) from error
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    return pixels, np.frombuffer(labels, np.uint8, offset=8)


@app.command()
def folders(
    output: Annotated[Path, typer.Option(help="Folder that receives train/ and test/.")],
    source: Annotated[Path, typer.Option(help="Folder with the four idx files.")] = SOURCE,
) -> None:
    """Write the images as class folders of PNG files."""
    with Progress() as progress:
        for split in ("train", "test"):
            images, labels = read_idx(source, split)
            for label in range(len(LABELS)):
                (output / split / folder_name(label)).mkdir(parents=True, exist_ok=True)
            pairs = zip(images, labels, strict=True)
            task = progress.add_task(split, total=len(labels))
            for index, (pixels, label) in enumerate(pairs):
                path = output / split / folder_name(int(label)) / f"{index:05d}.png"
                Image.fromarray(pixels).save(path)
                progress.advance(task)


class Teacher(nn.Module):
    """Small VGG-like convnet on the 28 x 28 grey image found inside normalised RGB pixels."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def block(inputs: int, outputs: int) -> list[nn.Module]:
            conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]

        self.features = nn.Sequential(
            *block(1, width),
            *block(width, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            *block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *block(2 * width, 4 * width),
        )
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(4 * width, len(LABELS))

    def forward(self, pixels: Tensor) -> Tensor:
        grey = pixels.mean(dim=1, keepdim=True)  # (B, 1, H, W)
        small = F.adaptive_avg_pool2d(grey, (28, 28))  # (B, 1, 28, 28)
        pooled = self.features(small).mean(dim=(2, 3))  # (B, 4 * width)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits  # (B, 10)


def to_pixels(images: Tensor) -> Tensor:
    """(B, 28, 28) uint8 -> (B, 3, 28, 28) normalised float32."""
    grey = (images.float() / 255 - MEAN) / STD
    return grey[:, None].expand(-1, 3, -1, -1)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Random shift by up to two pixels and horizontal flip of (B, 28, 28) uint8."""
    dy, dx = (int(torch.randint(0, 5, (1,), generator=generator)) for _ in range(2))
    shifted = F.pad(images, (2, 2, 2, 2))[:, dy : dy + 28, dx : dx + 28]
    flip = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flip[:, None, None], shifted.flip(2), shifted)


def save_teacher(model: nn.Module, output: Path) -> None:
    """Write an ExportedProgram with free batch and image size."""
    batch = torch.export.Dim("batch", max=4096)
    height = torch.export.Dim("height", min=28, max=1024)
    width = torch.export.Dim("width", min=28, max=1024)
    program = torch.export.export(
        model.eval(),
        (torch.zeros(2, 3, 64, 96),),
        dynamic_shapes=({0: batch, 2: height, 3: width},),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, output)


@app.command()
def teacher(
    output: Annotated[Path, typer.Option(help="ExportedProgram file to write (.pt2).")],
    source: Annotated[Path, typer.Option(help="Folder with the four idx files.")] = SOURCE,
    epochs: Annotated[int, typer.Option(help="Passes over the 60,000 images.")] = 4,
    batch_size: Annotated[int, typer.Option()] = 128,
    seed: Annotated[int, typer.Option()] = 0,
    threads: Annotated[int, typer.Option()] = 2,
) -> None:
    """Train the teacher and print its accuracy on the 10,000 test images."""
    torch.manual_seed(seed)
    torch.set_num_threads(threads)
    images, labels = (torch.from_numpy(array.copy()) for array in read_idx(source, "train"))
    model = Teacher().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.02)
    steps = epochs * math.ceil(len(labels) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    with Progress() as progress:
        task = progress.add_task("teacher", total=steps)
        for _ in range(epochs):
            for index in torch.randperm(len(labels), generator=generator).split(batch_size):
                pixels = to_pixels(augment(images[index], generator))
                loss = F.cross_entropy(model(pixels), labels[index].long(), label_smoothing=0.05)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update(task, advance=1, description=f"teacher loss {loss.item():.3f}")
    model.eval()
    test_images, test_labels = (torch.from_numpy(a.copy()) for a in read_idx(source, "test"))
    with torch.inference_mode():
        predictions = [model(to_pixels(part)).argmax(1) for part in test_images.split(500)]
    accuracy = (torch.cat(predictions) == test_labels).float().mean().item()
    save_teacher(model, output)
    print(f"teacher: {100 * accuracy:.2f} % on {len(test_labels)} test images, {output}")


if __name__ == "__main__":
    app()
