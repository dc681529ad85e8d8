"""What `cf scan`, `compare` and `demo` refuse, and what is wrong with an engine's answers."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from compreface_cli.engine import known_answer
from compreface_cli.engine.client import EngineClient
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.instance.state import ServiceState
from compreface_cli.models.entry import Border
from compreface_cli.photos import compare, demo, drawing, pictures, scan
from compreface_cli.photos.pictures import Picture
from compreface_cli.photos.scan import Engine, ScanResult
from tests.cli.fake_facts import plan
from tests.cli.picture_engine import BUSY, STATUS, a_face, picture_engine
from tests.cli.talking_engine import CALCULATOR, TalkingEngine, face, serving

Case = Callable[[Path], object]

ENGINE = Engine("http://127.0.0.1:3000", "x.Calculator", (1.1, 6.0), ("calculator", "pose"))
BOX = (160, 48, 287, 184)
HER, OTHER = [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]
ANSWER = KnownAnswer(CALCULATOR, BOX, tuple(HER), (1.1, 6.0), 1.0, "a test")
RIGHT = ServiceState("core", "running")


def _packed(size: tuple[int, int] = (20, 20), mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "PNG")
    return buffer.getvalue()


def _gather(*arguments: str) -> Case:
    """The error of these arguments, or what is passed over; there is a folder with no picture."""

    def case(folder: Path) -> object:
        (folder / "empty").mkdir()
        (folder / "a.png").write_bytes(_packed())
        (folder / "notes.txt").write_text("")
        (folder / ".hidden.png").write_text("")
        return "\n".join(pictures.gather(arguments).skipped)

    return case


def _read(make: Callable[[Path], object]) -> Case:
    def case(folder: Path) -> object:
        make(folder / "a.png")
        with picture_engine() as engine, EngineClient(engine.url) as client:
            (result,) = scan.scan(client, [Picture("a.png", folder / "a.png")], ())
        return result.error

    return case


def _large(path: Path) -> None:
    path.touch()
    os.truncate(path, pictures.MAX_BYTES + 1)


def _targets(name: str, *, into_folder: bool) -> Case:
    """The error of drawing there."""

    def case(folder: Path) -> object:
        (folder / "folder").mkdir()
        (folder / "a.png").write_bytes(_packed())
        (folder / "file").write_text("")
        return scan.targets([Picture("a.png", Path("a.png"))], Path(name), into_folder)

    return case


def _answered(answer: Any) -> Case:
    """What is said of a picture that the engine answers so."""

    def case(folder: Path) -> object:
        (folder / "a.png").write_bytes(_packed())
        with picture_engine() as engine, EngineClient(engine.url) as client:
            engine.answers[_packed()] = [answer]
            picture = Picture("a.png", folder / "a.png")
            (result,) = scan.scan(client, [picture], (), sleep=lambda seconds: None)
        return result.error

    return case


def _status(**changes: Any) -> Case:
    """The error of an engine with another status; a value of None is left out."""

    def case(_: Path) -> object:
        with picture_engine() as engine, EngineClient(engine.url) as client:
            whole = {**STATUS, **changes}
            engine.status = {key: value for key, value in whole.items() if value is not None}
            return scan.describe(client)

    return case


def _result(*faces: dict[str, Any], name: str = "a.png", **more: Any) -> ScanResult:
    return ScanResult(Picture(name, None), faces, **more)


def _compared(engine: Engine, *results: ScanResult) -> Case:
    return lambda _: compare.compare(engine, results, None)


def _demo(_: Path) -> object:
    with picture_engine() as engine, EngineClient(engine.url) as client:
        engine.answers[b""] = [[]]
        return demo.run(client)


def _client(provoke: Callable[[EngineClient], object], **engine: Any) -> Case:
    """The error of asking an engine that answers so."""

    def case(_: Path) -> object:
        with serving(TalkingEngine(**engine)) as endpoint:
            with EngineClient(endpoint.url, timeout_s=0.2) as client:
                return provoke(client)

    return case


def _nobody(_: Path) -> object:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        with EngineClient(url) as client:
            return client.status()


def _check(expected: KnownAnswer = ANSWER, calculator: str = CALCULATOR, **answers: Any) -> Case:
    """What is wrong with an engine that answers for the first portrait so."""

    def case(_: Path) -> object:
        talking = TalkingEngine(calculator)
        talking.says("astronaut.png", face(BOX, HER))
        talking.says("grace_hopper.jpg", face((1, 1, 9, 9), OTHER))
        if "faces" in answers:
            talking.says("astronaut.png", *answers["faces"])
        elif answers:
            talking.answers["astronaut.png"] = answers["answer"]
        with serving(talking) as endpoint:
            return known_answer.check(endpoint, expected, time.monotonic() + 0.1)

    return case


def _wait(state: ServiceState, **engine: Any) -> Case:
    """The error of waiting for an engine in this state."""

    def case(_: Path) -> object:
        with serving(TalkingEngine(**engine)) as endpoint:
            known_answer.wait(endpoint, lambda: state, time.monotonic())
        return "it answers"

    return case


def _services(*states: ServiceState) -> Case:
    return lambda _: known_answer.wait_for_all(lambda: states, time.monotonic())


def _stored(content: str, **entry: Any) -> Case:
    """The error of a model's known answer that its file holds, or that was computed."""

    def case(folder: Path) -> object:
        (folder / "model.json").write_text(content)
        wanted = plan(detector="x.FaceDetector", calculator="custom.Calculator@mine")
        return known_answer.expected(wanted, {"mine": folder}, lambda: {"similarity": [1, 2]})

    return case


