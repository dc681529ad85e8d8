"""Broken and hostile PyTorch files: always a ConvertError, within limits of time and memory."""

from __future__ import annotations

import io
import os
import pickletools
import struct
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compreface_convert import pickled
from compreface_convert.errors import ConvertError
from compreface_convert.pytorch import read_state_dict
from tests.convert import torch_files as files

ARRAYS: dict[str, Any] = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.count": np.array(7, np.int64),
    "a.half": np.ones(3, np.float16),
}
WHOLE = {"zip": files.saved(ARRAYS), "older": files.saved(ARRAYS, old=True)}
FORMATS = pytest.mark.parametrize("kind", WHOLE)
MEMORY = files.storage("FloatStorage", "0", 6)
RAW = {"0": bytes(24)}


def of(value: bytes) -> bytes:
    """A zip archive whose pickle makes this value, with a storage of six float32."""
    return files.zipped(files.PROTO + value + files.STOP, RAW)


def dict_of(value: bytes) -> bytes:
    return of(b"}" + files.text("x") + value + b"s")


def refusal(data: bytes) -> str:
    with pytest.raises(ConvertError) as caught:
        read_state_dict(data)
    assert len(str(caught.value)) < 400
    return str(caught.value)


@FORMATS
def test_a_file_cut_anywhere_is_refused(kind: str) -> None:
    for offset in range(len(WHOLE[kind])):
        refusal(WHOLE[kind][:offset])


def test_a_stream_that_goes_on_is_refused() -> None:
    assert "after its end" in refusal(WHOLE["older"] + b"\0")


@FORMATS
@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 255)), max_size=6))
def test_flipped_bytes_are_read_or_refused(kind: str, flips: list[tuple[int, int]]) -> None:
    broken = bytearray(WHOLE[kind])
    for place, mask in flips:
        broken[place % len(broken)] ^= mask
    touch(bytes(broken))


@FORMATS
@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    place=st.integers(0, 10**6), value=st.sampled_from([0, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20, 255])
)
def test_lying_lengths_are_read_or_refused(kind: str, place: int, value: int) -> None:
    broken = bytearray(WHOLE[kind])
    at = place % (len(broken) - 4)
    broken[at : at + 4] = struct.pack("<I", value)
    touch(bytes(broken))


@settings(max_examples=400, deadline=None)
@given(codes=st.lists(st.sampled_from([bytes([code]) for code in range(256)]), max_size=40))
def test_any_opcodes_are_read_or_refused(codes: list[bytes]) -> None:
    touch(of(b"".join(codes)))


def touch(data: bytes) -> None:
    """Read every value of what the file has, if it is not refused."""
    with suppress(ConvertError):
        for array in read_state_dict(data).values():
            assert array.size <= len(data)
            array.tobytes()


# --- opcodes and calls ---------------------------------------------------------------------------

CARRIED_OUT = {
    "PROTO", "GLOBAL", "REDUCE", "BUILD", "BINPERSID", "MARK", "STOP", "NONE", "NEWTRUE",
    "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "BINSTRING",
    "SHORT_BINSTRING", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST",
    "APPEND", "APPENDS", "EMPTY_DICT", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT", "BINGET",
    "LONG_BINGET",
}  # fmt: skip
OTHERS = [known for known in pickletools.opcodes if known.name not in CARRIED_OUT]


@pytest.mark.parametrize("opcode", OTHERS, ids=lambda opcode: opcode.name)
def test_every_other_opcode_is_refused_by_name_and_place(opcode: Any) -> None:
    code = opcode.code.encode("latin-1")
    message = refusal(dict_of(b"NN" + code + b"\x01" * 40))
    assert f"data.pkl, byte 11: the opcode {opcode.name} " in message


def test_a_byte_that_is_no_opcode_is_refused() -> None:
    assert "data.pkl, byte 2: the byte 0xff" in refusal(of(b"\xff"))


@pytest.mark.parametrize("version", [0, 1, 3, 4, 5, 255])
def test_other_protocols_are_refused(version: int) -> None:
    data = files.zipped(b"\x80" + bytes([version]) + b"}.", {})
    assert f"protocol {version}" in refusal(data)


@pytest.mark.parametrize(
    "called",
    [
        "os.system", "posix.system", "builtins.eval", "builtins.exec", "builtins.getattr",
        "builtins.dict", "subprocess.Popen", "torch.storage._load_from_bytes", "torch.load",
        "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_qtensor", "torch.Tensor",
        "torch.QInt8Storage", "torch.ComplexFloatStorage", "numpy.core.multiarray._reconstruct",
        "collections.OrderedDict.fromkeys", "facenet.InceptionResnetV1", "torch.FloatStorage.new",
    ],
)  # fmt: skip
def test_other_calls_are_refused_by_name(called: str) -> None:
    module, _, attribute = called.rpartition(".")
    call = files.name(module, attribute) + files.MARK + files.text("true") + b"tR"
    message = refusal(dict_of(call))
    assert repr(called) in message
    assert "data.pkl, byte 9: " in message


