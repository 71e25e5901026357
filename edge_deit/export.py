"""Export a DeiT to phone formats: `python -m edge_deit.export`."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from edge_deit.common.arguments import number_or_auto
from edge_deit.common.console import Bars, new_app, out, run
from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.host import peak_memory_bytes
from edge_deit.exporters import TARGETS
from edge_deit.exporters import target as find_target
from edge_deit.exporters.programs import opened_by
from edge_deit.quantization.scheme import PRECISIONS, Precision

if TYPE_CHECKING:
    from edge_deit.checkpoint.options import LoadOptions
    from edge_deit.conversion.run import ExportResult
    from edge_deit.metrics.outputs import Closeness

__all__ = ["export"]

app = new_app(__doc__)


def export(
    target: Annotated[
        list[str] | None,
        typer.Option(
            help=f"One of {', '.join(TARGETS)}, or all; may be repeated; a layout may settle it."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Variant, e.g. deit_tiny; default: what the weights hold.")
    ] = None,
    weights: Annotated[
        str,
        typer.Option(help="bundled, a file, a Hugging Face folder, or hub:ORG/NAME[@REVISION]."),
    ] = "bundled",
    precision: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(PRECISIONS)}; may be repeated.")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="Photos like those of the app; default: the bundled ones.")
    ] = None,
    calibration_images: Annotated[int, typer.Option(help="At most so many of them.")] = 100,
    labels: Annotated[
        str | None,
        typer.Option(help="Names of the classes: a file, one a line or JSON, or imagenet-1k."),
    ] = None,
    keep_float: Annotated[
        list[str] | None, typer.Option(help="Layers that stay float, e.g. 'blocks.0.mlp.*'.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="int8, int4, merging: points of top-1 it may cost; the worst layers are kept finer."
        ),
    ] = None,
    max_size: Annotated[
        float | None,
        typer.Option(help="int4: most MB of a file; as many layers keep 8 bits as it allows."),
    ] = None,
    merge_tokens: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="An approximation that is faster: N tokens in all become part of others, in up to three "
            "blocks; auto: as many as --max-drop allows.",
        ),
    ] = None,
    sensitivity_report: Annotated[
        Path | None,
        typer.Option(help="int8, int4: folder for a table and a plot of layer x damage."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="classification, features (final tokens, no head), or masked-image (pixels and a "
            "mask to all pixels; fp32, fp16)."
        ),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Another input size; positions are interpolated.")
    ] = None,
    ema: Annotated[
        bool, typer.Option("--ema", help="Take the averaged weights of a training checkpoint.")
    ] = False,
    heads: Annotated[
        int | None,
        typer.Option(min=1, help="Attention heads, where no file tells; default: width / 64."),
    ] = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            help="Where no file tells: timm, deit, huggingface, or a preprocessor_config.json."
        ),
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Of the pixels, 0 to 1: one number, or three with commas.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="As --mean.")] = None,
    resize: Annotated[
        str | None, typer.Option(help="248 (short side), 256x256 (squashed), or none.")
    ] = None,
    crop: Annotated[int | None, typer.Option(min=1, help="Side of the centred crop.")] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="nearest, bilinear, bicubic or lanczos.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="ExecuTorch: xnnpack or coreml; default: the target's first.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(help="Core AI, Core ML: ane (channels first, for the Neural Engine) or cpu."),
    ] = None,
    input_kind: Annotated[
        str,
        typer.Option(
            "--input",
            help="What the files take: pixels (float, normalised) or image (bytes of an RGB photo).",
        ),
    ] = "pixels",
    returns: Annotated[
        str | None,
        typer.Option(help="logits or probabilities; default: logits, of an image probabilities."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for artefacts and manifests.")] = Path("out"),
    layout: Annotated[
        str, typer.Option(help="plain, or huggingface: OUTPUT is a folder for their tools.")
    ] = "plain",
    dynamic_batch: Annotated[
        bool, typer.Option("--dynamic-batch", help="ONNX: any number of photos at once.")
    ] = False,
    batch: Annotated[
        int, typer.Option(help="Photos at once that the files take, in .batchN files; 1 to 64.")
    ] = 1,
    parity_images: Annotated[
        int, typer.Option(help="Most photos that the check of each file takes.")
    ] = 20,
    threads: Annotated[int, typer.Option(help="Threads of the runners.")] = 2,
    jobs: Annotated[
        int | None,
        typer.Option(help="Files made at the same time; default: as cores and memory allow."),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Of all that is drawn; the same one gives the same files.")
    ] = 0,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Condition anew, and keep nothing of it.")
    ] = False,
) -> None:
    """Write MODEL.PRECISION.SUFFIX and its manifest for each target, checked on real photos.

    Example: python -m edge_deit.export --target coreml --precision int8 --weights my.safetensors
    --calibration photos/

    Without --precision int8 is made; with --layout huggingface, all that the folder has names for: fp32,
    fp16 and int8. Each file is run on photos and compared with the float model
    before it is kept; a file that is wrong is an error. Core ML runs only on macOS: elsewhere its file
    is run by reference numerics, and the table says so.
    """
    export_model = _exporter()
    with Bars() as bars:
        result = export_model(
            weights,
            targets=_targets(target, layout),
            precisions=cast(list[Precision] | None, precision or None),
            output=output,
            layout=_one_of("layout", layout),
            dynamic_batch=dynamic_batch,
            batch=batch,
            model=model,
            task=_one_of("task", task),
            image_size=image_size,
            backend=backend,
            form=_one_of("form", form),
            calibration=calibration,
            calibration_images=calibration_images,
            options=_options(ema, heads, preprocessing, mean, std, resize, crop, interpolation),
            labels=labels,
            input_kind=_one_of("input", input_kind),
            returns=_one_of("returns", returns),
            keep_float=keep_float or [],
            max_drop=max_drop, max_size=max_size, merge_tokens=number_or_auto("merge-tokens", merge_tokens),
            sensitivity_report=sensitivity_report,
            parity_images=parity_images,
            threads=threads,
            seed=seed, jobs=jobs, cache=not no_cache, progress=bars,
        )  # fmt: skip
    _print(result)


def _targets(names: list[str] | None, layout: str) -> list[str] | None:
    if not names and layout == "plain":
        raise EdgeDeitError(f"--target is missing; choose one of: {', '.join(TARGETS)}, all")
    return None if not names or "all" in names else names


def _exporter() -> Callable[..., ExportResult]:
    """`export_model`; an installation that only runs files, or has no target yet, is refused."""
    if importlib.util.find_spec("torch") is None:
        extras = ", ".join(find_target(name).extra for name in TARGETS)
        raise EdgeDeitError(
            f"no target is installed: pip install 'edge-deit[tflite]', for instance; there are: {extras}"
        )
    from edge_deit.conversion.run import export_model

    return export_model


def _options(*chosen: Any) -> LoadOptions:
    from edge_deit.checkpoint.options import LoadOptions

    return LoadOptions(*chosen)


def _one_of(option: str, value: str | None) -> Any:
    """The value of an option that takes one of a few words."""
    from edge_deit.conversion.layout import LayoutName
    from edge_deit.exporters import Form
    from edge_deit.model.config import Task
    from edge_deit.model.file_form import InputKind, ReturnKind

    words = {
        "task": Task,
        "input": InputKind,
        "returns": ReturnKind,
        "layout": LayoutName,
        "form": Form,
    }
    known = get_args(words[option])
    if value is not None and value not in known:
        raise EdgeDeitError(f"--{option} is {value!r}; choose one of: {', '.join(known)}")
    return value


def _print(result: ExportResult) -> None:
    for note in result.notes:
        out().print(note)
    checkpoint, done = result.checkpoint, result.artefacts
    title = f"{checkpoint.name}, {result.parity_images} photos against the float model"
    if not result.held_back:
        title += " (they calibrated it too: give more photos)"
    table = Table(title=title, box=box.SIMPLE, padding=0)  # narrow enough for 80 columns
    for name in ("target", "precision"):
        table.add_column(name, no_wrap=True)
    for name in ("MB", "of\nfloat", "cosine", "SNR\ndB", "agree", "max\ndiff", "s"):
        table.add_column(Text(name), justify="right", no_wrap=True)  # our own line ends
    for one in done:
        table.add_row(
            one.manifest.target + ("*" if one.stand_in else ""),
            one.manifest.precision,
            f"{one.manifest.size_bytes / 1e6:.1f}",
            f"{one.manifest.size_bytes / checkpoint.size_bytes:.2f}",
            *_closeness_cells(one.closeness),
            f"{one.seconds:.0f}",
        )
    out().print(table)
    out().print("of float: size / 4 bytes a parameter; cosine: worst photo; s: export and check")
    for remark in _remarks(result):
        out().print(remark)
    out().print(
        f"{len(done)} files in {done[0].path.parent}, {result.seconds:.0f} s, "
        f"peak {peak_memory_bytes() / 1e9:.1f} GB a process"
    )
    opened = opened_by((one.path.suffix, one.manifest.requires or {}) for one in done)
    out().print(f"{opened}; programs that were tried: docs/clients.md")


def _remarks(result: ExportResult) -> list[str]:
    """What stood in for a runtime, and which files were run on fewer photos than the others."""
    done = result.artefacts
    lines = list(dict.fromkeys(f"* {one.stand_in}" for one in done if one.stand_in))
    for one in done:
        if one.closeness.images < result.parity_images:
            lines.append(f"{one.path.name}: {one.closeness.images} photos only, as said above")
    return lines


def _closeness_cells(result: Closeness) -> tuple[str, str, str, str]:
    agreement = "-" if result.agreement is None else f"{100 * result.agreement:.0f} %"
    return f"{result.cosine:.5f}", f"{result.snr_db:.1f}", agreement, f"{result.max_abs:.1e}"


app.command()(export)

if __name__ == "__main__":
    run(app, "python -m edge_deit.export")
