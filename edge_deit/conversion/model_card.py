"""What a folder for Hugging Face's tools has beside the `.onnx` files: the model, and a card about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_deit.checkpoint.huggingface_folder import store_folder
from edge_deit.checkpoint.load import Checkpoint
from edge_deit.checkpoint.processors import describe
from edge_deit.checkpoint.sources import is_path
from edge_deit.common.files import write_text
from edge_deit.common.progress import Progress
from edge_deit.conversion.describe import license_of
from edge_deit.conversion.layout import Layout
from edge_deit.conversion.produce import Exported
from edge_deit.exporters.huggingface import FOLDER, TAGS, usage
from edge_deit.model.config import DeiTConfig

__all__ = ["stored_as", "write_card"]


def stored_as(
    layout: Layout, checkpoint: Checkpoint, folder: Path, output: Path, progress: Progress
) -> Checkpoint:
    """What the files are made from: the weights as the folder holds them, else as they are.

    The folder has no place for trained integers: they come along from the checkpoint.

    Raises:
        EdgeDeitError: as `store_folder`.
    """
    if not layout.whole_folder:
        return checkpoint
    stored = store_folder(checkpoint, folder)
    stored = replace(stored, source=str(output), trained=checkpoint.trained)
    for line in stored.assumptions[len(checkpoint.assumptions) :]:
        progress.note(line)
    return stored


def write_card(
    layout: Layout, folder: Path, checkpoint: Checkpoint, done: Sequence[Exported]
) -> None:
    """README.md: what the folder holds, from which weights, what the checks found, how to load it.

    `checkpoint` is what the user named. A layout without a folder of its own has no card.
    """
    if not layout.whole_folder:
        return
    tags = "\n".join(f"- {tag}" for tag in (*TAGS, checkpoint.config.family))
    license_line = "license: apache-2.0\n" if checkpoint.source == "bundled" else ""
    parts = [
        f"---\npipeline_tag: image-classification\n{license_line}tags:\n{tags}\n---",
        f"# {checkpoint.name}",
        _about(checkpoint),
        "## Files",
        _table(done),
        usage([one.manifest.precision for one in done]),
    ]
    write_text(folder / "README.md", "\n\n".join(parts) + "\n")


def _about(checkpoint: Checkpoint) -> str:
    config, source = checkpoint.config, checkpoint.source
    shown = Path(source).name if is_path(source) else source
    lines = [
        f"{_kind(config)} with {config.num_classes} classes, "
        f"{config.image_size} x {config.image_size} pixels, made by Edge DeiT.",
        "",
        f"- weights: {shown}, sha256 {checkpoint.sha256}",
        f"- licence: {license_of(source)}",
        f"- photos: {describe(checkpoint.preprocess)}",
        "- input `pixel_values` (batch, 3, H, W) float32, output `logits` (batch, classes) float32",
    ]
    return "\n".join(lines)


def _kind(config: DeiTConfig) -> str:
    if not config.distilled:
        return "A vision transformer"
    return "A vision transformer with a distillation token"


def _table(done: Sequence[Exported]) -> str:
    """The files with what the check at the end of the export found."""
    rows = [
        "| file | precision | MB | same answer | cosine, worst photo | SNR, dB |",
        "|" + "---|" * 6,
    ]
    photos = 0
    for one in done:
        found = one.closeness
        assert found.agreement is not None
        photos = found.images
        megabytes = one.manifest.size_bytes / 1e6
        rows.append(
            f"| {FOLDER}/{one.path.name} | {one.manifest.precision} | {megabytes:.1f} | "
            f"{100 * found.agreement:.0f} % | {found.cosine:.5f} | {found.snr_db:.1f} |"
        )
    said = f"Compared with the float model in PyTorch on {photos} of the photos of the export."
    return "\n".join([*rows, "", f"{said} Beside each file lies its manifest."])
