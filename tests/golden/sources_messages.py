"""Sources of a model's files: their grammar, archives, proofs and alternatives."""

from __future__ import annotations

import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.errors import CfError
from compreface_cli.models import archives, proofs
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.sources import parse
from compreface_cli.models.tar_stream import Bounds
from tests.cli.lying_server import Answer, lying_server
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model
from tests.golden.models_messages import NOBODY, OTHER, QUICK

Case = Callable[[Path], object]

DIGEST = "0123456789abcdef" * 4
PACK = f"zip+{NOBODY}@sha256:{DIGEST}/pack/m.onnx"


def _line(text: str) -> Case:
    return lambda _: parse(text)


def _zip(*members: zipfile.ZipInfo | str, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for member in members:
            archive.writestr(member, WEIGHTS, method)
    return stream.getvalue()


def _tar(*members: tarfile.TarInfo | str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(WEIGHTS) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(WEIGHTS))
    return stream.getvalue()


def _kind(member: tarfile.TarInfo, kind: bytes) -> tarfile.TarInfo:
    member.type = kind
    return member


def _extract(form: str, content: bytes, path: str = "m", **bounds: Any) -> Case:
    """Why the member is not taken."""

    def case(folder: Path) -> object:
        (folder / "archive").write_bytes(content)
        wanted = {path: folder / "m"}
        return archives.extract(folder / "archive", form, wanted, bounds=Bounds(**bounds))[path]

    return case


def _encrypted() -> bytes:
    content = bytearray(_zip("m"))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + flags] |= 1
    return bytes(content)


def _link() -> zipfile.ZipInfo:
    link = zipfile.ZipInfo("m")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return link


def _large_directory(folder: Path) -> object:
    with mock.patch.object(archives, "_DIRECTORY_BYTES", 100):
        return _extract("zip", _zip("m", "n", "o"))(folder)


def _of(*sources: str, sha256: tuple[str, ...] = (), **changes: Any) -> Model:
    return a_model(files=(ModelFile("own/mine.onnx", sha256, sources),), **changes)


def _ensure(model: Model, change: Callable[[Bench], object] = lambda bench: None) -> Case:
    """The notes and the error of preparing it."""

    def case(folder: Path) -> object:
        bench = Bench(folder)
        change(bench)
        try:
            bench.ensure(model, limits=QUICK)
        except CfError as error:
            error.message = "\n".join([*(f"note: {note}" for note in bench.notes), error.message])
            raise
        return "\n".join(bench.notes)

    return case


def _from_pack(*, listed: tuple[str, ...] = (), first: str = "", member: str = "m") -> Case:
    """The error of a model whose archive is right; `first`: its hash at the first fetch."""

    def case(folder: Path) -> object:
        import hashlib

        content = _zip("pack/m.onnx")
        with lying_server([Answer(content)]) as server:
            digest = hashlib.sha256(content).hexdigest()
            source = f"zip+{server.url}/pack.zip@sha256:{digest}/pack/{member}.onnx"
            model = _of(source, sha256=listed)

            def change(bench: Bench) -> None:
                if first:
                    proofs.record(bench.places.proven, "mine", "own/mine.onnx", source, first)

            try:
                return _ensure(model, change)(folder)
            except CfError as error:
                error.message = error.message.replace(digest, "DIGEST")
                raise

    return case


def _record(content: str) -> Callable[[Bench], object]:
    def change(bench: Bench) -> None:
        bench.places.proven.parent.mkdir()
        bench.places.proven.write_text(content)

    return change


CASES: Final[Mapping[str, Case]] = {
    # The grammar
    "source: another kind": _line("ftp://example.org/m.onnx"),
    "source: spaces": _line("https://example.org/my model.onnx"),
    "source: no host": _line("https:///m.onnx"),
    "source: no port": _line("https://example.org:port/m.onnx"),
    "source: an archive without a hash": _line("zip+https://example.org/p.zip/m.onnx"),
    "source: an image by its tag": _line("oci://docker.io/exadel/compreface-core:1.2.0/m.pb"),
    "source: a layer of two lines": _line(f"oci://docker.io/x/y@sha256:{DIGEST}/m.pb#a\nb"),
    "source: a branch": _line("git+https://github.com/owner/repository@main/m.onnx"),
    "source: an unknown host": _line(f"git+https://example.org/o/r@{DIGEST[:40]}/m.onnx"),
    "source: a path out of it": _line(f"tar+https://e.org/p.tar@sha256:{DIGEST}/../m"),
    "source: a star in a folder": _line(f"oci://docker.io/x/y@sha256:{DIGEST}/*/m.pb"),
    "source: a star in a repository": _line(f"git+https://github.com/o/r@{DIGEST[:40]}/*.pb"),
    # Archives
    "archive: no zip": _extract("zip", b"<html>"),
    "archive: no tar": _extract("tar", b"<html>" * 200),
    "archive: cut": _extract("tar", _tar("m")[:900]),
    "archive: missing": _extract("zip", _zip("n")),
    "archive: several": _extract("tar", _tar("n1", "n2"), "*"),
    "archive: a name out of it": _extract("tar", _tar("../m")),
    "archive: a folder": _extract("zip", _zip("m/"), "m"),
    "archive: a link in a zip": _extract("zip", _zip(_link())),
    "archive: a link in a tar": _extract("tar", _tar(_kind(tarfile.TarInfo("m"), tarfile.SYMTYPE))),
    "archive: encrypted": _extract("zip", _encrypted()),
    "archive: another method": _extract("zip", _zip("m", method=zipfile.ZIP_BZIP2)),
    "archive: another compression": _extract("tar", b"BZh91AY&SY"),
    "archive: too large": _extract("zip", _zip("m"), member_bytes=100),
    "archive: unpacks to too much": _extract("tar", lzma.compress(_tar("m")), unpacked_bytes=100),
    "archive: takes too long": _extract("tar", _tar("m"), total_s=-1),
    "archive: a zip takes too long": _extract("zip", _zip("m"), total_s=-1),
    "archive: a long header": _extract("tar", _tar("x" * (2 << 20))),
    "archive: a large directory": _large_directory,
    # Proofs
    "proof: another hash than the entry lists": _from_pack(listed=(DIGEST,)),
    "proof: another file than at first": _from_pack(first=DIGEST),
    "proof: a missing member": _from_pack(member="n"),
    "proof: an unreadable record": _ensure(_of(PACK), _record("{")),
    "proof: a record without tables": _ensure(_of(PACK), _record('{"mine": {"own/mine.onnx": 1}}')),
    "proof: another file in the mirror": _ensure(
        _of(PACK), lambda bench: bench.put("own/mine.onnx", OTHER)
    ),
    # Alternatives
    "alternatives: none": _ensure(
        replace(_of(NOBODY, sha256=(SHA,)), alternatives=(_of(format="mxnet"),))
    ),
    "alternatives: all are out of reach": _ensure(
        replace(
            _of("https://nowhere.invalid/m.onnx", sha256=(SHA,)),
            alternatives=(_of(NOBODY, format="mxnet"),),
        )
    ),
    "alternatives: all are wrong": _ensure(
        replace(_of(sha256=(SHA,)), alternatives=(_of(format="tflite"),)),
        lambda bench: bench.put("own/mine.onnx", OTHER),
    ),
}
