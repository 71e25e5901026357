"""Export a checkpoint from Python, as the last step of a training script.

    python examples/export_after_training.py [WEIGHTS [PHOTOS]]

Without arguments it exports the bundled model with the bundled photos.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge_deit import EdgeDeitError, export_model, load_model


def main(weights: str = "bundled", photos: str | None = None) -> None:
    """Write the float and the int8 ONNX file of one checkpoint, and print how close they came."""
    checkpoint = load_model(weights)  # read once, used for every precision
    result = export_model(
        checkpoint,
        targets=["onnx"],
        precisions=["fp32", "int8"],
        calibration=Path(photos) if photos else None,
        calibration_images=20,
        output=Path("out"),
    )
    for one in result.artefacts:
        snr_db = f"{one.closeness.snr_db:.1f} dB"
        print(f"{one.path}: {one.manifest.size_bytes / 1e6:.1f} MB, {snr_db}")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except EdgeDeitError as error:  # one line that says what is wrong and what to do
        sys.exit(f"error: {error}")
