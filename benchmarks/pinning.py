#!/usr/bin/env python3
"""How far activation ranges move when half of the calibration photos is left out, by the number of photos.

    EDGE_DEIT_REAL=FOLDER python benchmarks/pinning.py

The photos are those of the split `calibration`, evenly picked; ranges are those of the deployment form.
`export` warns above 0.7 %, and below 8 different photos.
"""

from __future__ import annotations

from edge_deit.checkpoint.load import load_model
from edge_deit.common.console import new_app, run
from edge_deit.data.calibration import calibration_set
from edge_deit.model.deploy import deploy
from edge_deit.quantization.observe import LayerView, importance_pass
from edge_deit.quantization.pinning import measure_pinning
from harness.real import real_folder
from tables.grid import Grid, show

__all__ = ["pinning"]

app = new_app(__doc__)

_COUNTS = (2, 4, 8, 16, 32, 100)


@app.command()
def pinning() -> None:
    """Print the movement for each number of photos."""
    real = real_folder()
    checkpoint = load_model(str(real / "deit_tiny_patch16_224" / "model.safetensors"))
    form = deploy(checkpoint.model)
    rows = []
    for count in _COUNTS:
        photos = calibration_set(real / "imagenet400", checkpoint.preprocess, count)
        views: dict[str, LayerView] = {}
        importance_pass(form, photos, views)
        found = measure_pinning(views.values(), photos.photo_sha256)
        moved = "-" if found.movement is None else f"{100 * found.movement:.2f}"
        rows.append((str(found.photos), moved, "yes" if found.pinned else "no"))
    show(Grid("without half of the photos", ("photos", "moved, %", "pinned"), tuple(rows)))


if __name__ == "__main__":
    run(app, "python benchmarks/pinning.py")
