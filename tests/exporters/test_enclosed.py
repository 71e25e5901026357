"""The Core ML package in a `.pte`: taken out as ExecuTorch itself does, refused where it is no other.

What is damaged here is made up in memory: one export serves all of it.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from damage import damaged_bytes

from edge_deit.common.errors import EdgeDeitError
from edge_deit.common.quiet import quiet
from edge_deit.exporters import Runtime, runtime_of
from edge_deit.exporters.executorch.delegated import read_delegated
from edge_deit.exporters.executorch.enclosed import COREML_BACKEND, unpack
from edge_deit.exporters.executorch.flattened import read_flattened, write_files
from edge_deit.exporters.executorch.target import TARGET
from edge_deit.metrics.outputs import closeness
from edge_deit.model.deploy import deploy
from edge_deit.quantization.scheme import Precision, Scheme
from exporter_models import fresh_model, images, request_for
from shared import once

if missing := TARGET.missing():
    pytest.skip(f"needs {', '.join(missing)}", allow_module_level=True)
pytest.importorskip("coremltools", reason="the Core ML delegate needs coremltools")
if sys.platform == "darwin":
    pytest.skip("macOS runs the Core ML delegate itself", allow_module_level=True)

LEAST_DB = {"fp32": 100, "fp16": 45, "int8": 20}


@pytest.fixture(scope="module")
def file(shared: Path) -> Callable[..., Path]:
    """A small model's `.pte` for the Core ML delegate, made once."""
    folder = shared / "enclosed"
    folder.mkdir(exist_ok=True)

    def made(precision: Precision = "fp32", kind: str = "plain", photos: int = 1) -> Path:
        path = folder / f"{kind}.{precision}.{photos}.pte"
        form = deploy(fresh_model(kind))
        request = request_for(TARGET, form, Scheme(precision), path, backend="coreml")
        request = replace(request, example=request.example.repeat(photos, 1, 1, 1))
        with quiet():
            return once(path, lambda _: TARGET.export(request))

    return made


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return runtime_of("executorch", "coreml")


@pytest.fixture(scope="module")
def content(file: Callable[..., Path]) -> bytes:
    return file().read_bytes()


@pytest.mark.parametrize(
    ("precision", "kind", "photos"),
    [
        ("fp32", "plain", 1),
        ("fp16", "plain", 1),
        ("int8", "plain", 1),
        ("fp32", "features", 1),
        ("fp32", "distilled", 3),
    ],
)
def test_outputs_are_those_of_the_float_model(
    file: Callable[..., Path], runtime: Runtime, precision: Precision, kind: str, photos: int
) -> None:
    pixels = images(6, seed=3)
    with torch.inference_mode():
        reference = fresh_model(kind)(pixels).numpy()
    with quiet():
        runner = runtime.load(file(precision, kind, photos), 1, None)
        found = np.concatenate([runner(some.numpy()) for some in pixels.split(photos)])
    result = closeness(reference, found, classes=kind != "features")
    assert result.snr_db > LEAST_DB[precision]


def test_the_words_say_what_stands_in(runtime: Runtime) -> None:
    said = str(runtime.runs_on())
    for part in ("package in the .pte", "reference numerics", "neither Core ML nor ExecuTorch"):
        assert part in said
    assert (runtime.name, runtime.suffix, runtime.folder) == ("executorch", ".pte", False)
    assert "executorch" not in " ".join(runtime.modules)  # it needs coremltools and torch alone
    assert runtime_of("executorch", "xnnpack") is runtime_of("executorch")


