"""What keeps a file of a container image from this machine."""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.errors import CfError
from compreface_cli.models import registry
from compreface_cli.models.registry import Bounds, session
from compreface_cli.models.registry.reference import Reference
from compreface_cli.models.transfer import Limits
from tests.cli.lying_registry import (
    ZSTD,
    LyingRegistry,
    Member,
    Parts,
    digest_of,
    image,
    index,
    lying_registry,
    tar,
)
from tests.cli.lying_server import Answer
from tests.cli.test_download import Recorder

Case = Callable[[Path], object]
Change = Callable[[LyingRegistry, Parts], object]

QUICK = Limits(connect_s=10, stall_s=10, total_s=60, tries=1, backoff_s=0.0)
PATH = "app/model.pb"
GOOD = image(tar(Member(PATH, b"weights")))
Usage = namedtuple("Usage", "free")


def _fetch(
    parts: Parts = GOOD,
    change: Change = lambda server, parts: None,
    *,
    path: str = PATH,
    hint: str = "",
    bounds: Bounds | None = None,
    limits: Limits = QUICK,
    reference: Reference | None = None,
    **environ: str,
) -> Case:
    """The error of fetching a file from a registry that has this image and was changed so."""

    def case(folder: Path) -> object:
        recorder = Recorder()
        with lying_registry() as server:
            named = server.reference(parts, hint)
            change(server, parts)
            for key, value in environ.items():
                environ[key] = value.replace("REGISTRY", server.host)
            try:
                registry.fetch(
                    reference or named, {path: folder / "weights" / "model.pb"},
                    progress=recorder.progress, note=recorder.note, limits=limits, bounds=bounds,
                    folder=folder / "layers", environ={"HOME": str(folder), **environ},
                )  # fmt: skip
            except CfError as error:
                said = [*(f"note: {note}" for note in recorder.notes), error.message]
                error.message = _steady("\n".join(said))
                raise
        return _steady("\n".join(recorder.notes))

    return case


def _steady(text: str) -> str:
    """Compressed bytes, and so digests, differ between versions of zlib."""
    text = re.sub(r"sha256:[0-9a-f]{64}", "sha256:DIGEST", text)
    text = re.sub(r"SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}", "SHA-256 A, expected B", text)
    text = re.sub(r"\.image-\w+", ".image-NAME", text)
    return re.sub(r"layer [0-9a-f]{12}", "layer DIGEST", text)


def _layer(*members: Member, path: str = PATH, bounds: Bounds | None = None) -> Case:
    return _fetch(image(tar(*members)), path=path, bounds=bounds)


def _login(challenge: str, login: tuple[str, str] | None = ("me", "right")) -> Change:
    def change(server: LyingRegistry, parts: Parts) -> None:
        server.challenge, server.login = challenge, login

    return change


def _token(*answers: Answer) -> Change:
    def change(server: LyingRegistry, parts: Parts) -> None:
        server.challenge = "bearer"
        server.lies["token"] = list(answers)

    return change


def _manifest(*answers: Answer) -> Change:
    def change(server: LyingRegistry, parts: Parts) -> None:
        server.lies[parts.digest] = list(answers)

    return change


def _known(wrong: str) -> Case:
    """The error with kept credentials that the registry does not accept."""

    def case(folder: Path) -> object:
        config = folder / "config.json"
        with lying_registry() as server:
            config.write_text(json.dumps({"auths": {server.host: {"auth": "bWU6d3Jvbmc="}}}))
            named = server.reference(GOOD)
            server.challenge, server.login = wrong, ("me", "right")
            try:
                registry.fetch(
                    named, {PATH: folder / "m"}, progress=Recorder().progress,
                    note=Recorder().note, limits=QUICK, folder=folder / "layers",
                    environ={"DOCKER_CONFIG": str(folder), "HOME": str(folder)},
                )  # fmt: skip
            except CfError as error:
                error.message = _steady(error.message)
                raise
        return ""

    return case


def _with(target: object, name: str, value: object, case: Case) -> Case:
    def patched(folder: Path) -> object:
        with mock.patch.object(target, name, value):
            return case(folder)

    return patched


def _raw(document: object) -> Parts:
    """An image whose manifest is this document."""
    parts = image(tar(Member("x")))
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return replace(parts, digest=digest_of(data), contents={digest_of(data): data})


def _changed(**fields: Any) -> Case:
    return _fetch(image(tar(Member("x")), **fields))


def _helper(text: str) -> Case:
    """The note about a credential helper, as that of Docker Hub's mirror."""

    def case(folder: Path) -> object:
        (folder / ".docker").mkdir()
        (folder / ".docker" / "config.json").write_text(text)
        return _fetch(change=_login("bearer", None))(folder)

    return case