def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "marked_module.py").write_text("raise SystemExit('imported')", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(os, "system", lambda line: pytest.fail(line))
    refusal(of(files.name("marked_module", "it") + b")R"))
    assert "marked_module" not in sys.modules


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"R", "stack is empty"),
        (b")R", "stack is empty"),
        (b"N)R", "no function"),
        (files.name("torch", "FloatStorage") + b")R", "no function"),
        (files.name("collections", "OrderedDict") + b"NR", "without a tuple"),
        (files.name("collections", "OrderedDict") + b"K\x01\x85R", "list of pairs"),
        (files.name("collections", "OrderedDict") + b"](K\x01e\x85R", "list of pairs"),
        (files.name("collections", "OrderedDict") + b"]]\x86R", "list of pairs"),
        (b"}" + b"}b", "has none"),
        (b"N" + b"}b", "no dict"),
        (b"t", "no mark"),
        (b"}(Nu", "without a value"),
        (b"}NNs", "neither text"),
        (b"})Ns", "neither text"),
        (b"}K\x01NsK\x01Ns", "two values"),
        (b"]NNs", "no dict"),
        (b"}Na", "no list"),
        (b"h\x05", "no memo 5"),
        (b"(q\x00", "stack is empty"),
        (b"\x8a\xff" + bytes(255), "an integer of 255 bytes"),
        (b"X\xff\xff\xff\xff", "cut short"),
        (b"T\xff\xff\xff\xff", "cut short"),
        (b"X\x01\x00\x00\x00\xff", "not UTF-8"),
        (b"c" + b"a" * 400, "does not end"),
        (b"NN", "left over"),
        (b"(", "stack is empty"),
        (b"K\x01Q", "other than a storage"),
        (b"N", "no dict of tensors"),
        (b"]", "no dict of tensors"),
        (b"}" + files.text("x") + b"K\x01s", "'x' in the file is not a tensor"),
        (b"}" + files.text("x") + b"}s", "'x' in the file is not a tensor"),
        (b"}K\x01" + files.tensor(MEMORY, (6,)) + b"s", "'1' in the file is not a tensor"),
    ],
)
def test_a_pickle_that_makes_no_sense_is_refused(value: bytes, words: str) -> None:
    assert words in refusal(of(value))


def test_a_pickle_that_goes_on_is_refused() -> None:
    assert "after its end" in refusal(files.zipped(b"\x80\x02}.}.", {}))


# --- storages and tensors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((7,), (1,), 0),
        ((6,), (1,), 1),
        ((2, 3), (4, 1), 0),
        ((2, 3), (-3, 1), 3),
        ((2, 3), (3, -1), 0),
        ((-2, -3), (3, 1), 0),
        ((6,), (1,), -1),
        ((2, 3), (3,), 0),
        ((1 << 62, 1 << 62), (0, 0), 0),
        ((1 << 60,), (0,), 0),
        ((7,), (0,), 0),
        ((2,), (1 << 100,), 0),
        ((0, 1 << 62), (1, 1), 0),
        ((0,), (1,), 7),
        ((1,) * 9, (1,) * 9, 0),
        ((1,) * 1000, (1,) * 1000, 0),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int
) -> None:
    assert "tensor of shape" in refusal(dict_of(files.tensor(MEMORY, shape, strides, offset)))


def call(*arguments: bytes, function: str = "_rebuild_tensor_v2") -> bytes:
    return files.name("torch._utils", function) + files.MARK + b"".join(arguments) + b"tR"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (call(MEMORY, b"K\x00", b"N", b"N"), "whole numbers"),
        (call(MEMORY, b"K\x00", b"N\x85", b"K\x01\x85"), "whole numbers"),
        (call(MEMORY, b"K\x00", b"\x88\x85", b"K\x01\x85"), "whole numbers"),
        (call(MEMORY, b"G" + bytes(8), b"K\x01\x85", b"K\x01\x85"), "whole numbers"),
        (call(b"N", b"K\x00", b"K\x01\x85", b"K\x01\x85"), "without a storage"),
        (call(MEMORY, b"K\x00", b"K\x01\x85"), "3 arguments"),
        (call(MEMORY, b"K\x00", b"K\x01\x85", b"K\x01\x85", b"\x89", b"}", b"}"), "marks"),
        (call(function="_rebuild_parameter"), "without a tensor"),
        (call(MEMORY, function="_rebuild_parameter"), "without a tensor"),
    ],
)
def test_a_call_with_other_arguments_is_refused(value: bytes, words: str) -> None:
    assert words in refusal(dict_of(value))


