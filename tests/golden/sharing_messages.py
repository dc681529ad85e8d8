"""What `cf export` and `cf import` refuse and show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.builds import builds, imported
from compreface_cli.config import settings
from compreface_cli.deploy import image_alone, up
from compreface_cli.docker.labels import LABEL_ANSWER, LABEL_DETECTOR, LABEL_PLUGINS
from compreface_cli.models import accepted
from compreface_cli.models.store import Places
from compreface_cli.plan.operations import Options
from compreface_cli.sharing import archive, keep, offer
from compreface_cli.sharing.export import export
from compreface_cli.terminal.output import Output
from tests.cli.build_files import build_data, build_file, model_entry, plain_data, write
from tests.cli.fake_docker import fake_docker
from tests.cli.test_image_alone import NAME as ENGINE
from tests.cli.test_image_alone import labels_of, settled
from tests.cli.test_sharing import OTHER, OWN, SOURCE, WEIGHTS, made, own_build, shared_model
from tests.cli.test_sharing_archive import HEAD, entry, tar

Case = Callable[[Path], object]

_OTHER_SIZE = {
    "format": 1,
    "cf": "9.9",
    "build": "my-build",
    "models": [],
    "files": {"a": {"sha256": sha256(b"a").hexdigest(), "bytes": 9}},
}


def _read(**parts: Any) -> Case:
    """The error of a file with these parts."""

    def case(folder: Path) -> object:
        with made(folder, **parts).open("rb") as stream:
            return offer.read(stream, "given.cf.tar")

    return case


def _own(**changes: Any) -> Case:
    """The same, of a build with a model of its own."""
    files = changes.pop("inside", {})
    models = changes.pop("models", [shared_model()])
    return _read(build=OWN, name="my-build", files=files, models=models, **changes)


def _tar(data: bytes) -> Case:
    return lambda _: offer.read(BytesIO(data), "given.cf.tar")


def _import(**request: Any) -> Case:
    """The error of importing a build without a model."""

    def case(folder: Path) -> object:
        request.setdefault("source", str(made(folder)))
        return keep.import_(keep.Request(**request), Output(quiet=True))

    return case


def _taken(make: Callable[[Path], object], name: str = "plain", **request: Any) -> Case:
    """The error where a build has the name already."""

    def case(folder: Path) -> object:
        make(folder)
        return _import(name=name, **request)(folder)

    return case


def _twice(folder: Path) -> None:
    _import(yes=True)(folder)


def _changing(data: Callable[[bytes], bytes]) -> Case:
    """The error of a file with a model that changes between the question and the answer."""

    def case(folder: Path) -> object:
        own_build(folder / "builds")
        file = folder / "my-build.cf.tar"
        export("my-build", file, Output(quiet=True), with_models=True)

        def ask(*_: object) -> str:
            file.write_bytes(data(file.read_bytes()))
            return "y"

        with mock.patch("compreface_cli.terminal.output.Output.ask", ask):
            request = keep.Request(str(file), name="other")
            return keep.import_(request, Output(quiet=True))

    return case


def _shown(folder: Path) -> object:
    """What `cf import` shows of a build with a model of its own, and the question's refusal."""
    facts = {"licence": {"weights": "ours", "commercial": "unclear", "reason": "nobody asked"}}
    own_build(
        folder / "builds", sha256=None, sources=[SOURCE], facts=facts,
        summary="For the office", base_image="other/python:3",
    )  # fmt: skip
    accepted.record(Places().accepted, "my-model", [_digest()])
    file = folder / "my-build.cf.tar"
    export("my-build", file, Output(quiet=True), with_models=True)
    said = StringIO()
    with redirect_stderr(said), mock.patch.dict("os.environ", {"COLUMNS": "200"}):
        with mock.patch.object(Output, "ask", side_effect=["y", "y", "n"]):
            kept = keep.import_(keep.Request(str(file), name="office"), Output())
    return said.getvalue() + kept.record.words


def _digest() -> str:
    import hashlib

    return hashlib.sha256(WEIGHTS).hexdigest()


def _export(target: str, make: Callable[[Path], object] = lambda folder: None) -> Case:
    def case(folder: Path) -> object:
        make(folder)
        return export("embedded", folder / target, Output(quiet=True))

    return case


def _long_path(folder: Path) -> object:
    path = "n" * 150
    write(folder / "builds", build_data(models=[model_entry(files=[{"path": path}])]))
    (folder / "builds" / path).write_bytes(WEIGHTS)
    accepted.record(Places().accepted, "my-model", [_digest()])
    return export("my-build", folder / "out", Output(quiet=True), with_models=True)


def _damaged(folder: Path) -> object:
    _twice(folder)
    path = builds.find("plain")[1]
    path.with_name(imported.RECORD).write_text("[]")
    return imported.read(path)


def _labelled(label: str, value: str | None) -> Case:
    """The error of an image with another value of that label, or without it."""

    def case(_: Path) -> object:
        labels = labels_of(settled(build_file()))
        labels = {key: text for key, text in labels.items() if key != label}
        labels |= {} if value is None else {label: value}
        plan = settled(image_alone.build_of(ENGINE, labels))
        return image_alone.answer_of(replace(plan, image=ENGINE), labels)

    return case


def _dry_run(folder: Path) -> object:
    with fake_docker(folder / "fake"):
        return image_alone.labels_of(ENGINE, Output(quiet=True), dry_run=True)


