"""LiteRT: `.tflite` files; `export` says what each precision means."""

from exporters.tflite.export import TARGET, delegation, export, load_runner, read_metadata, runs_on

__all__ = ["TARGET", "delegation", "export", "load_runner", "read_metadata", "runs_on"]
