"""A member of an archive is taken whole and within bounds, or refused with the reason."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compreface_cli.errors import FetchError
from compreface_cli.models import archives
from compreface_cli.models.archives import extract
from compreface_cli.models.tar_stream import Bounds, Refused
from tests.shared import ROOT

DATA = bytes(range(256)) * 300
PACKED = {"zip": [""], "tar": ["", "gz", "xz"]}
EVERY = [(form, packed) for form, kinds in PACKED.items() for packed in kinds]


def tar(members: Sequence[tuple[tarfile.TarInfo | str, bytes]], packed: str = "") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, data in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    content = stream.getvalue()
    if packed == "gz":
        return gzip.compress(content)
    return lzma.compress(content) if packed else content


def zipped(members: Sequence[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members:
            archive.writestr(member, data)
    return stream.getvalue()


def made(form: str, packed: str, members: Sequence[tuple[str, bytes]]) -> bytes:
    return zipped(members) if form == "zip" else tar(members, packed)


def take(
    folder: Path, form: str, content: bytes, *paths: str, bounds: Bounds | None = None
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files that were taken, and why the others were refused."""
    archive, out = folder / "archive", folder / "out"
    archive.write_bytes(content)
    out.mkdir(exist_ok=True)
    wanted = {path: out / str(number) for number, path in enumerate(paths)}
    try:
        refused = extract(archive, form, wanted, bounds=bounds)
    finally:
        assert not list(out.glob("*.draft"))
    assert {path for path in paths if not wanted[path].exists()} == set(refused)
    return {p: wanted[p].read_bytes() for p in paths if p not in refused}, refused


@pytest.mark.parametrize(("form", "packed"), EVERY)
def test_members_are_taken_by_path_and_by_pattern(form: str, packed: str, tmp_path: Path) -> None:
    members = [("./a/m.onnx", DATA), ("a/x-symbol.json", b"graph"), ("b/x-symbol.json", b"other")]
    content = made(form, packed, members)
    taken, refused = take(tmp_path, form, content, "a/m.onnx", "a/*-symbol.json")
    assert taken == {"a/m.onnx": DATA, "a/*-symbol.json": b"graph"}
    assert not refused


@pytest.mark.parametrize(("form", "packed"), EVERY)
def test_what_is_missing_or_ambiguous_is_refused_and_the_rest_is_taken(
    form: str, packed: str, tmp_path: Path
) -> None:
    content = made(form, packed, [("a/m.onnx", DATA), ("a/n.onnx", DATA), ("b/m.params", b"x")])
    taken, refused = take(tmp_path, form, content, "a/*.onnx", "a/absent", "b/m.params", "b/*")
    assert taken == {"b/m.params": b"x", "b/*": b"x"}
    assert "a/m.onnx and a/n.onnx" in refused["a/*.onnx"]
    assert "a/absent" in refused["a/absent"]


@pytest.mark.parametrize(("form", "packed"), EVERY)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_member_that_is_there_twice_is_ambiguous(form: str, packed: str, tmp_path: Path) -> None:
    content = made(form, packed, [("m", b"one"), ("m", b"two")])
    assert "m" in take(tmp_path, form, content, "m")[1]


@pytest.mark.parametrize(("form", "packed"), EVERY)
@pytest.mark.parametrize("name", ["../m", "a/../../m"])
def test_a_name_out_of_the_archive_is_refused(
    form: str, packed: str, name: str, tmp_path: Path
) -> None:
    content = made(form, packed, [("good", DATA), (name, DATA)])
    with pytest.raises(Refused, match=r"\.\."):
        take(tmp_path, form, content, "good")
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "out"}
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["/m", "//m"])
def test_a_leading_slash_is_not_part_of_a_name(name: str, tmp_path: Path) -> None:
    for form in ("zip", "tar"):
        assert take(tmp_path, form, made(form, "", [(name, DATA)]), "m")[0] == {"m": DATA}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, b"9"]
)
def test_only_plain_files_of_a_tar_are_taken(kind: bytes, tmp_path: Path) -> None:
    link = tarfile.TarInfo("link")
    link.type, link.linkname = kind, "/etc/passwd"
    taken, refused = take(tmp_path, "tar", tar([(link, b""), ("m", DATA)]), "link", "m")
    assert "link" in refused["link"]
    assert taken == {"m": DATA}


def test_a_folder_is_no_match_of_a_pattern_and_no_file(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("a/sub")
    folder.type = tarfile.DIRTYPE
    of_tar = tar([(folder, b""), ("a/m", DATA)])
    of_zip = zipped([("a/sub/", b""), ("a/m", DATA)])
    for form, content in (("tar", of_tar), ("zip", of_zip)):
        taken, refused = take(tmp_path, form, content, "a/*", "a/sub")
        assert taken == {"a/*": DATA}
        assert "folder" in refused["a/sub"]


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    assert "link" in take(tmp_path, "zip", zipped([(link, b"/etc/passwd")]), "link")[1]["link"]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped([("m", DATA)]))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    assert "encrypted" in take(tmp_path, "zip", bytes(content), "m")[1]["m"]