CASES: Final[Mapping[str, Case]] = {
    "import shows what it would keep": _shown,
    "import: there is no file": _import(source="nowhere.cf.tar"),
    "import: a folder": _import(source="."),
    "import: not readable": lambda folder: _opened(folder),
    "import: no tar": _tar(b"hello" * 1000),
    "import: empty": _tar(bytes(10240)),
    "import: cut off": _tar(tar(*HEAD)[:700]),
    "import: damaged padding": _tar(tar(*HEAD)[:600] + b"x" + tar(*HEAD)[601:]),
    "import: data after the end": _tar(tar(*HEAD) + b"x"),
    "import: no build file": _tar(tar(HEAD[0])),
    "import: another member first": _tar(tar(entry("readme", b""))),
    "import: a large build file": _tar(tar(HEAD[0], entry(archive.BUILD, bytes(300_000)))),
    "import: a link": _tar(tar(*HEAD, entry("models/a", type=b"2", linkname="/etc/passwd"))),
    "import: a path that leaves the folder": _tar(tar(*HEAD, entry("models/../a", b""))),
    "import: a long name": _tar(tar(*HEAD, entry("m/" * 60, b""))),
    "import: a file twice": _tar(tar(*HEAD, entry("models/a", b""), entry("models/a", b""))),
    "import: too many files": lambda _: _limited("MAX_FILES", 1),
    "import: too large": lambda _: _limited("MAX_BYTES", 3000),
    "import: too large a member": lambda _: _limited("MAX_BYTES", 2048),
    "import: no JSON": _read(manifest=b"{"),
    "import: a key twice": _read(manifest=b'{"a": 1, "a": 1}'),
    "import: another format": _read(format=2),
    "import: a wrong manifest": _read(models=[{}]),
    "import: not UTF-8": _read(build=b"\xff"),
    "import: two names": _read(name="other"),
    "import: a plugin of a newer cf": _read(build=plain_data(detector="future.Detector")),
    "import: a model is not described": _own(models=[]),
    "import: another model of that name": _own(
        models=[shared_model(entry=model_entry(files=[{"path": "other.onnx"}]))]
    ),
    "import: a file that is missing": _own(listed={"nets/my-model.onnx": b"a"}),
    "import: a file that is not listed": _own(inside={"a": b"a"}, listed={}),
    "import: a changed file": _own(inside={"a": b"a"}, listed={"a": b"b"}),
    "import: a file of another size": _own(inside={"a": b"a"}, manifest=_OTHER_SIZE),
    "import: a file of no model": _own(inside={"a": b"a"}),
    "import: another file of the model": _own(inside={"nets/my-model.onnx": b"a"}),
    "import: not the pinned file": _import(sha256=OTHER),
    "import: no hash": _import(sha256="abc"),
    "import: no name": _import(name="No Name"),
    "import: nobody to ask": _import(),
    "import: the answer is no": lambda folder: _answered(folder, "n"),
    "import: the user's own name": _taken(
        lambda folder: write(folder / "builds", plain_data()), yes=True
    ),
    "import: an imported name": _taken(_twice, yes=True),
    "import: a bundled name": _import(name="embedded", yes=True),
    "import: no web address": _import(source="ftp://publisher.example/x.tar", sha256=OTHER),
    "import: no address": _import(source="http://127.0.0.1:9/x.tar", sha256=OTHER),
    "import: the file changes": _changing(lambda data: data.replace(b"embedded", b"embeddex")),
    "import: the file is cut meanwhile": _changing(lambda data: data[:3000]),
    "an imported build with a damaged record": _damaged,
    "image alone: no image of cf": lambda _: image_alone.build_of(
        "exadel/compreface-core:1.2.0", {}
    ),
    "image alone: of an earlier cf": _labelled(LABEL_PLUGINS, None),
    "image alone: a plugin of a newer cf": _labelled(LABEL_DETECTOR, "future.Detector"),
    "image alone: a damaged answer": _labelled(LABEL_ANSWER, "[]"),
    "image alone: with a process": lambda _: image_alone.asked(
        settings.resolve({"image": ENGINE, "launcher": "process"})
    ),
    "image alone: with a flag of a build": lambda _: image_alone.refuse_flags(
        settings.resolve({"image": ENGINE, "runtime": "openvino"})
    ),
    "image alone: with --build": lambda _: up.resolve(
        {"image": ENGINE}, Output(quiet=True), Options(build=True)
    ),
    "image alone: a dry run of an absent image": _dry_run,
    "export: the file exists": _export("out", lambda folder: (folder / "out").touch()),
    "export: a folder": _export("."),
    "export: no folder": _export("no/out"),
    "export: a path that is too long": _long_path,
}


def _opened(folder: Path) -> object:
    file = made(folder)
    with mock.patch.object(Path, "open", side_effect=PermissionError(13, "Permission denied")):
        return keep.import_(keep.Request(str(file)), Output(quiet=True))


def _limited(limit: str, value: int) -> object:
    files = tar(*HEAD, entry("models/a", bytes(1000)), entry("models/b", b""))
    with mock.patch.object(archive, limit, value):
        return offer.read(BytesIO(files), "given.cf.tar")


def _answered(folder: Path, answer: str) -> object:
    with mock.patch.object(Output, "ask", return_value=answer):
        return _import()(folder)
