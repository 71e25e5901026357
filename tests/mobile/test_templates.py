"""What of an app's project goes into the wheel and into new projects."""

from __future__ import annotations

import subprocess
from pathlib import Path

from edge_deit.mobile.templates import own_files


def test_a_project_holds_what_git_tracks(tmp_path: Path) -> None:
    project = tmp_path / "android_demo"
    for name in ("app/a.kt", "build/made.apk", "secret.jks", "local.properties"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name)
    assert own_files(project) == ["app/a.kt", "secret.jks"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "android_demo/app"], check=True)
    assert own_files(project) == ["app/a.kt"]