def _tokens(*forms: dict[str, str]) -> Sequence[Answer]:
    return [Answer(json.dumps(form).encode()) for form in forms]


def _usage(folder: Path) -> Usage:
    return Usage(3 if ".image-" in str(folder) else 1 << 40)


BLOB = {"digest": "sha256:" + "0" * 64, "size": 10}
HUB = Reference("docker.io", "exadel/compreface-core", GOOD.digest)

CASES: Final[dict[str, Case]] = {
    "a mirror without a scheme": _fetch(reference=HUB, CF_REGISTRY_MIRROR="mirror.example"),
    "a mirror with a password": _fetch(reference=HUB, CF_REGISTRY_MIRROR="https://me:x@mirror"),
    "a mirror with a query": _fetch(reference=HUB, CF_REGISTRY_MIRROR="https://mirror/?a=b"),
    "a mirror that cannot be read": _fetch(reference=HUB, CF_REGISTRY_MIRROR="https://[1::/"),
    "a login is needed": _fetch(change=_login("basic")),
    "a token needs a login": _fetch(change=_login("bearer")),
    "credentials are not accepted": _known("basic"),
    "credentials give no token": _known("bearer"),
    "no token in the answer": _fetch(change=_token(*_tokens({}))),
    "an endless token": _with(
        session, "TOKEN_BYTES", 4, _fetch(change=_token(*_tokens({"token": "a"})))
    ),
    "a token service without TLS": _fetch(
        change=_manifest(
            Answer(
                b"", status=401, extra=(("WWW-Authenticate", 'Bearer realm="ftp://tokens/get"'),)
            )
        )
    ),
    "the token service is busy": _fetch(change=_token(Answer(b"", status=503))),
    "forbidden": _fetch(change=_manifest(Answer(b"", status=403))),
    "no such image": _fetch(reference=None, change=lambda server, _: server.contents.clear()),
    "too many requests": _fetch(
        change=_manifest(Answer(b"", status=429, extra=(("Retry-After", "7200"),))),
        limits=replace(QUICK, tries=2),
    ),
    "a web page": _fetch(change=_manifest(Answer(b"<html>", content_type="text/html"))),
    "a wrong digest": _fetch(change=_manifest(Answer(b"{}"))),
    "a layer of another length": _fetch(
        change=lambda server, parts: server.contents.update({parts.layers[0]: b"12345"})
    ),
    "no credentials from a helper": _helper('{"credsStore": "absent"}'),
    "a helper of an invalid name": _helper('{"credsStore": "../absent"}'),
    "settings that are no JSON": _helper("{"),
    "a manifest of schema 1": _fetch(_raw({"schemaVersion": 1})),
    "a manifest without layers": _changed(layers=[]),
    "a manifest without config": _changed(config=3),
    "a layer by another hash": _changed(layers=[{**BLOB, "digest": "sha512:00"}]),
    "a layer of negative size": _changed(layers=[{**BLOB, "size": -1}]),
    "a layer of absurd size": _changed(layers=[{**BLOB, "size": 1 << 62}]),
    "a config of absurd size": _changed(config={**BLOB, "size": 1 << 62}),
    "a manifest that is no JSON": _fetch(_raw(b"{")),
    "a manifest that is no object": _fetch(_raw(b"[]")),
    "an index without linux": _fetch(index(("windows", "amd64", GOOD))),
    "an index of an index": _fetch(index(("linux", "amd64", index(("linux", "amd64", GOOD))))),
    "no layer by that command": _fetch(hint="plugins.setup"),
    "no history": _fetch(image(tar(Member(PATH)), commands=["a", "b"]), hint="a"),
    "a missing path": _layer(Member("app/other.pb")),
    "a removed path": _fetch(image(tar(Member(PATH)), tar(Member("app/.wh.model.pb")))),
    "two matches": _layer(Member("a/1.pb"), Member("a/2.pb"), path="a/*.pb"),
    "a symbolic link": _layer(Member(PATH, type=tarfile.SYMTYPE, link="/etc/passwd")),
    "behind a symbolic link": _layer(Member("app", type=tarfile.SYMTYPE, link="/srv")),
    "dots in a name": _layer(Member("app/../../etc/passwd")),
    "a file that is too large": _layer(Member(PATH, b"12345"), bounds=Bounds(member_bytes=4)),
    "a layer that is too large": _layer(Member(PATH), bounds=Bounds(unpacked_bytes=4)),
    "a layer that takes too long": _layer(Member(PATH), bounds=Bounds(total_s=-1)),
    "a header that is too large": _layer(Member("x" * (2 << 20))),
    "a damaged layer": _fetch(image(b"no tar file")),
    "a layer of zstd": _fetch(image(ZSTD + b" and so on", packed=True)),
    "a disk without space": _with(shutil, "disk_usage", _usage, _layer(Member(PATH, b"1234"))),
}
