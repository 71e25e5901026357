"""ExecuTorch: `.pte` files for XNNPACK or Core ML; `export` says what each precision means."""

from exporters.executorch.export import (
    TARGET,
    delegation,
    export,
    load_runner,
    read_metadata,
    runs_on,
)

__all__ = ["TARGET", "delegation", "export", "load_runner", "read_metadata", "runs_on"]
