"""Recorded requests of the real api and of the Test page, sent to an engine of each build."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.contract.bundled_builds import NAMES, engine_of, plan_of, why_not_here
from tests.contract.goldens import check_faces, check_json_bytes
from tests.contract.pictures import photographs
from tests.contract.stack_recording import (
    Answered,
    Recorded,
    Wire,
    form_of,
    head_of,
    recording,
)
from tests.shared import needs_shared

NO_FACE = "017_0.jpg"  # the one sample without a person
EDGES = ("x_min", "y_min", "x_max", "y_max")


@dataclass
class Running:
    """One engine and its answers to the recording; all but those of HTTP/1.0 came over `wire`."""

    build: str
    wire: Wire
    answers: dict[int, Answered] = field(default_factory=dict)
    """By the number of the request; those whose photograph is not here were not sent."""
    closed: dict[int, bool] = field(default_factory=dict)
    """Of each request that asked for it: whether the engine closed its connection."""

    @property
    def plugins(self) -> dict[str, str]:
        """What `/status` says of the plugins, in its order."""
        plugins: dict[str, str] = self.answers[0].json()["available_plugins"]
        return plugins

    def was_recorded(self, recorded: Recorded) -> bool:
        """Whether it was this build that gave the recorded answer."""
        then = _status_then(recorded)["available_plugins"]
        return all(self.plugins[slug] == then[slug] for slug in ("detector", "calculator"))

    def send(self, recorded: Recorded) -> None:
        if recorded.keeps_its_connection:
            self.answers[recorded.number] = self.wire.ask(recorded.bytes())
            return
        wire = Wire(self.wire.port)
        self.answers[recorded.number] = wire.ask(recorded.bytes())
        self.closed[recorded.number] = wire.is_at_its_end()
        wire.close()


@pytest.fixture(scope="module", params=NAMES)
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    build: str = request.param
    if reason := why_not_here(build):
        pytest.skip(reason)
    with engine_of(build, tmp_path_factory.mktemp(build) / "models") as engine:
        running = Running(build, Wire(engine.port))
        for recorded in recording():
            if recorded.can_be_sent:
                running.send(recorded)
        yield running
        running.wire.close()


def test_the_recording_is_complete() -> None:
    assert len(recording()) == 26
    assert {request.status for request in recording()} == {
        "HTTP/1.1 200 OK",
        "HTTP/1.1 400 Bad Request",
    }


@pytest.mark.parametrize("recorded", recording(), ids=lambda request: request.name)
def test_a_request_is_rebuilt_with_the_recorded_length(recorded: Recorded) -> None:
    lengths = [line for line in recorded.headers if line.startswith("Content-Length: ")]
    assert len(recorded.body()) == sum(int(line.split()[1]) for line in lengths)
    assert len(lengths) == bool(recorded.parts)


@pytest.mark.parametrize("recorded", recording(), ids=lambda request: request.name)
def test_a_recorded_request_is_answered(running: Running, recorded: Recorded) -> None:
    if not recorded.can_be_sent:
        recorded.bytes()  # skips with the photograph's name
    answer = running.answers[recorded.number]
    assert answer.status == recorded.status, answer.body[:300]
    assert answer.headers["content-type"] == "application/json"
    check_json_bytes(answer.body)
    if recorded.keeps_its_connection:
        assert answer.headers.get("connection", "keep-alive") == "keep-alive"
    else:
        assert running.closed[recorded.number]
    got = answer.json()
    if recorded.status == "HTTP/1.1 400 Bad Request":
        assert got == recorded.answer
    elif "available_plugins" in recorded.answer:
        _check_status(running, recorded, got)
    else:
        asked = (recorded.field("face_plugins") or "").split(",")
        _check_found(running, got, asked)
        if running.was_recorded(recorded):
            check_faces(_comparable(got), _comparable(recorded.answer))


def test_nearly_all_boxes_are_the_recorded_ones(running: Running) -> None:
    differences = [
        difference
        for recorded in recording()
        if recorded.can_be_sent and "result" in recorded.answer and running.was_recorded(recorded)
        for difference in check_faces(
            _comparable(running.answers[recorded.number].json()), _comparable(recorded.answer)
        )
    ]
    assert sum(difference.box_equal for difference in differences) >= 0.85 * len(differences)
    assert sum(difference.landmarks_equal for difference in differences) >= 0.85 * len(differences)


@needs_shared
def test_both_recorded_builds_run_on_this_machine() -> None:
    """Otherwise their answers would not be compared with anything."""
    here = {
        (wanted.detector, wanted.calculator)
        for wanted in (plan_of(build) for build in NAMES if not why_not_here(build))
    }
    for recorded in recording():
        then = _status_then(recorded)["available_plugins"]
        assert (then["detector"], then["calculator"]) in here


@pytest.mark.parametrize("purpose", ["recognition", "detection"])
@pytest.mark.parametrize("photograph", photographs(), ids=lambda path: path.stem)
def test_every_face_has_what_the_test_page_reads(
    running: Running, photograph: Path, purpose: str
) -> None:
    landmarks = next(slug for slug in running.plugins if "landmarks" in slug)
    asked = [*(["calculator"] if purpose == "recognition" else []), landmarks]
    asked += ["gender", "age", "pose"]
    answer = running.wire.ask(_of_the_test_page(photograph, ",".join(asked)))
    if photograph.name == NO_FACE:
        assert answer.status == "HTTP/1.1 400 Bad Request"
        return
    assert answer.status == "HTTP/1.1 200 OK", answer.body[:300]
    got = answer.json()
    _check_found(running, got, asked)
    for face in got["result"]:
        assert {"gender", "age", "pose", "landmarks"} <= face.keys()
        assert face["gender"]["value"] in ("male", "female")
        assert type(face["age"]["low"]) is type(face["age"]["high"]) is int
        assert 0 <= face["age"]["low"] <= face["age"]["high"]
        assert [len(point) for point in face["landmarks"]] == [2] * 5
        assert face["pose"].keys() == {"pitch", "yaw", "roll"}


def _status_then(recorded: Recorded) -> Mapping[str, Any]:
    """The last recorded `/status` up to this request: of the engine that answered it."""
    *_, last = (
        earlier.answer
        for earlier in recording()[: recorded.number + 1]
        if "available_plugins" in earlier.answer
    )
    return last


def _of_the_test_page(photograph: Path, face_plugins: str) -> bytes:
    """As the api passes it on: the last recorded request with this photograph and these plugins."""
    like = recording()[-1]
    file, *fields = like.parts
    headers = [line.replace(file["content"], photograph.name) for line in file["headers"]]
    parts = [
        {"headers": headers, "bytes": photograph.stat().st_size, "content": photograph.name},
        *(
            {**field, "bytes": len(face_plugins), "content": face_plugins}
            if 'name="face_plugins"' in field["headers"][0]
            else field
            for field in fields
        ),
    ]
    body = form_of(parts, like.boundary)
    return head_of(like.request, [*like.headers[:-1], f"Content-Length: {len(body)}"]) + body


def _check_status(running: Running, recorded: Recorded, got: Mapping[str, Any]) -> None:
    want = recorded.answer
    assert got.keys() == want.keys()
    wanted = plan_of(running.build)
    named = {wanted.detector, wanted.calculator, *wanted.plugins}
    for plugin in got["available_plugins"].values():
        # The build may leave out a model that is its plugin's default.
        assert plugin in named or plugin.partition("@")[0] in named
    assert len(got["available_plugins"]) == len(named)
    assert got["calculator_version"] == got["available_plugins"]["calculator"]
    assert got["status"] == "OK"
    assert got["build_version"] == want["build_version"]
    assert [type(value) for value in got["similarity_coefficients"]] == [float, float]
    assert got["runtimes"].keys() <= got["available_plugins"].keys()
    for slug, runs in got["runtimes"].items():
        _check_types(runs, want["runtimes"]["calculator"], slug)
    if running.was_recorded(recorded):
        assert got["similarity_coefficients"] == want["similarity_coefficients"]
        for slug, plugin in want["available_plugins"].items():
            assert got["available_plugins"][slug] == plugin
        for slug, runs in want["runtimes"].items():
            for key in ("runtime", "device", "precision"):
                assert got["runtimes"][slug][key] == runs[key], slug


def _check_types(got: Mapping[str, Any], want: Mapping[str, Any], slug: str) -> None:
    """The same keys and types; numbers that were unknown may be known now, and vice versa.

    `threads_alone` came after the recording.
    """
    assert got.keys() == {*want, "threads_alone"}, slug
    for key, value in want.items():
        kinds = (float, type(None)) if value is None else (type(value),)
        assert type(got[key]) in kinds, f"{slug}: {key}"


def _check_found(running: Running, got: Mapping[str, Any], asked: list[str]) -> None:
    """Names and types of an answer with faces, by the plugins that the build has of those asked."""
    ran = {slug: name for slug, name in running.plugins.items() if slug in ("detector", *asked)}
    assert got.keys() == {"plugins_versions", "result"}
    assert got["plugins_versions"] == ran
    assert got["result"]
    keys = {"embedding" if slug == "calculator" else slug for slug in ran} - {"detector"}
    for face in got["result"]:
        assert face.keys() == {"box", "execution_time", *keys}
        assert face["execution_time"].keys() == ran.keys()
        assert {type(value) for value in face["execution_time"].values()} == {int}
        assert face["box"].keys() == {"probability", *EDGES}
        assert {type(face["box"][edge]) for edge in EDGES} == {int}
        assert 0 < face["box"]["probability"] <= 1
        for key in keys & CHECKS.keys():
            CHECKS[key](face[key])
    assert len({len(face.get("embedding", [])) for face in got["result"]}) == 1


def _check_embedding(value: Any) -> None:
    assert len(value) >= 128
    assert {type(number) for number in value} == {float}


def _check_landmarks(value: Any) -> None:
    assert [len(point) for point in value] == [2] * 5
    assert {type(place) for point in value for place in point} == {int}


def _check_age(value: Any) -> None:
    assert value.keys() == {"low", "high", "probability"}
    assert {type(value[key]) for key in ("low", "high")} == {int}
    assert value["low"] <= value["high"]
    assert 0 <= value["probability"] <= 1


def _check_gender(value: Any) -> None:
    assert value.keys() == {"value", "probability"}
    assert value["value"] in ("male", "female")
    assert 0 <= value["probability"] <= 1


def _check_pose(value: Any) -> None:
    assert value.keys() == {"pitch", "yaw", "roll"}
    assert {type(angle) for angle in value.values()} == {float}


CHECKS = {
    "embedding": _check_embedding,
    "landmarks": _check_landmarks,
    "age": _check_age,
    "gender": _check_gender,
    "pose": _check_pose,
}


def _comparable(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The answer with each embedding as the recording has it: how many numbers it was."""
    faces = []
    for result in answer["result"]:
        face = dict(result)
        embedding = face.pop("embedding", None)
        if embedding is not None:
            long = embedding if isinstance(embedding, str) else f"[{len(embedding)} numbers]"
            face[f"embedding {long}"] = True
        faces.append(face)
    return {**answer, "result": faces}
