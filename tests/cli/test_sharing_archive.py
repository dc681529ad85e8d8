"""The tar of an exported build: equal bytes for equal content, and nothing unexpected is read."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from compreface_cli.sharing import archive
from compreface_cli.sharing.archive import BrokenArchive

TEXTS = {archive.MANIFEST: b"{}\n", archive.BUILD: b"schema: 1\n"}


def written(files: dict[str, Path] | None = None) -> bytes:
    stream = io.BytesIO()
    archive.write(stream, TEXTS, files or {})
    return stream.getvalue()


def entry(name: str, data: bytes = b"", **changes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    return info, data


def tar(*entries: tuple[tarfile.TarInfo, bytes], format: int = tarfile.USTAR_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=format) as made:
        for info, data in entries:
            made.addfile(info, io.BytesIO(data))
    return stream.getvalue()


HEAD = (entry(archive.MANIFEST, b"{}\n"), entry(archive.BUILD, b"schema: 1\n"))


def refused(data: bytes) -> str:
    taken: list[str] = []

    def sink(path: str) -> io.BytesIO:
        taken.append(path)
        return io.BytesIO()

    with pytest.raises(BrokenArchive) as error:
        archive.read(io.BytesIO(data), sink)
    return str(error.value)


def test_equal_content_gives_equal_bytes_and_is_read_back(tmp_path: Path) -> None:
    for name, data in {"a.onnx": b"one", "b/c.onnx": b"x" * 70_000}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    files = {"b/c.onnx": tmp_path / "b/c.onnx", "a.onnx": tmp_path / "a.onnx"}
    first = written(files)
    (tmp_path / "a.onnx").touch()
    (tmp_path / "a.onnx").chmod(0o600)
    assert written(dict(reversed(files.items()))) == first

    parts: dict[str, io.BytesIO] = {}

    class Kept(io.BytesIO):
        def close(self) -> None:
            pass

    def sink(path: str) -> io.BytesIO:
        parts[path] = Kept()
        return parts[path]

    contents = archive.read(io.BytesIO(first), sink)
    assert contents.texts == TEXTS
    assert {path: part.getvalue() for path, part in parts.items()} == {
        "a.onnx": b"one",
        "b/c.onnx": b"x" * 70_000,
    }
    assert contents.files["a.onnx"][0] == 3
    with tarfile.open(fileobj=io.BytesIO(first)) as plain:  # tar itself reads it too
        assert plain.getnames() == [*TEXTS, "models/a.onnx", "models/b/c.onnx"]


@pytest.mark.parametrize(
    "path",
    [
        "../a.onnx", "models/../../a", "models/a/../../b", "/etc/passwd", "models//a", "models/./a",
        "models/", "models", "other/a", "models/a\\b", "models/C:/a", "models/~/../a",
        "models/a\nb", "export.json", "models/" + "a/" * 40 + "..",
    ],
)  # fmt: skip
def test_names_outside_of_the_layout_are_refused(path: str) -> None:
    assert refused(tar(*HEAD, entry(path, b"data")))


@pytest.mark.parametrize(
    "type",
    [
        tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
        tarfile.BLKTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.AREGTYPE,
    ],
)  # fmt: skip
def test_only_regular_files_are_read(type: bytes) -> None:
    info, _ = entry("models/a.onnx", b"", type=type, linkname="/etc/passwd")
    block = info.tobuf(tarfile.USTAR_FORMAT)
    start = tar(*HEAD)[: 4 * tarfile.BLOCKSIZE]
    assert "models/a.onnx" in refused(start + block + bytes(2 * tarfile.BLOCKSIZE))


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_extended_headers_are_refused(format: int) -> None:
    assert refused(tar(*HEAD, entry("models/" + "n" * 120, b"data"), format=format))


@pytest.mark.parametrize(
    "names",
    [
        ("models/a", "models/a"),
        ("models/b", "models/a"),
        ("models/a", "models/a-b", "models/a/b"),
    ],
)
def test_duplicates_and_files_that_are_folders_are_refused(names: tuple[str, ...]) -> None:
    assert repr(names[-1].removeprefix("models/")) in refused(
        tar(*HEAD, *(entry(name, b"data") for name in names))
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[: tarfile.BLOCKSIZE],
        lambda data: data[: tarfile.BLOCKSIZE + 1],
        lambda data: data[: 4 * tarfile.BLOCKSIZE],
        lambda data: data + b"x",
        lambda data: data + bytes(tarfile.RECORDSIZE),
        lambda data: b"PK\x03\x04" + data,
        lambda data: b"<!doctype html>" + bytes(1000),
        lambda data: b"\x1f\x8b" + data,
        lambda data: bytes(2000),
        lambda data: data[:520] + b"x" + data[521:],  # in the padding
        lambda data: data.replace(b"export.json", b"export.jsox"),
    ],
)
def test_cut_damaged_and_other_files_are_refused(make: Callable[[bytes], bytes]) -> None:
    assert refused(make(written()))


def test_the_texts_come_first_and_are_small() -> None:
    assert archive.MANIFEST in refused(tar(*reversed(HEAD)))
    assert archive.BUILD in refused(tar(HEAD[0], entry("models/a", b"")))
    large = entry(archive.BUILD, bytes(archive.MAX_TEXT + 1))
    assert archive.BUILD in refused(tar(HEAD[0], large))


def test_a_size_that_the_file_does_not_have_costs_no_memory() -> None:
    info = tarfile.TarInfo("models/a.onnx")
    info.size = 8 * 1024**3 - 1  # the largest that a plain header states
    start = tar(*HEAD)[: 4 * tarfile.BLOCKSIZE]
    assert refused(start + info.tobuf(tarfile.USTAR_FORMAT) + b"x" * 5000)
    info.size = 8 * 1024**3
    with pytest.raises(ValueError, match="overflow"):
        info.tobuf(tarfile.USTAR_FORMAT)
    gnu = info.tobuf(tarfile.GNU_FORMAT)
    assert refused(start + gnu + b"x" * 5000)


def test_more_files_than_a_build_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_FILES", 2)
    assert refused(tar(*HEAD, *(entry(f"models/{each}", b"") for each in "abc")))


def test_a_whole_file_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 4000)
    assert refused(tar(*HEAD, entry("models/a", bytes(5000))))


def test_a_path_that_no_header_can_hold_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"")
    with pytest.raises(BrokenArchive):
        written({"n" * 150: tmp_path / "m"})
    with pytest.raises(BrokenArchive):
        written({"../m": tmp_path / "m"})
