"""Preparing a model has an end: in memory, in time, and with the `cf` that asked for it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import NodeProto, TensorProto, helper

from compreface_cli.errors import FetchError
from compreface_cli.models.entry import Model, ModelFile
from tests.cli.local_cf import eventually
from tests.cli.model_bench import Bench, a_model
from tests.shared import ROOT
from tools import source_python

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts and tells")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def _file(nodes: list[NodeProto], width: int, *constants: TensorProto) -> bytes:
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["n", 3, 32, 32])],
        [helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["n", width])],
        constants,
    )
    opset = [helper.make_opsetid("", 13)]
    return bytes(helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString())


def doubling() -> bytes:
    """3072 values, doubled 22 times: 51 GB from less than a kilobyte."""
    nodes = [helper.make_node("Flatten", ["data"], ["v0"])]
    nodes += [
        helper.make_node("Concat", [f"v{i}", f"v{i}"], [f"v{i + 1}"], axis=1) for i in range(22)
    ]
    nodes += [
        helper.make_node("ReduceMax", ["v22"], ["top"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["top", "top"], ["vector"], axis=1),
    ]
    return _file(nodes, 2)


def endless() -> bytes:
    """A loop whose condition stays true."""
    of_any_shape = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Relu", ["x"], ["y"])],
        "body",
        [
            of_any_shape("turn", TensorProto.INT64, []),
            of_any_shape("go", TensorProto.BOOL, []),
            of_any_shape("x", TensorProto.FLOAT, None),
        ],
        [of_any_shape("on", TensorProto.BOOL, []), of_any_shape("y", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
        helper.make_node("Loop", ["", "yes", "pooled"], ["looped"], body=body),
        helper.make_node("Flatten", ["looped"], ["vector"]),
    ]
    return _file(nodes, 3, helper.make_tensor("yes", TensorProto.BOOL, [], [True]))


def put(bench: Bench, data: bytes) -> Model:
    bench.put("own/mine.onnx", data)
    return a_model(
        files=(ModelFile("own/mine.onnx", (hashlib.sha256(data).hexdigest(),), ()),), size=32
    )


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


@linux
def test_a_small_file_that_wants_all_memory_is_refused(bench: Bench) -> None:
    data = doubling()
    assert len(data) < 2048
    watched = bench.folder / "watched-python"
    watched.write_text(
        f"#!{sys.executable}\n"
        "import resource, subprocess, sys\n"
        f"done = subprocess.run([{str(source_python.write(bench.folder))!r}, *sys.argv[1:]])\n"
        "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss\n"
        f"open({str(bench.folder / 'peak')!r}, 'w').write(str(peak))\n"
        "sys.exit(done.returncode)\n"
    )
    watched.chmod(0o755)
    with pytest.raises(FetchError, match="memory") as refused:
        bench.ensure(put(bench, data), python=lambda: watched)
    assert refused.value.exit_code == 9
    assert int((bench.folder / "peak").read_text()) < 3 << 20, "KiB"
    assert left_in(bench.places.models) == []


def test_a_network_without_an_end_is_ended(bench: Bench) -> None:
    python = source_python.write(bench.folder)
    with pytest.raises(FetchError, match=" 8 s") as refused:
        bench.ensure(put(bench, endless()), python=lambda: python, timeout_s=8)
    assert "--timeout" in str(refused.value.hint)
    assert "mine.onnx" in str(refused.value.hint)
    assert left_in(bench.places.models) == []


@linux
def test_the_converter_dies_with_its_cf_and_the_next_run_sweeps(bench: Bench) -> None:
    model = put(bench, endless())
    script = (
        "import sys; from pathlib import Path\n"
        "from tests.cli.model_bench import Bench\n"
        "from tests.cli.test_models_bounded import endless, put\n"
        "from compreface_cli.models import store\n"
        "from tools import source_python\n"
        "folder = Path(sys.argv[1])\n"
        "bench = Bench.__new__(Bench); bench.folder = folder; bench.notes = []\n"
        "bench.places = store.Places(folder / 'models', folder / 'weights', folder / 'a.json',\n"
        "                            str(folder / 'mirror'))\n"
        "bench.ensure(put(bench, endless()), python=lambda: source_python.write(folder))\n"
    )
    cf = subprocess.Popen(
        [sys.executable, "-c", script, str(bench.folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engine'}"},
    )
    try:
        assert eventually(lambda: bool(converters(bench.folder)))
        cf.send_signal(signal.SIGKILL)
    finally:
        cf.kill()
        cf.wait()
    assert eventually(lambda: not converters(bench.folder)), "it lives on without its cf"
    assert left_in(bench.places.models), "killed, it could not tidy up itself"
    other = a_model(name="other", files=model.files, size=32)
    bench.ensure(other)
    assert [name for name in left_in(bench.places.models) if name != "other"] == []


def converters(folder: Path) -> list[int]:
    """The converters that work on a file below `folder`."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            named = any(word.startswith(str(folder).encode()) for word in words)
            if b"compreface_convert" in words and named:
                found.append(int(entry.name))
    return found
