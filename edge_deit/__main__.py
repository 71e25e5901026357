"""The console script `edge-deit`, which joins all commands; `python -m edge_deit` is the same."""

from __future__ import annotations

from edge_deit.arm64 import arm64
from edge_deit.bundle import bundle
from edge_deit.common.console import new_app, run
from edge_deit.device import device
from edge_deit.doctor import doctor
from edge_deit.export import export
from edge_deit.finetune import finetune
from edge_deit.gate import gate
from edge_deit.golden import golden
from edge_deit.predict import predict
from edge_deit.validate import validate

__all__ = ["app", "main"]

app = new_app("Turn a trained DeiT into the files a phone runs, and check them.")
for command in (export, validate, gate, predict, arm64, bundle, device, golden, finetune, doctor):
    app.command()(command)


def main() -> None:
    """Entry point."""
    run(app, "edge-deit")


if __name__ == "__main__":
    main()