def test_a_rare_method_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("m", DATA)
    assert "deflate" in take(tmp_path, "zip", stream.getvalue(), "m")[1]["m"]


@pytest.mark.parametrize(("form", "packed"), EVERY)
def test_a_member_beyond_the_bound_is_refused(form: str, packed: str, tmp_path: Path) -> None:
    content = made(form, packed, [("large", bytes(5 << 20)), ("m", DATA)])
    taken, refused = take(
        tmp_path, form, content, "large", "m", bounds=Bounds(member_bytes=1 << 20)
    )
    assert str(1 << 20) in refused["large"]
    assert taken == {"m": DATA}


@pytest.mark.parametrize("packed", PACKED["tar"])
def test_a_tar_that_unpacks_beyond_the_bound_is_refused(packed: str, tmp_path: Path) -> None:
    content = tar([("bomb", bytes(5 << 20)), ("m", DATA)], packed)
    with pytest.raises(Refused, match=str(1 << 20)):
        take(tmp_path, "tar", content, "m", bounds=Bounds(unpacked_bytes=1 << 20))


@pytest.mark.parametrize(("form", "packed"), EVERY)
def test_reading_has_a_bound_of_time(form: str, packed: str, tmp_path: Path) -> None:
    content = made(form, packed, [("m", DATA)])
    with suppress(Refused):
        assert take(tmp_path, form, content, "m", bounds=Bounds(total_s=-1))[1]


@pytest.mark.parametrize(("form", "packed"), EVERY)
def test_a_file_without_room_is_an_error_of_the_disk(
    form: str, packed: str, tmp_path: Path
) -> None:
    content = made(form, packed, [("m", DATA)])
    with (
        mock.patch("shutil.disk_usage", return_value=mock.Mock(free=5)),
        pytest.raises(FetchError, match=str(len(DATA))),
    ):
        take(tmp_path, form, content, "m")


@pytest.mark.parametrize(("form", "packed"), EVERY)
def test_a_cut_archive_is_refused(form: str, packed: str, tmp_path: Path) -> None:
    noise = random.Random(7).randbytes(200_000)
    content = made(form, packed, [("m", noise)])
    with pytest.raises(Refused, match=form):
        take(tmp_path, form, content[:100_000], "m")


@pytest.mark.parametrize("form", PACKED)
@pytest.mark.parametrize(
    "content", [b"", b"<html>sign in</html>", b"\x1f\x8b", b"\xfd7zXZ\0", b"PK"]
)
def test_another_file_is_no_archive(form: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=form):
        take(tmp_path, form, content, "m")


@pytest.mark.parametrize("head", [b"BZh91AY", b"\x28\xb5\x2f\xfd"])
def test_another_compression_is_named(head: bytes, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="gzip and xz"):
        take(tmp_path, "tar", head + DATA, "m")


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    stored = zipfile.ZipInfo("m")
    content = bytearray(zipped([(stored, DATA)]))
    content[content.index(DATA) + 9] ^= 1
    with pytest.raises(Refused, match="CRC"):
        take(tmp_path, "zip", bytes(content), "m")


def test_a_member_before_the_archives_beginning_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped([("m", DATA)]))
    where = int.from_bytes(content[-6:-2], "little") + 1000  # of the directory
    content[-6:-2] = where.to_bytes(4, "little")
    with pytest.raises(Refused, match="zip"):
        take(tmp_path, "zip", bytes(content), "m")


def test_a_header_that_wants_much_memory_is_refused(tmp_path: Path) -> None:
    long = tarfile.TarInfo("x" * (2 << 20))
    with pytest.raises(Refused, match="header"):
        take(tmp_path, "tar", tar([(long, b""), ("m", DATA)], "gz"), "m")
    with (
        mock.patch.object(archives, "_DIRECTORY_BYTES", 200),
        pytest.raises(Refused, match="directory"),
    ):
        take(tmp_path, "zip", zipped([(f"m{n}", b"") for n in range(20)]), "m1")


def test_an_xz_stream_may_not_take_all_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]
    content = lzma.compress(tar([("m", b"small")]), filters=filters)
    with pytest.raises(Refused, match=r"[Mm]emory"):
        take(tmp_path, "tar", content, "m")


@given(st.data())
def test_any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    import tempfile

    form, packed = data.draw(st.sampled_from(EVERY))
    content = bytearray(made(form, packed, [("a/m", b"x" * 3000), ("b", b"y")]))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder, suppress(Refused):
        take(Path(folder), form, bytes(content), "a/m", "b", "c/*")


@pytest.mark.slow
@pytest.mark.parametrize(("form", "packed"), [("zip", ""), ("tar", "gz"), ("tar", "xz")])
def test_a_large_member_takes_little_memory(form: str, packed: str, tmp_path: Path) -> None:
    content = made(form, packed, [("m", bytes(200 << 20))])
    (tmp_path / "archive").write_bytes(content)
    script = (
        "import sys, resource, pathlib\n"
        "from compreface_cli.models.archives import extract\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "assert extract(folder / 'archive', sys.argv[2], {'m': folder / 'm'}) == {}\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), form],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert int(done.stdout) < 30 << 10, "KiB"
    assert (tmp_path / "m").stat().st_size == 200 << 20
