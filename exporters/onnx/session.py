"""The ONNX Runtime session that runs our files: on the CPU, as a user's own session computes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

__all__ = ["SESSION_CONFIG", "open_session"]

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
"""ONNX Runtime reads it when it is imported, which may be anywhere; whoever has set it has chosen.

From 1.32 on, at the latest, its wheels for Linux otherwise keep an identifier of the machine and records of
what was run in the user's cache, leave a file in the temporary folder, and report to its maker.
"""

SESSION_CONFIG: Final = {"session.force_spinning_stop": "1"}
"""Options of every session: threads that spin between two calls slow whatever runs next.

None that changes a result: what is checked here is what `onnxruntime.InferenceSession(path)` returns.
"""

_ERROR_SEVERITY: Final = 3  # 0 verbose, 1 info, 2 warning, 3 error, 4 fatal


def open_session(model: Path | bytes, threads: int) -> Any:
    """A session for a file or its content; errors are ONNX Runtime's own."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _ERROR_SEVERITY
    for key, value in SESSION_CONFIG.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