def _scale(border: Border | None) -> Case:
    return lambda _: compare.scale("x.Calculator", border)


CASES: Final[Mapping[str, Case]] = {
    # Which pictures
    "pictures: absent": _gather("no.png"),
    "pictures: standard input twice": _gather("-", "-"),
    "pictures: none in a folder": _gather("empty"),
    "pictures: passed over": _gather("."),
    "picture: a device": lambda _: Picture("null", Path("/dev/null")).read(),
    "picture: a pipe": _read(os.mkfifo),
    "picture: too large": _read(_large),
    "picture: a link to itself": _read(lambda path: path.symlink_to(path)),
    # The engine
    "engine: two are named": lambda _: scan.client_of("mine", "http://127.0.0.1:3000"),
    "engine: no address": lambda _: EngineClient("localhost"),
    "engine: nobody answers": _nobody,
    "engine: no answer in time": _client(lambda client: client.status(), delay_s=0.5),
    "engine: no JSON": _client(lambda client: client.status(), raw=b"<html>"),
    "engine: none of ours": _status(similarity_coefficients=None),
    "engine: a key is asked for": _client(
        scan.describe, status=(401, {"message": "401 Unauthorized: no API key"})
    ),
    "engine: a bad picture": _answered((400, {"message": "400 Bad Request: it is broken"})),
    "engine: a full queue": _answered(BUSY),
    "engine: an answer without faces": _answered((200, {})),
    "plugins: unknown": lambda _: scan.chosen(ENGINE, "age,pose,beard"),
    "plugins: none and others": lambda _: scan.chosen(ENGINE, "none,pose"),
    "plugins: an empty name": lambda _: scan.chosen(ENGINE, "pose,"),
    "plugins: the detector": lambda _: scan.chosen(ENGINE, "detector"),
    "plugins: an engine without any": lambda _: scan.chosen(replace(ENGINE, plugins=()), "age"),
    # Drawings
    "draw: a file for several": _targets("file", into_folder=True),
    "draw: a name for several": _targets("out.jpg", into_folder=True),
    "draw: a folder for one": _targets("folder", into_folder=False),
    "draw: another ending": _targets("out.gif", into_folder=False),
    "draw: no such folder": _targets("none/out.png", into_folder=False),
    "draw: over the picture": _targets("a.png", into_folder=False),
    "draw: no picture": lambda folder: drawing.draw(b"text", [], folder / "out.png"),
    "draw: too many pixels": lambda folder: drawing.draw(
        _packed((20_000, 9_000), "1"), [], folder / "out.png"
    ),
    "draw: no place": lambda folder: drawing.draw(_packed(), [], folder / "no" / "where" / "o.png"),
    # Comparisons
    "compare: no calculator": _compared(replace(ENGINE, plugins=("pose",)), _result()),
    "compare: no direction": _compared(
        ENGINE, _result(a_face(embedding=(0.0, 0.0))), _result(a_face(), name="b.png")
    ),
    "compare: another length": _compared(
        ENGINE, _result(a_face(embedding=(0.0,))), _result(a_face(), name="b.png")
    ),
    "compare: remarks on two": lambda _: "\n".join(
        compare.remarks([_result(), _result(a_face(), a_face(), name="b.png", cut_short=True)])
    ),
    "compare: remarks on three": lambda _: "\n".join(
        compare.remarks([_result(a_face(), a_face()), _result(error="it is broken"), _result()])
    ),
    "compare: no border": _scale(None),
    "compare: a border": _scale(Border(0.7)),
    "compare: a border with figures": _scale(Border(0.7, 2.5, 0.9, 0.1, 4.0, "LFW10")),
    "demo: no face": _demo,
    # The known face
    "ready: another calculator": _check(calculator="other.Calculator"),
    "ready: no face": _check(
        answer=(400, {"message": "400 Bad Request: No face is found in the given image"})
    ),
    "ready: two faces": _check(faces=[face(BOX, HER)] * 2),
    "ready: no embedding": _check(faces=[{"box": face(BOX, HER)["box"]}]),
    "ready: another box": _check(faces=[face((163, 48, 287, 184), HER)]),
    "ready: another length": _check(faces=[face(BOX, [*HER, 0.0])]),
    "ready: another embedding": _check(faces=[face(BOX, [0.6, 0.8, 0.05])]),
    "ready: no direction": _check(faces=[face(BOX, [0.0, 0.0, 0.0])]),
    "ready: two people alike": _check(expected=replace(ANSWER, similarity=(1.9, 6.0))),
    "ready: busy": _check(answer=(503, {"message": "503: too many wait"})),
    "ready: it ended": _wait(ServiceState("core", "failed", "exit code 3")),
    "ready: too late": _wait(RIGHT, raw=b"", delay_s=0.3),
    "ready: too late, with an answer": _wait(RIGHT, status=(500, {"message": "no model"})),
    "ready: a service ended": _services(ServiceState("api", "failed", "exit code 1: no memory")),
    "ready: a service is late": _services(RIGHT, ServiceState("api", "starting")),
    "answer: unreadable": _stored("{"),
    "answer: no object": _stored("[]"),
    "answer: incomplete": _stored('{"known_answers": {}}'),
}