def test_files_are_those_that_executorch_takes_out(content: bytes, tmp_path: Path) -> None:
    with quiet():
        from executorch.backends.apple.coreml import executorchcoreml
        from executorch.exir._serialize._program import _extract_delegate_payload

        data = _extract_delegate_payload(content, COREML_BACKEND)
        delegated = read_delegated(content, COREML_BACKEND)
        assert bytes(delegated.data) == data
        (tmp_path / "theirs").mkdir()
        executorchcoreml.unflatten_directory_contents(data, str(tmp_path / "theirs"))
    assert delegated.takes == ((1, 3, 64, 64),)
    assert delegated.returns == ((1, 10),)
    write_files(read_flattened(delegated.data), tmp_path / "ours")
    theirs, ours = (
        {p.relative_to(top): p.read_bytes() for p in top.rglob("*") if p.is_file()}
        for top in (tmp_path / "theirs", tmp_path / "ours")
    )
    assert theirs == ours
    assert any(path.name == "weight.bin" for path in ours)


def test_nothing_is_left_in_the_temporary_folder(
    file: Callable[..., Path], runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    pixels = images(1, seed=3).numpy()
    with quiet():
        runner = runtime.load(file(), 1, None)
        assert os.listdir(tmp_path) == []
        assert runner(pixels).shape == (1, 10)  # all of it was read
        monkeypatch.setattr("edge_deit.exporters.coreml.reference.load", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            runtime.load(file(), 1, None)
    assert os.listdir(tmp_path) == []


def _interrupted(path: Path, threads: int) -> None:
    assert (path / "Manifest.json").is_file()
    raise KeyboardInterrupt


# Programs that do something else


def changed(content: bytes, change: Callable[[Any, Any], object]) -> bytes:
    """The file with its program changed by `change`, which takes it and its method `forward`."""
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary, serialize_pte_binary

        file = deserialize_pte_binary(content)
        plan = next(one for one in file.program.execution_plan if one.name == "forward")
        change(file.program, plan)
        return bytes(serialize_pte_binary(file, extract_delegate_segments=True))


def add_operator(program: Any, plan: Any) -> None:
    from executorch.exir.schema import Instruction, KernelCall, Operator

    plan.operators.append(Operator("aten::add", "out"))
    plan.chains[0].instructions.append(Instruction(KernelCall(0, [0, 1])))


def call_twice(program: Any, plan: Any) -> None:
    plan.chains[0].instructions.append(plan.chains[0].instructions[0])


def add_delegate(program: Any, plan: Any) -> None:
    plan.delegates.append(copy.deepcopy(plan.delegates[0]))


def of_another_backend(program: Any, plan: Any) -> None:
    plan.delegates[0].id = "XnnpackBackend"


def two_forwards(program: Any, plan: Any) -> None:
    program.execution_plan.append(copy.deepcopy(plan))


def no_forward(program: Any, plan: Any) -> None:
    plan.name = "backward"


def computing_text(program: Any, plan: Any) -> None:
    other = next(one for one in program.execution_plan if one.name == "get_labels")
    other.chains = copy.deepcopy(plan.chains)


def turned_round(program: Any, plan: Any) -> None:
    plan.chains[0].instructions[0].instr_args.args.reverse()


def of_bytes(program: Any, plan: Any) -> None:
    from executorch.exir.schema import ScalarType

    plan.values[0].val.scalar_type = ScalarType.BYTE


def of_another_shape(program: Any, plan: Any) -> None:
    plan.values[0].val.sizes = [1, 3, 32, 32]


def more_classes(program: Any, plan: Any) -> None:
    plan.values[1].val.sizes = [1, 11]


def shared_data(program: Any, plan: Any) -> None:
    program.backend_delegate_data[0].data = b'CMJR{"version": 1}'


def no_data(program: Any, plan: Any) -> None:
    program.backend_delegate_data[0].data = b"\x89PNG" * 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_operator, r"outside its delegate it computes aten::add\.out;"),
        (call_twice, "calls its delegate 2 times, not once"),
        (add_delegate, "its delegates are CoreMLBackend, CoreMLBackend, not CoreMLBackend once"),
        (of_another_backend, "its delegates are XnnpackBackend, not CoreMLBackend once"),
        (two_forwards, "its methods are forward, .*, not one of them called forward"),
        (no_forward, "its methods are backward, .*, not one of them called forward"),
        (computing_text, "its method get_labels computes something besides"),
        (turned_round, "not called with its inputs and outputs, in their order"),
        (of_bytes, "no float32 tensor"),
        (
            of_another_shape,
            r"inputs are \(\(1, 3, 64, 64\),\), the program's \(\(1, 3, 32, 32\),\)",
        ),
        (more_classes, r"outputs are \(\(1, 10\),\), the program's \(\(1, 11\),\)"),
        (shared_data, "its package is one that methods share"),
        (no_data, "it does not end in a table"),
    ],
)
def test_other_programs_are_refused(
    content: bytes,
    runtime: Runtime,
    tmp_path: Path,
    change: Callable[[Any, Any], object],
    message: str,
) -> None:
    path = tmp_path / "other.pte"
    path.write_bytes(changed(content, change))
    with quiet(), pytest.raises(EdgeDeitError, match=message) as refused:
        runtime.load(path, 1, None)
    said = str(refused.value)
    assert said.startswith(str(path))
    assert "export it again" in said
    assert "\n" not in said


