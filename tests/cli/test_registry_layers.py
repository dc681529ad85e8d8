"""What a layer may hold: whiteouts, links, names and sizes that lead nowhere they should not."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compreface_cli.models.registry import Bounds
from compreface_cli.models.registry.layer import Search
from compreface_cli.models.registry.manifest import Unusable
from tests.cli.lying_registry import ZSTD, LyingRegistry, Member, image, tar
from tests.cli.test_registry_fetch import files, get, place, refused, server

__all__ = ["place", "server"]  # fixtures
A = Member("app/a.pb", b"lower")


def test_a_file_that_an_upper_layer_removes_is_missing(server: LyingRegistry, place: Path) -> None:
    parts = image(tar(A), tar(Member("app/.wh.a.pb")))
    error = refused(server.reference(parts), place, "app/a.pb")
    assert "app/a.pb" in error.message
    assert len(server.paths("/blobs/")) == 1  # the lower layer is not asked for


@pytest.mark.parametrize("name", [".wh.app", "app/.wh.ml", "app/ml/.wh..wh..opq", ".wh..wh..opq"])
def test_a_file_in_a_folder_that_an_upper_layer_removes_is_missing(
    server: LyingRegistry, place: Path, name: str
) -> None:
    parts = image(tar(Member("app/ml/a.pb", b"x")), tar(Member(name)))
    refused(server.reference(parts), place, "app/ml/a.pb")


@pytest.mark.parametrize(
    "name", ["app/.wh.b.pb", "app/.wh.a", "lib/.wh..wh..opq", "app/a.pb.d/.wh..wh..opq", ".wh.ap"]
)
def test_a_whiteout_of_another_file_hides_nothing(
    server: LyingRegistry, place: Path, name: str
) -> None:
    get(server.reference(image(tar(A), tar(Member(name)))), place, "app/a.pb")
    assert (place / "0").read_bytes() == b"lower"


def test_a_file_beside_its_whiteout_is_the_upper_one(server: LyingRegistry, place: Path) -> None:
    upper = tar(Member("app/.wh..wh..opq"), Member("app/a.pb", b"upper"), Member("app/.wh.a.pb"))
    get(server.reference(image(tar(A), upper)), place, "app/a.pb")
    assert (place / "0").read_bytes() == b"upper"


def test_a_pattern_does_not_match_a_removed_file(server: LyingRegistry, place: Path) -> None:
    lower = tar(Member("app/1.pb", b"1"), Member("app/2.pb", b"2"))
    get(server.reference(image(lower, tar(Member("app/.wh.1.pb")))), place, "app/*.pb")
    assert (place / "0").read_bytes() == b"2"


def test_a_pattern_with_two_matches_names_both(server: LyingRegistry, place: Path) -> None:
    parts = image(tar(Member("app/1.pb", b"1"), Member("app/2.pb", b"2")))
    message = refused(server.reference(parts), place, "app/*.pb").message
    assert "app/1.pb" in message
    assert "app/2.pb" in message


def test_a_pattern_matches_within_its_folder_only(server: LyingRegistry, place: Path) -> None:
    rows = [Member("app/x/1.pb"), Member("app/1.pbx"), Member("app/.pb", b"own")]
    folder = Member("app/folder.pb", type=tarfile.DIRTYPE)
    get(server.reference(image(tar(*rows, folder))), place, "app/*.pb")
    assert (place / "0").read_bytes() == b"own"


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, b"Z"],
)
def test_a_wanted_path_that_is_no_plain_file_is_refused(
    server: LyingRegistry, place: Path, kind: bytes
) -> None:
    row = Member("app/a.pb", type=kind, link="/etc/passwd")
    refused(server.reference(image(tar(Member("app/a.pb", b"x"), row))), place, "app/a.pb")


@pytest.mark.parametrize("name", ["app", "app/ml"])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.REGTYPE])
def test_a_path_behind_a_link_or_file_is_refused(
    server: LyingRegistry, place: Path, name: str, kind: bytes
) -> None:
    lower, upper = tar(Member("app/ml/a.pb", b"x")), tar(Member(name, type=kind, link="/etc"))
    assert name in refused(server.reference(image(lower, upper)), place, "app/ml/a.pb").message


@pytest.mark.parametrize("name", ["../a.pb", "app/../app/a.pb", "/../etc/passwd", "app/.."])
def test_dots_in_a_name_are_refused(server: LyingRegistry, place: Path, name: str) -> None:
    refused(server.reference(image(tar(A, Member(name, b"evil")))), place, "app/a.pb")
    assert files(place.parent.parent / "weights") == []


@pytest.mark.parametrize("name", ["/app/a.pb", "./app/a.pb", "//app//./a.pb"])
def test_names_with_a_leading_slash_or_dot_are_those_of_the_image(
    server: LyingRegistry, place: Path, name: str
) -> None:
    get(server.reference(image(tar(Member(name, b"x")))), place, "app/a.pb")
    assert (place / "0").read_bytes() == b"x"


def test_long_names_are_read(server: LyingRegistry, place: Path) -> None:
    name = "/".join(["folder" * 20] * 9) + "/\u00e4.pb"
    get(server.reference(image(tar(Member(name, b"x")))), place, name)
    assert (place / "0").read_bytes() == b"x"


@pytest.mark.parametrize("size", [1 << 19, 1 << 21])
def test_a_header_is_read_up_to_a_limit(server: LyingRegistry, place: Path, size: int) -> None:
    reference = server.reference(image(tar(Member("x" * size), A)))
    if size < 1 << 20:
        get(reference, place, "app/a.pb")
    else:
        assert str(1 << 20) in refused(reference, place, "app/a.pb").message


def gnu(declared: int, typeflag: bytes = tarfile.REGTYPE) -> bytes:
    """A tar whose only header states this size, in GNU's form."""
    row = tarfile.TarInfo("app/a.pb")
    row.size, row.type = declared, typeflag
    return row.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nonsense" * 500,
        gnu(1 << 40) + b"short",
        gnu(-512) + b"\0" * 1024,
        gnu(1 << 33, tarfile.GNUTYPE_LONGNAME),
        gnu(1 << 33, tarfile.XHDTYPE),
        gnu(1 << 20, tarfile.GNUTYPE_LONGNAME) + b"x" * (1 << 21),
        gnu(512, tarfile.XHDTYPE) + b"99999999999999999999 size=1\n".ljust(512, b"\0"),
        b"".join(gnu(512, tarfile.XHDTYPE) + b"9 a=b c\n".ljust(512, b"\0") for _ in range(2500)),
        tar(A)[:700],
        gnu(5, tarfile.GNUTYPE_SPARSE) + b"\0" * 2048,
    ],
    ids=range(11),
)
@pytest.mark.parametrize("wrap", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_damaged_or_hostile_layer_is_refused(
    server: LyingRegistry, place: Path, content: bytes, wrap: Callable[[bytes], bytes]
) -> None:
    parts = image(wrap(content), packed=True)
    refused(server.reference(parts), place, "app/a.pb")
    assert files(place.parent.parent / "layers") == []


@pytest.mark.parametrize("cut", [20, 200, -8, -1])
def test_a_layer_whose_gzip_is_cut_or_wrong_is_refused(
    server: LyingRegistry, place: Path, cut: int
) -> None:
    whole = gzip.compress(tar(Member("app/a.pb", bytes(range(256)) * 99)), mtime=0)
    parts = image(whole[:cut] if cut > 0 else whole[:20], packed=True)
    refused(server.reference(parts), place, "app/a.pb")


def test_zstd_is_refused_by_name(server: LyingRegistry, place: Path) -> None:
    assert "zstd" in refused(server.reference(image(ZSTD + b"x", packed=True)), place, "a").message


def test_a_layer_without_compression_is_read(server: LyingRegistry, place: Path) -> None:
    get(server.reference(image(tar(A), packed=True)), place, "app/a.pb")
    assert (place / "0").read_bytes() == b"lower"


def test_a_file_beyond_the_limit_is_refused(server: LyingRegistry, place: Path) -> None:
    reference = server.reference(image(tar(A)))
    assert "5 bytes" in refused(reference, place, "app/a.pb", bounds=Bounds(member_bytes=4)).message
    get(reference, place, "app/a.pb", bounds=Bounds(member_bytes=5))


def test_a_bomb_ends_at_the_limit(server: LyingRegistry, place: Path) -> None:
    bomb = io.BytesIO()
    with gzip.GzipFile(fileobj=bomb, mode="wb") as stream:
        stream.write(gnu(1 << 28))
        for _ in range(1 << 8):
            stream.write(bytes(1 << 20))
    parts = image(bomb.getvalue(), packed=True)
    limit = Bounds(unpacked_bytes=1 << 24)
    error = refused(server.reference(parts), place, "app/other.pb", bounds=limit)
    assert str(1 << 24) in error.message
    assert len(parts.contents[parts.layers[0]]) < 1 << 20


@given(data=st.binary(max_size=4000), where=st.integers(0, 3000))
@settings(max_examples=200, deadline=None)
def test_any_bytes_give_the_file_or_an_error(data: bytes, where: int) -> None:
    whole = bytearray(tar(Member("x", b"a" * 600), A, Member("y" * 200)))
    whole[where : where + len(data)] = data
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "a"
        search = Search({"app/a.pb": target}, Bounds(total_s=20))
        try:
            search.layer(io.BytesIO(bytes(whole)))
        except Unusable:
            return
        assert search.open or target.is_file()