@pytest.mark.parametrize(
    "pid",
    [
        b"(tQ",
        b"(NNNNNtQ",
        b"(" + files.text("module") + b"NNNNtQ",
        b"(" + files.text("storage") + b"NNNNtQ",
        b"(" + files.text("storage") + files.name("collections", "OrderedDict") + b"NNNtQ",
        b"(" + files.text("storage") + files.name("torch", "FloatStorage") + b"NNK\x06tQ",
        files.storage("FloatStorage", "0", -1),
    ],
)
def test_a_reference_to_no_storage_is_refused(pid: bytes) -> None:
    assert "storage" in refusal(dict_of(files.tensor(pid, (1,))))


def test_a_storage_that_is_part_of_another_is_refused() -> None:
    pid = files.storage("FloatStorage", "0", 6, old=True).replace(b"NtQ", b")tQ")
    assert "part of another" in refusal(dict_of(files.tensor(pid, (6,))))


def test_a_storage_of_two_types_or_sizes_is_refused() -> None:
    for other in (files.storage("IntStorage", "0", 6), files.storage("FloatStorage", "0", 5)):
        items = {"a": files.tensor(MEMORY, (6,)), "b": files.tensor(other, (5,))}
        assert "two types or sizes" in refusal(of(files.ordered_dict(items)))


@pytest.mark.parametrize("size", [0, 23, 25, 48])
def test_a_storage_of_another_size_is_refused(size: int) -> None:
    pickle = files.PROTO + files.ordered_dict({"x": files.tensor(MEMORY, (6,))}) + files.STOP
    assert f"24 bytes has {size}" in refusal(files.zipped(pickle, {"0": bytes(size)}))


def test_a_storage_that_is_missing_is_refused() -> None:
    for key in ("1", "../data.pkl", "/etc/passwd", "x" * 10_000):
        pid = files.storage("FloatStorage", key, 6)
        assert "has no member 'data/" in refusal(dict_of(files.tensor(pid, (6,))))


@pytest.mark.parametrize(
    "storages",
    [{}, {"1": (6, bytes(24))}, {"0": (6, bytes(24)), "1": (6, bytes(24))}, {"0": (5, bytes(20))}],
)
def test_a_stream_with_other_storages_is_refused(storages: dict[str, tuple[int, bytes]]) -> None:
    memory = files.storage("FloatStorage", "0", 6, old=True)
    pickle = files.PROTO + files.ordered_dict({"x": files.tensor(memory, (6,))}) + files.STOP
    assert "storage" in refusal(files.stream(pickle, storages))


def test_a_stream_of_another_machine_or_version_is_refused() -> None:
    pickle = files.PROTO + b"}" + files.STOP
    assert "big-endian" in refusal(files.stream(pickle, {}, little=False))
    other = files.stream(pickle, {}).replace(files.number(1001), files.number(1002), 1)
    assert "unknown version" in refusal(other)
    assert "list of its storages" in refusal(
        files.stream(pickle, {}).removesuffix(b"](e.") + b"K\x01."
    )


# --- archives ------------------------------------------------------------------------------------


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        for name, raw in members:
            opened.writestr(name, raw)
    return made.getvalue()


EMPTY = b"\x80\x02}."


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compressed_member_is_refused_before_it_is_read(method: int) -> None:
    bomb = archive(("a/data.pkl", EMPTY), ("a/data/0", bytes(1 << 26)), method=method)
    assert len(bomb) < 1 << 18
    assert "'a/data.pkl' is compressed" in refusal(bomb)
    assert peak(lambda: refusal(bomb)) < 1 << 21


def test_an_archive_with_two_members_of_one_name_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        data = archive(("a/data.pkl", EMPTY), ("a/data/0", b"1"), ("a/data/0", b"2"))
    assert "two members 'a/data/0'" in refusal(data)


def test_an_archive_without_a_single_pickle_is_refused() -> None:
    assert "0 members data.pkl" in refusal(archive(("a/data", EMPTY)))
    assert "2 members data.pkl" in refusal(archive(("a/data.pkl", EMPTY), ("b/data.pkl", EMPTY)))


def test_a_damaged_member_is_refused() -> None:
    data = WHOLE["zip"]
    at = data.index(ARRAYS["a.weight"].tobytes())
    assert "CRC" in refusal(data[:at] + b"\xff" + data[at + 1 :])


def test_an_archive_of_another_machine_is_refused() -> None:
    assert "big-endian" in refusal(files.zipped(EMPTY, {}, byteorder=b"big"))


def test_an_encrypted_member_is_refused() -> None:
    data = bytearray(archive(("a/data.pkl", EMPTY)))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    assert "compressed or encrypted" in refusal(bytes(data))


