"""Core ML: `.mlpackage` folders; `export` says what each precision means."""

from exporters.coreml.export import TARGET, export, load_on, load_runner, read_metadata, runs_on

__all__ = ["TARGET", "export", "load_on", "load_runner", "read_metadata", "runs_on"]