@pytest.mark.parametrize("share", [0.0, 0.00001, 0.001, 0.01, 0.5, 0.9, 0.99999])
def test_a_file_cut_short_is_refused(
    content: bytes, runtime: Runtime, tmp_path: Path, share: float
) -> None:
    path = tmp_path / "broken.pte"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(EdgeDeitError, match=r"broken\.pte is not one Core ML package in an Exec"):
        runtime.load(path, 1, None)


def test_damage_is_one_line_and_writes_nowhere_else(content: bytes, tmp_path: Path) -> None:
    """Damaged anywhere, and where the program and the table are; what can be read is inside the folder."""
    path = tmp_path / "damaged.pte"
    refused = 0
    for seed in range(300):
        part = (content, content[:3500], content[-2500:])[seed % 3]
        damaged = damaged_bytes(part, seed)
        whole = (damaged, damaged + content[3500:], content[:-2500] + damaged)[seed % 3]
        path.write_bytes(whole)
        folder = tmp_path / "inside" / str(seed)
        folder.mkdir(parents=True)
        try:
            with quiet():
                assert unpack(path, folder).is_relative_to(folder)
        except EdgeDeitError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100
    assert sorted(os.listdir(tmp_path)) == ["damaged.pte", "inside"]


@pytest.mark.parametrize("name", ["Manifest.json", "model.mlmodel"])
def test_a_package_without_sense_names_the_file(
    content: bytes, runtime: Runtime, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "other.pte"
    files = read_flattened(read_delegated(content, COREML_BACKEND).data)
    part = next(bytes(v) for names, v in files.items() if names[-1] == name)
    path.write_bytes(content.replace(part, b"\xff" * len(part)))
    with quiet(), pytest.raises(EdgeDeitError) as refused:
        runtime.load(path, 1, None)
    assert str(refused.value).startswith(
        f"model.mlpackage in {path} is not a whole .mlpackage: {name}: "
    )


def test_a_broken_package_names_the_file(content: bytes, runtime: Runtime, tmp_path: Path) -> None:
    """The weights are zeros: the package is refused by its own reader."""
    path = tmp_path / "other.pte"
    files = read_flattened(read_delegated(content, COREML_BACKEND).data)
    weights = next(bytes(v) for names, v in files.items() if names[-1] == "weight.bin")
    path.write_bytes(content.replace(weights, bytes(len(weights))))
    with quiet(), pytest.raises(EdgeDeitError) as refused:
        runtime.load(path, 1, None)
    assert str(refused.value) == (
        f"model.mlpackage in {path} is not a whole .mlpackage: weight.bin belongs to another model; "
        "export it again"
    )


# Folders in one piece


def node(name: Any, kind: Any = 0, start: Any = 0, size: Any = 0, **children: Any) -> Any:
    region = {"offset": start, "size": size}
    return {"name": name, "kind": kind, "dataRegion": region, "children": children}


def flattened(*nodes: Any, data: bytes = b"0123456789") -> memoryview:
    return memoryview(data + json.dumps({"nodes": nodes}).encode()[::-1])


def test_a_folder_comes_back() -> None:
    made = flattened(
        node('a{}"b', 0, 2, 3), node("ä", 1, **{'a{}"b': 0}), node("top", 1, **{"ä": 1})
    )
    found = read_flattened(made)
    assert {names: bytes(part) for names, part in found.items()} == {("top", "ä", 'a{}"b'): b"234"}


@pytest.mark.parametrize(
    "name", ["..", ".", "", "a/b", "/etc/x", "a\\b", "C:", "a\0", "\n", "a" * 256]
)
def test_names_that_leave_the_folder_are_refused(name: str) -> None:
    for nodes in (
        [node(name, 0, 0, 1), node("top", 1, **{name: 0})],
        [node("a", 0, 0, 1), node(name, 1, a=0), node("top", 1, **{name: 1})],
        [node("a", 0, 0, 1), node(name, 1, a=0)],
    ):
        with pytest.raises(ValueError, match="its table has the name"):
            read_flattened(flattened(*nodes))


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("a", 0, 8, 3), node("top", 1, a=0)], "would end at byte 11"),
        ([node("a", 0, 0, 10**17), node("top", 1, a=0)], "would end at byte"),
        ([node("a", 0, 0, 10**30), node("top", 1, a=0)], "too large"),
        ([node("a", 0, -1, 3), node("top", 1, a=0)], "a node that is none"),
        ([node("a", 0, 0.5, 3), node("top", 1, a=0)], "a node that is none"),
        ([node("a", 2, 0, 3), node("top", 1, a=0)], "a node that is none"),
        ([node("a", True, 0, 3), node("top", 1, a=0)], "a node that is none"),
        ([node("a", 0, 0, 4), node("b", 0, 3, 4), node("top", 1, a=0, b=1)], "shares bytes"),
        ([node("a"), node("b"), node("top", 1, a=0)], "something in no folder"),
        ([node("a"), node("s", 1, a=0), node("top", 1, a=0, s=1)], "in two folders"),
        ([node("a"), node("top", 1, b=0)], "'b' where it cannot be"),
        ([node("a", 0, 0, 1, a=0), node("top", 1)], "'a' where it cannot be"),
        ([node("a"), node("b", 0, 0, 0, a=0), node("top", 1, b=1)], "'a' where it cannot be"),
        (
            [node("0"), *(node(str(i), 1, **{str(i - 1): i - 1}) for i in range(1, 17))],
            "'0' more than 16 folders deep",
        ),
        ([node("top", 1, top=0)], "'top' where it cannot be"),
        ([node("a"), node("top", 1, a=7)], "'a' where it cannot be"),
        ([], "no nodes, or too many"),
        ([node("a")] * 1001, "no nodes, or too many"),
        ([None], "a node that is none"),
        ([{"name": "a"}], "a node that is none"),
    ],
)
def test_tables_that_no_folder_has_are_refused(nodes: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_flattened(flattened(*nodes))


def test_a_name_that_is_there_twice_is_refused() -> None:
    text = bytes(flattened(node("a", 0, 0, 1), node("bb", 0, 1, 1), node("top", 1, a=0, bb=1)))
    twice = text.replace(b'"bb"'[::-1], b'"a"'[::-1])
    with pytest.raises(ValueError, match="the key 'a' twice"):
        read_flattened(memoryview(twice))


def test_a_table_without_an_end_is_refused() -> None:
    for text in (b'{"nodes": [', b'{"a', b"{" * (2 << 20), b"[]", b""):
        with pytest.raises(ValueError, match=r"does not end|end in a table"):
            read_flattened(memoryview(text[::-1]))
