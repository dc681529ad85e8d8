"""TensorFlow checkpoints read without TensorFlow: the same numbers, refusals of broken files."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compreface_convert.checkpoint import read_checkpoint
from compreface_convert.errors import ConvertError
from compreface_convert.evaluate import run
from compreface_convert.graph import Graph
from compreface_convert.proof import run_onnx
from compreface_convert.sstable import masked_crc, read_table
from compreface_convert.tensor_bundle import Bundle
from compreface_convert.tensorflow_proto import parse
from tests.convert import tensor_tables as tables
from tests.convert.test_recorded import RECORDINGS, as_onnx, nchw, recorded
from tests.frameworks import seeded

PREFIX = "checkpoint-14999"
INDEX, DATA = f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001"
AGE = "inception_v3_age"


def files(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def age(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint whose index TensorFlow wrote; its weights made again, where they belong."""
    folder = tmp_path_factory.mktemp("age")
    with zipfile.ZipFile(RECORDINGS / f"{AGE}.zip") as packed:
        packed.extractall(folder)
    with (folder / DATA).open("wb") as file:
        for key, value in read_table((folder / INDEX).read_bytes()).items():
            entry = parse("BundleEntryProto", value)
            if key and entry.dtype == 1:  # float32, which all weights are
                file.seek(entry.offset)
                dims = [dim.size for dim in entry.shape.dim]
                file.write(seeded.values(key.decode(), dims).tobytes())
    yield folder
    (folder / DATA).unlink()  # 87 MB that pytest would keep


@pytest.fixture(scope="module")
def network(age: Path) -> Graph:
    return read_checkpoint(files(age), AGE)


@pytest.mark.slow
def test_a_checkpoint_of_inception_v3_gives_what_tensorflow_gave(network: Graph) -> None:
    expected = recorded("tensorflow_folders.npz")[AGE][1:3]  # a smooth picture and noise
    batch = seeded.pictures(1, 4, 160, 160, 3)[1:3]
    (result,) = run_onnx(as_onnx(network, 160), nchw(batch), ["embeddings"])
    (judged,) = run(network, {"input": batch[:1]})
    assert np.abs(result - expected).max() < 1e-5
    assert np.abs(judged - expected[:1]).max() < 1e-5


def test_the_checksums_that_tensorflow_wrote_hold_for_the_weights(age: Path) -> None:
    """Every name that Slim gives is there, and 22 million seeded weights have TensorFlow's sums."""
    bundle = Bundle(PREFIX, {p.name: p for p in age.iterdir()})
    name = "InceptionV3/Mixed_5c/Branch_1/Conv_1_0c_5x5/weights"
    assert np.array_equal(bundle.tensor(name), seeded.values(name, (5, 5, 48, 64)))


def test_a_damaged_weight_is_named(age: Path) -> None:
    with (age / DATA).open("r+b") as file:
        kept = file.read(1)
        file.seek(0)
        file.write(bytes([kept[0] ^ 1]))
        file.flush()
        try:
            with pytest.raises(ConvertError, match="checksum of the tensor 'InceptionV3/"):
                read_checkpoint(files(age), AGE)
        finally:
            file.seek(0)
            file.write(kept)


def test_a_weight_file_cut_short_is_refused(age: Path, tmp_path: Path) -> None:
    with (age / DATA).open("rb") as file:
        (tmp_path / DATA).write_bytes(file.read(5_000_000))
    with pytest.raises(ConvertError, match=r"ends after checkpoint-14999\.data"):
        read_checkpoint({**files(age), DATA: tmp_path / DATA}, AGE)


def test_another_network_than_the_entry_names_is_refused(age: Path) -> None:
    with pytest.raises(ConvertError, match=r"'output/weights' is float32 \[2048, 8\], not .* 2\]"):
        read_checkpoint(files(age), "inception_v3_gender")
    with pytest.raises(ConvertError, match="use inception_v3_age or inception_v3_gender"):
        read_checkpoint(files(age), "resnet")


# --- which checkpoint of a folder -----------------------------------------------------------------


def folder_of(where: Path, *names: str, state: str | None = None) -> dict[str, Path]:
    for name in names:
        (where / name).write_bytes(tables.table({b"": tables.header()}))
    if state is not None:
        (where / "checkpoint").write_text(state, "utf-8")
    return files(where)


@pytest.mark.parametrize(
    "path", ["checkpoint-2", "/home/someone/run-22801/checkpoint-2", r"D:\\run\\checkpoint-2"]
)
def test_the_file_checkpoint_says_which_is_the_newest(tmp_path: Path, path: str) -> None:
    state = f'model_checkpoint_path: "{path}"\nall_model_checkpoint_paths: "checkpoint-1"\n'
    result = folder_of(tmp_path, "checkpoint-1.index", "checkpoint-2.index", state=state)
    (tmp_path / "checkpoint-1.index").write_bytes(b"")
    with pytest.raises(ConvertError, match="has no tensor 'InceptionV3/Conv2d_1a_3x3/weights'"):
        read_checkpoint({f"22801/{name}": path for name, path in result.items()}, AGE)