def test_members_that_share_their_bytes_are_refused() -> None:
    """Many entries of the directory, each with the same megabyte."""
    data = archive(("a/data.pkl", EMPTY), *((f"a/data/{i}", b"") for i in range(100)))
    whole = archive(("a/data/0", bytes(1 << 20)))
    entry = whole.index(b"PK\x01\x02")
    sizes = whole[entry + 16 : entry + 28]
    start = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    broken = bytearray(data)
    while start >= 0:
        broken[start + 16 : start + 28] = sizes
        start = data.find(b"PK\x01\x02", start + 1)
    assert "larger than the archive" in refusal(bytes(broken))


def test_a_member_that_claims_more_than_it_has_is_refused() -> None:
    raw = bytes(range(24))
    data = files.zipped(
        files.PROTO + files.ordered_dict({"x": files.tensor(MEMORY, (6,))}) + files.STOP,
        {"0": raw[:8]},
        padding=bytes(100),
    )
    entry = data.rindex(b"archive/data/0") - 46
    # 24 bytes in the directory, 8 in the file: a view of what lies behind them would be read.
    lying = data[: entry + 24] + struct.pack("<I", 24) + data[entry + 28 :]
    assert "24 bytes has 8" in refusal(lying)


def test_a_directory_of_very_many_members_is_refused_before_it_is_read() -> None:
    data = archive(("a/data.pkl", EMPTY))
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    many = data[:start] + data[start:end] * 200_000 + data[end:]
    assert "more than 20000 members" in refusal(many)
    assert peak(lambda: refusal(many)) < 1 << 21


# --- bombs ---------------------------------------------------------------------------------------


def peak(function: Callable[[], Any]) -> int:
    """The most bytes that Python allocated meanwhile."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


STEPS = 1 << 14
MEMORY_OF_A_STEP = 320  # bytes, of a dict

BOMBS = {
    "pairs, each twice as deep": b")q\x00" + b"h\x00h\x00\x86q\x00" * STEPS,
    "tuples ever deeper": b")" + b"\x85" * STEPS,
    "lists": b"]" * STEPS,
    "marks": b"(" * STEPS,
    "dicts": b"}" * STEPS,
    "ordered dicts": (files.name("collections", "OrderedDict") + b")R") * STEPS,
    "a list in itself": b"]q\x00" + b"h\x00h\x00a" * STEPS,
    "memos": b"N" + b"".join(b"r" + struct.pack("<I", 7919 * i) for i in range(STEPS)),
    "tuples": b"(NNNNNNNNt" * STEPS,
}


@pytest.fixture
def fewer_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that are soon used up, so that the memory can be measured for each."""
    monkeypatch.setattr(pickled, "MAX_STEPS", STEPS)


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.usefixtures("fewer_steps")
def test_each_step_takes_little_memory(bomb: str) -> None:
    data = of(BOMBS[bomb])
    assert f"more than {STEPS} steps" in refusal(data)
    assert peak(lambda: refusal(data)) < STEPS * MEMORY_OF_A_STEP + 4 * len(data)


@pytest.mark.slow
@pytest.mark.parametrize("once", [b"\x85", b"}"], ids=["tuples ever deeper", "dicts"])
def test_very_many_opcodes_are_refused(once: bytes) -> None:
    assert "more than 1048576 steps" in refusal(of(b"}" + once * (1 << 20)))


def test_nested_values_that_are_shared_are_never_walked() -> None:
    """2 ** 50 values as a tree: neither hashed, compared nor shown."""
    deep = b")q\x00" + b"h\x00h\x00\x86q\x00" * 50
    for value in (
        b"}" + deep + b"Ns",
        deep + b"Q",
        b"(" + deep + b"NNNNtQ",
        b"(" + files.text("storage") + deep + b"h\x00h\x00h\x00tQ",
        call(MEMORY, b"K\x00", deep, b"h\x00"),
        call(MEMORY, deep, b"K\x01\x85", b"K\x01\x85"),
        files.name("collections", "OrderedDict") + deep + b"\x85R",
        b"}" + files.text("x") + deep + b"s",
        deep,
    ):
        refusal(of(value))


@pytest.mark.usefixtures("fewer_steps")
def test_a_list_that_is_copied_often_is_counted_each_time() -> None:
    pairs = b"](" + b"".join(files.number(i) + b"N\x86" for i in range(2000)) + b"e"
    once = files.name("collections", "OrderedDict") + b"h\x00\x85R"
    data = of(pairs + b"q\x00" + once * 2000)
    assert f"more than {STEPS} steps" in refusal(data)
    assert peak(lambda: refusal(data)) < STEPS * MEMORY_OF_A_STEP + 4 * len(data)
