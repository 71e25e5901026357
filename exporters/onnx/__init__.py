"""ONNX: `.onnx` files; `export` says what each precision means."""

from exporters.onnx.export import TARGET, export, load_runner, read_metadata, runs_on

__all__ = ["TARGET", "export", "load_runner", "read_metadata", "runs_on"]