@pytest.mark.parametrize(
    ("names", "state", "message"),
    [
        ((), None, "old V1 format"),
        (("a.index", "b.index"), None, "several checkpoints"),
        (("a.index", "b.index"), 'model_checkpoint_path: "c"', "names 'c', which is not listed"),
        (("a.index",), "", "names no checkpoint"),
        (("a.index",), 'model_checkpoint_path: "b"', "has no tensor"),
    ],
)
def test_a_folder_without_one_clear_checkpoint_says_why(
    tmp_path: Path, names: tuple[str, ...], state: str | None, message: str
) -> None:
    with pytest.raises(ConvertError, match=message):
        read_checkpoint(folder_of(tmp_path, *names, state=state), AGE)


def test_two_files_of_one_name_and_missing_files_are_refused(tmp_path: Path) -> None:
    result = folder_of(tmp_path, "a.index")
    with pytest.raises(ConvertError, match=r"two files are named 'a\.index'"):
        read_checkpoint({**result, "old/a.index": tmp_path / "a.index"}, AGE)
    with pytest.raises(ConvertError, match="cannot be read"):
        read_checkpoint({"a.index": tmp_path / "b.index"}, AGE)
    with pytest.raises(ConvertError, match="cannot be read"):
        read_checkpoint({**result, "checkpoint": tmp_path / "gone"}, AGE)


# --- tensors --------------------------------------------------------------------------------------


def bundle(where: Path, entry: bytes, data: bytes = b"", header: bytes = tables.header()) -> Bundle:
    (where / "x.index").write_bytes(tables.table({b"": header, b"w": entry}))
    (where / "x.data-00000-of-00001").write_bytes(data)
    return Bundle("x", files(where))


@pytest.mark.parametrize(
    ("dtype", "number"), [("<f4", 1), ("<f8", 2), ("<i4", 3), ("<i8", 9), ("?", 10), ("<f2", 19)]
)
def test_tensors_of_each_type_are_read(tmp_path: Path, dtype: str, number: int) -> None:
    value = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    data = value.tobytes()
    entry = tables.entry(data, (2, 3), offset=5, dtype=number)
    result = bundle(tmp_path, entry, b"pad.." + data).tensor("w")
    assert result.dtype == value.dtype
    assert np.array_equal(result, value)


FOUR = struct.pack("<f", 1.5)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (tables.entry(FOUR, (2,)), r"shape \[2\] has 4 bytes"),
        (tables.entry(FOUR, (1 << 40, 1 << 40)), "has 4 bytes"),
        (tables.entry(FOUR, (1 << 32,), size=1 << 34), "has 17179869184 bytes"),
        (tables.entry(FOUR, (1 << 26,), size=1 << 28), "ends after"),
        (tables.entry(FOUR, (1,), offset=1), "ends after"),
        (tables.entry(FOUR, (1,), offset=(1 << 63) - 1), "ends after"),
        (tables.entry(FOUR, (1,), dtype=14), "type 14"),
        (tables.entry(FOUR, (1,)) + tables.field(3, 7), "shard 7"),
        (tables.entry(FOUR, (1,)) + tables.field(7, b""), "in parts"),
        (tables.entry(b"else", (1,)), "checksum of the tensor 'w'"),
    ],
)
def test_a_lying_entry_is_refused(tmp_path: Path, entry: bytes, message: str) -> None:
    result = bundle(tmp_path, entry, FOUR)
    with pytest.raises(ConvertError, match=message):
        result.tensor("w")


@pytest.mark.parametrize(
    ("entry", "header", "message"),
    [
        (tables.entry(FOUR, (-5,)), tables.header(), "below zero"),
        (tables.entry(FOUR, (1,), offset=-1), tables.header(), "below zero"),
        (tables.entry(FOUR, (1,)), tables.header(0), "claims 0 data files"),
        (tables.entry(FOUR, (1,)), tables.header(1 << 40), "data files"),
        (tables.entry(FOUR, (1,)), tables.header(1, 1), "big-endian"),
        (tables.field(2, tables.shape(*[1] * 9)), tables.header(), "8 dimensions"),
        (b"\xff", tables.header(), "broken protobuf"),
    ],
)
def test_a_broken_index_is_refused(
    tmp_path: Path, entry: bytes, header: bytes, message: str
) -> None:
    with pytest.raises(ConvertError, match=rf"x\.index: .*{message}"):
        bundle(tmp_path, entry, FOUR, header)


def test_tensors_that_take_too_much_memory_together_are_refused(tmp_path: Path) -> None:
    bundle(tmp_path, tables.entry(FOUR, (1,)), FOUR)
    pairs = {key: tables.entry(FOUR, (1,)) for key in (b"a", b"b", b"c")}
    (tmp_path / "x.index").write_bytes(tables.table({b"": tables.header(), **pairs}))
    result = Bundle("x", files(tmp_path), max_bytes=8)
    assert [result.tensor(name).tolist() for name in ("a", "b", "a")] == [[1.5]] * 3
    with pytest.raises(ConvertError, match="too much memory"):
        result.tensor("c")


