"""What keeps a model from this machine, and the engine's environment that prepares it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli import engine_python
from compreface_cli.engine import check, venv
from compreface_cli.errors import CfError
from compreface_cli.models import accepted, download
from compreface_cli.models.download import Limits
from compreface_cli.models.entry import ModelFile
from compreface_cli.models.files import disk_error, locked
from compreface_cli.models.sources import Source
from tests.cli.fake_facts import plan
from tests.cli.lying_server import Answer, lying_server
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model

Case = Callable[[Path], object]

UNKNOWN = (ModelFile("own/mine.onnx", (), ()),)
TWO = (ModelFile("own/m-symbol.json", (), ()), ModelFile("own/m-0000.params", (), ()))
OTHER = b"other weights"
NOBODY = "http://127.0.0.1:9/m.onnx"
QUICK = Limits(connect_s=1, stall_s=0.5, total_s=9, tries=1, backoff_s=0.0)


def _ensure(
    mirror: Mapping[str, bytes] | None = None,
    mode: str = "honest",
    accept_hash: Mapping[str, Sequence[str]] | None = None,
    **model: Any,
) -> Case:
    """The error of preparing a model whose files lie in the mirror."""

    def case(folder: Path) -> object:
        bench = Bench(folder)
        for name, data in (mirror or {}).items():
            bench.put(name, data)
        bench.mode(mode)
        _said(bench, lambda: bench.ensure(a_model(**model), accept_hash=accept_hash, limits=QUICK))
        return "\n".join(bench.notes)

    return case


def _said(bench: Bench, prepare: Callable[[], object]) -> None:
    """Its error with the notes before it."""
    try:
        prepare()
    except CfError as error:
        error.message = "\n".join([*(f"note: {note}" for note in bench.notes), error.message])
        raise


def _anew(change: Callable[[Bench], object], *, beside: bool = False, **model: Any) -> Case:
    """The error of preparing once more after `change`, or the notes."""

    def case(folder: Path) -> object:
        bench = Bench(folder)
        bench.put("own/mine.onnx")
        where = str(folder / "mirror") if beside else ""
        wanted = a_model(build_folder=where, **model)
        bench.ensure(wanted, accept_hash={"mine": [SHA]})
        change(bench)
        _said(bench, lambda: bench.ensure(wanted))
        return "\n".join(bench.notes)

    return case


def _prepare(outcome: object, timeout_s: float | None = None) -> Case:
    """The error of preparing where the converter ends so."""

    def case(folder: Path) -> object:
        bench = Bench(folder)
        bench.put("own/mine.onnx")
        ask = _environment(outcome, lambda: bench.ensure(a_model(), timeout_s=timeout_s))
        return ask(folder)

    return case


def _damage(bench: Bench) -> None:
    (bench.places.models / "mine" / "model.onnx").write_bytes(b"x" * 704)


def _mirror(mirror: str) -> Case:
    def case(folder: Path) -> object:
        bench = Bench(folder)
        bench.places = replace(bench.places, mirror=mirror)
        return bench.ensure(a_model())

    return case


def _accepted(content: str) -> Case:
    def case(folder: Path) -> object:
        (folder / "accepted.json").write_text(content)
        return accepted.read(folder / "accepted.json")

    return case


@contextlib.contextmanager
def _progress(label: str, total: float | None = None) -> Iterator[Any]:
    yield lambda amount: None


def _fetch(*answers: Answer, sha256: Sequence[str] = (SHA,), limits: Limits = QUICK) -> Case:
    """The notes and the error of fetching from a server that answers so."""

    def case(folder: Path) -> object:
        notes: list[str] = []
        with lying_server(answers) as server:
            try:
                download.fetch(
                    [f"{server.url}/m.onnx"] if answers else [],
                    folder / "m.onnx",
                    sha256=sha256,
                    progress=_progress,
                    note=notes.append,
                    limits=limits,
                    sleep=lambda seconds: None,
                )
            except CfError as error:
                error.message = "\n".join([*(f"note: {note}" for note in notes), error.message])
                raise
        return re.sub(r"received \d+ bytes", "received N bytes", "\n".join(notes))

    return case


def _address(url: str) -> Case:
    """The error of fetching from there."""
    return lambda folder: download.fetch(
        [Source("https", url, url)],
        folder / "m.onnx",
        sha256=[SHA],
        progress=_progress,
        note=lambda text: None,
        limits=QUICK,
    )


def _no_room(folder: Path) -> object:
    with mock.patch.object(shutil, "disk_usage", return_value=mock.Mock(free=5)):
        return _fetch(Answer(WEIGHTS))(folder)


def _disk(number: int) -> Case:
    return lambda _: disk_error(OSError(number, os.strerror(number)), Path("/data/models/mine"))


def _locked(folder: Path) -> object:
    with (
        locked(folder / "mine", note=lambda text: None),
        locked(folder / "mine", note=lambda text: None, wait_s=0.0),
    ):
        raise AssertionError("two hold one lock")


def _environment(outcome: object, ask: Callable[[], object]) -> Case:
    """The error of `ask` where the engine's Python ends so: a document, Failed or TimeoutError."""

    def case(_: Path) -> object:
        kind: dict[str, Any] = {
            "side_effect" if isinstance(outcome, Exception) else "return_value": outcome
        }
        with mock.patch.object(engine_python, "run", **kind):
            return ask()

    return case


