"""The archive of a backup: any changed byte, any cut and any other file is refused."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_cli.data import archive
from compreface_cli.data.archive import Reader, Writer
from compreface_cli.data.plain_tar import BrokenArchive, member

_MANIFEST = b'{"schema": 1}\n'
_SMALL = 700  # bytes of a piece in these tests


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "CHUNK", _SMALL)


def _written(dump: bytes, manifest: bytes = _MANIFEST, build: bytes | None = None) -> bytes:
    return b"".join(Writer(manifest, build, io.BytesIO(dump)).pieces())


class _Dripping:
    """A pipe that gives a few bytes at a time."""

    def __init__(self, raw: bytes, most: int) -> None:
        self._stream, self._most = io.BytesIO(raw), most

    def read(self, size: int, /) -> bytes:
        return self._stream.read(min(size, self._most))


def _read(raw: bytes, most: int = 1 << 20) -> tuple[bytes, bytes | None, bytes]:
    reader = Reader(_Dripping(raw, most))
    dump = b"".join(reader.dump())
    assert reader.sums.bytes == len(raw)
    return reader.manifest, reader.build, dump


def _refused(raw: bytes) -> str:
    with pytest.raises(BrokenArchive) as refused:
        _read(raw)
    return str(refused.value)


@given(
    dump=st.binary(max_size=4 * _SMALL),
    manifest=st.binary(max_size=1500),
    build=st.none() | st.binary(max_size=600),
    most=st.integers(1, 2000),
)
def test_what_is_written_is_read(
    dump: bytes, manifest: bytes, build: bytes | None, most: int
) -> None:
    raw = b"".join(Writer(manifest, build, _Dripping(dump, most)).pieces())
    assert raw == _written(dump, manifest, build)
    assert _read(raw, most) == (manifest, build, dump)


@pytest.mark.parametrize("dump", [b"", b"x" * _SMALL, b"y" * (2 * _SMALL + 3)])
def test_one_changed_byte_anywhere_is_refused(dump: bytes) -> None:
    raw = _written(dump, build=b"name: own\n")
    for place in range(len(raw)):
        damaged = bytearray(raw)
        damaged[place] ^= 1 << place % 8
        _refused(bytes(damaged))


def test_a_cut_anywhere_and_a_byte_more_are_refused() -> None:
    raw = _written(b"z" * (_SMALL + 1))
    for length in range(len(raw)):
        _refused(raw[:length])
    _refused(raw + b"\0")


@given(st.data())
def test_members_left_out_doubled_or_reordered_are_refused(data: st.DataObject) -> None:
    raw = _written(bytes(range(256)) * 10)
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        members = [raw[item.offset : item.offset_data + -(-item.size // 512) * 512] for item in tar]
    chosen = data.draw(st.lists(st.sampled_from(members), max_size=len(members) + 1))
    if chosen != members:
        end = bytes(1024)
        body = b"".join(chosen)
        _refused(body + end + bytes(-len(body + end) % 10240))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("../../etc/passwd", 10),
        ("/etc/passwd", 10),
        ("database/000001", 1 << 40),
        ("database/000001", 0),
        ("database/000002", 10),
        ("export.json", 10),
        ("checksums.json", 1 << 33),
    ],
)
def test_other_members_and_huge_sizes_are_refused_at_their_header(name: str, size: int) -> None:
    manifest = b"".join(member(archive.MANIFEST, _MANIFEST))
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o600
    block = header.tobuf(tarfile.GNU_FORMAT)

    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            raw = super().read(size)
            self.taken += len(raw)
            return raw

    stream = Counted(manifest + block + bytes(1 << 20))
    with pytest.raises(BrokenArchive):
        for _ in Reader(stream).dump():
            pass
    assert stream.taken <= len(manifest) + len(block)


def test_other_files_are_refused() -> None:
    raw = _written(b"dump")
    assert "gzip" in _refused(gzip.compress(raw))
    for other in (b"", b"PGDMP\x01", b"\0" * 10240, b"age-encryption.org/v1\n" * 100, b"[" * 9999):
        _refused(other)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        item = tarfile.TarInfo("link")
        item.type, item.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(item)
    _refused(buffer.getvalue())


def test_a_manifest_that_is_too_large_is_not_written() -> None:
    with pytest.raises(BrokenArchive):
        Writer(bytes(archive.MAX_MANIFEST + 1), None, io.BytesIO())


def test_tar_reads_it(tmp_path: Path) -> None:
    dump = bytes(range(256)) * 20
    path = tmp_path / "faces.cfbackup"
    path.write_bytes(_written(dump))
    listed = subprocess.run(
        ["tar", "xOf", path, "--wildcards", "database/*"], capture_output=True, check=True
    )
    assert listed.stdout == dump
    sums = subprocess.run(["tar", "xOf", path, "checksums.json"], capture_output=True, check=True)
    assert json.loads(sums.stdout)["database"]["bytes"] == len(dump)