def test_a_string_is_read_and_its_checksum_proven(tmp_path: Path) -> None:
    text = b"graph of objects"
    sums = struct.pack("<I", len(text)) + b"sums"
    stored = bytes([len(text)]) + b"sums" + text
    entry = tables.entry(sums + text, (), size=len(stored), dtype=7)
    assert bundle(tmp_path, entry, stored).text("w") == text
    with pytest.raises(ConvertError, match="string 'w'"):
        bundle(tmp_path, entry, stored[:-1] + b"X").text("w")


# --- the table ------------------------------------------------------------------------------------


def test_checksums_are_castagnolis_masked_as_leveldb_does() -> None:
    """RFC 3720, B.4; the mask rotates the sum by 15 bits and adds a constant."""
    for data, crc in ((b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"", 0)):
        rotated = (crc >> 15 | crc << 17) & 0xFFFFFFFF
        assert masked_crc(memoryview(data)) == (rotated + 0xA282EAD8) & 0xFFFFFFFF


def test_a_compressed_table_is_refused_with_the_way_out() -> None:
    packed = tables.table_of(tables.block(b"\x05\x10hello", kind=1))
    with pytest.raises(ConvertError, match=r"compressed; save the checkpoint again"):
        read_table(packed)


def test_an_empty_block_listed_many_times_costs_no_hours() -> None:
    empty = tables.block(struct.pack("<I", 0).rjust(4 * (1 << 20), b"\0")[:-4] + b"\xff\xff\x0f\0")
    with pytest.raises(ConvertError, match="many times"):
        read_table(tables.table_of(empty, listed=1000))


def test_keys_that_share_their_start_are_read() -> None:
    body = b"\0\3\1abc1" + b"\2\2\1de2" + b"\4\0\1" + b"3"
    content = body[:-4] + struct.pack("<II", 0, 1)
    result = read_table(tables.table_of(tables.block(content)))
    assert {key: bytes(value) for key, value in result.items()} == {b"abc": b"1", b"abde": b"2"}


SAME = tables.block(tables.entries({b"a": b"1"}))
ONE = tables.table({b"a": b"1"})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no magic number"),
        (bytes(60), "no magic number"),
        (tables.table_of(SAME, SAME), "do not ascend"),
        (tables.table({b"b": b"1", b"a": b"2"}), "do not ascend"),
        (tables.table_of(tables.block(b"zip", kind=4)), "compressed"),
        (tables.table_of(tables.block(b"")), "too short"),
        (tables.table_of(tables.block(struct.pack("<I", 1 << 30))), "more restarts"),
        (tables.table_of(tables.block(b"\5\0\0" + struct.pack("<II", 0, 1))), "after its block"),
        (tables.table_of(tables.block(b"\0\0\x7f" + struct.pack("<II", 0, 1))), "after its block"),
        (tables.table({b"k" * 5000: b""}), "after its block"),
        (b"x" + ONE[1:-49] + b"\xff" + ONE[-48:], "checksum of a block"),
        (ONE[-48:], "ends after the file"),
    ],
)
def test_a_broken_table_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        read_table(data)


with zipfile.ZipFile(RECORDINGS / f"{AGE}.zip") as _packed:
    WHOLE = _packed.read(INDEX)


def test_an_index_cut_anywhere_is_refused() -> None:
    for size in {*range(60), *range(60, len(WHOLE), 400), len(WHOLE) - 1}:
        with pytest.raises(ConvertError):
            read_table(WHOLE[:size])


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, len(WHOLE) - 1), mask=st.integers(1, 255))
def test_a_flipped_byte_of_an_index_is_refused_or_does_not_matter(place: int, mask: int) -> None:
    broken = bytearray(WHOLE)
    broken[place] ^= mask
    with suppress(ConvertError):
        assert read_table(bytes(broken)).keys() == read_table(WHOLE).keys()


def fuzzed(tmp: Path, pieces: list[bytes], make: Callable[[bytes], bytes]) -> None:
    (tmp / "x.index").write_bytes(tables.table_of(*(make(piece) for piece in pieces)))
    with suppress(ConvertError):
        result: Any = Bundle("x", files(tmp))
        for name in ("w", "a", ""):
            with suppress(ConvertError):
                result.tensor(name)
            with suppress(ConvertError):
                result.text(name)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_noise_behind_checksums_that_hold_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = Path(tmp_path_factory.getbasetemp()) / "noise"
    where.mkdir(exist_ok=True)
    (where / "x.data-00000-of-00001").write_bytes(FOUR)
    good = tables.entries({b"": tables.header(), b"w": tables.entry(FOUR, (1,))})
    broken = bytearray(good)
    for place, mask in data.draw(
        st.lists(st.tuples(st.integers(0, len(good) - 1), st.integers(1, 255)), max_size=4)
    ):
        broken[place] ^= mask
    kind = data.draw(st.sampled_from([0, 0, 1]))
    noise = data.draw(st.lists(st.binary(max_size=60), max_size=2))
    pieces = [bytes(broken), *noise]
    fuzzed(where, pieces, lambda piece: tables.block(piece, kind=kind))