def _fits() -> None:
    wanted = plan(calculator="custom.Calculator@mine", models=(a_model(build_folder="/somewhere"),))
    check.models(wanted, lambda: Path("python"))


def _answer() -> object:
    return check.answer(plan(), lambda: Path("python"))


def _prove() -> None:
    venv._prove(Path("python"))


def _wheels(folder: Path) -> object:
    return venv.ensure(
        folder / "env",
        venv.EngineInputs("cpu", (), ()),
        report=lambda line: None,
        progress=_progress,
        wheels=folder / "none",
    )


def _pip(said: str, wheels: str = "") -> Case:
    return lambda _: venv._pip_error(said, Path(wheels) if wheels else None)


def _no_venv(_: Path) -> None:
    with mock.patch("importlib.util.find_spec", return_value=None):
        venv._create(Path("env"))


REFUSED = engine_python.Failed("its answer has 2 numbers, 192 are right", 9)
CRASHED = engine_python.Failed("ImportError: no module x", 1)

CASES: Final[Mapping[str, Case]] = {
    # Files
    "model: absent": _ensure(),
    "model: absent, of a build file": _ensure(build_folder="/somewhere"),
    "model: absent, of the catalogue": _ensure(name="arcface_r100_v1"),
    "model: another file": _ensure({"own/mine.onnx": OTHER}),
    "model: another file than an address may have": _ensure(
        {"own/mine.onnx": OTHER}, files=(ModelFile("own/mine.onnx", (SHA,), (NOBODY,)),)
    ),
    "model: no hash": _ensure({"own/mine.onnx": WEIGHTS}, files=UNKNOWN),
    "model: no hash, of several files": _ensure(
        {"own/m-symbol.json": b"graph", "own/m-0000.params": b"weights"}, files=TWO
    ),
    "model: another hash was accepted": _ensure(
        {"own/mine.onnx": WEIGHTS}, accept_hash={"mine": ["0" * 64]}, files=UNKNOWN
    ),
    "model: several files are absent": _ensure(files=TWO),
    "model: damaged": _anew(_damage),
    "model: changed since it was accepted": _anew(
        lambda bench: bench.put("own/mine.onnx", OTHER), beside=True, files=UNKNOWN
    ),
    "model: another file beside the build": _anew(
        lambda bench: bench.put("own/mine.onnx", OTHER), beside=True
    ),
    "model: a hash for another model": _ensure(accept_hash={"yours": [SHA]}),
    "mirror: no folder": _mirror("/no/such/folder"),
    "mirror: another kind": _mirror("ftp://mirror"),
    "accepted: no pair": lambda _: accepted.parse(["mine=12"]),
    "accepted: unreadable": _accepted("{"),
    "accepted: no table": _accepted("[]"),
    # Preparing
    "prepare: refused": _ensure({"own/mine.onnx": WEIGHTS}, "refuse"),
    "prepare: crashed": _ensure({"own/mine.onnx": WEIGHTS}, "crash"),
    "prepare: files that do not fit": _ensure({"own/mine.onnx": WEIGHTS}, "lie"),
    "prepare: too slow": _prepare(TimeoutError("no answer")),
    "prepare: slower than was asked": _prepare(TimeoutError("no answer"), 5),
    "prepare: nothing left": _prepare({}),
    "prepare: locked": _locked,
    "disk: full": _disk(errno.ENOSPC),
    "disk: refused": _disk(errno.EACCES),
    "disk: another error": _disk(errno.EIO),
    # Fetching
    "fetch: no source": _fetch(),
    "fetch: wrong bytes": _fetch(Answer(OTHER)),
    "fetch: refused": _fetch(Answer(b"", status=404)),
    "fetch: busy": _fetch(Answer(b"", status=503), limits=replace(QUICK, tries=2)),
    "fetch: a page by its type": _fetch(Answer(b"<p>", content_type="text/html")),
    "fetch: a page by its bytes": _fetch(Answer(b"<!DOCTYPE html><p>")),
    "fetch: packed": _fetch(Answer(WEIGHTS, extra=(("Content-Encoding", "gzip"),))),
    "fetch: of no length": _fetch(Answer(WEIGHTS, framing="close"), sha256=()),
    "fetch: too large": _fetch(Answer(WEIGHTS), limits=replace(QUICK, max_bytes=100)),
    "fetch: too large in the end": _fetch(
        Answer(WEIGHTS, framing="close"), limits=replace(QUICK, max_bytes=100)
    ),
    "fetch: cut": _fetch(Answer(WEIGHTS, cut_after=0)),
    "fetch: a stall": _fetch(Answer(WEIGHTS, stall_after=0)),
    "fetch: too slow": _fetch(Answer(WEIGHTS, drip_s=0.02), Answer(WEIGHTS)),
    "fetch: too long": _fetch(
        Answer(WEIGHTS, drip_s=0.02), limits=replace(QUICK, stall_s=5, total_s=0.05)
    ),
    "fetch: redirects": _fetch(Answer(b"", status=302, location="/again")),
    "fetch: redirected elsewhere": _fetch(Answer(b"", status=302, location="ftp://x/m")),
    "fetch: another file": _fetch(
        Answer(WEIGHTS, etag='"a"', cut_after=100),
        Answer(WEIGHTS, etag='"b"', checks_if_range=False),
        limits=replace(QUICK, tries=2),
    ),
    "fetch: a part of another file": _fetch(
        Answer(WEIGHTS, cut_after=100),
        Answer(b"", status=416),
        Answer(WEIGHTS),
        limits=replace(QUICK, tries=2),
    ),
    "fetch: no address": _address("http://127.0.0.1:port/m.onnx"),
    "fetch: no web address": _address("file:///etc/hostname"),
    "fetch: nobody there": _address(NOBODY),
    "fetch: no room": _no_room,
    # The engine's look at models
    "check: a model does not fit": _environment(REFUSED, _fits),
    "check: it failed": _environment(CRASHED, _fits),
    "check: too slow": _environment(TimeoutError("no answer in 300 s"), _fits),
    "check: the known face is not known": _environment(REFUSED, _answer),
    "check: no known answer": _environment(CRASHED, _answer),
    "check: an incomplete answer": _environment({"face": {"box": {}}}, _answer),
    # Its environment
    "environment: no folder of wheels": _wheels,
    "environment: no virtual environments": _no_venv,
    "environment: disk full": _pip("OSError: [Errno 28] No space left on device"),
    "environment: another hash": _pip("THESE PACKAGES DO NOT MATCH THE HASHES"),
    "environment: no network": _pip("Could not find a version that satisfies numpy"),
    "environment: wheels are missing": _pip("Could not find numpy", "/wheels"),
    "environment: it does not work": _environment(CRASHED, _prove),
    "environment: it gives no answer": _environment(TimeoutError("no answer"), _prove),
}
