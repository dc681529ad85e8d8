"""Every recorded answer of the original engine, replayed to this one.

To the FaceNet build, whose weights not every clone has, and to the same detector with the embedded
calculator, which needs nothing: there all but the numbers of an embedding is compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.goldens import (
    Difference,
    case,
    case_ids,
    check_faces,
    check_frame,
    check_json_bytes,
    has_its_pictures,
    send,
)
from tests.contract.process import Engine, Reply

pytestmark = pytest.mark.slow

EMBEDDED = "embedded.Calculator"
EMBEDDED_COEFFICIENTS = [1.1, 6.0]


@dataclass(frozen=True)
class Refused:
    """A caller's mistake that the original answered with 500: 422, and its message names the cause.

    The wording stands in tests/golden/messages.
    """

    names: str


@dataclass(frozen=True)
class WholePicture:
    """`detect_faces=false` takes the whole picture; the original swapped its sides."""

    width: int
    height: int


@dataclass(frozen=True)
class SameAs:
    """The answer must be the recorded one of another case with the same picture."""

    case: str
    box_share: float = 0.0


@dataclass(frozen=True)
class CutShort:
    """As recorded, and marked by a header."""


@dataclass(frozen=True)
class AsRecorded:
    """A defect that is kept, since stored boxes and embeddings depend on it."""


Decision = Refused | WholePicture | SameAs | CutShort | AsRecorded

DECISIONS: Mapping[str, Decision] = {
    "base64-array": Refused('"file"'),
    "base64-multipart": Refused("application/json"),
    "base64-no-content-type": Refused("application/json"),
    "base64-no-file-key": Refused('"file"'),
    "base64-no-padding": Refused("padding"),
    "base64-not-base64": Refused("number of data characters (9)"),
    "base64-null": Refused('"file"'),
    "base64-number": Refused('"file"'),
    "base64-text-content-type": Refused("application/json"),
    "det-prob-threshold-comma-find": Refused("det_prob_threshold"),
    "det-prob-threshold-comma-scan": Refused("det_prob_threshold"),
    "det-prob-threshold-empty-find": Refused("det_prob_threshold"),
    "det-prob-threshold-empty-scan": Refused("det_prob_threshold"),
    "det-prob-threshold-text-find": Refused("det_prob_threshold"),
    "det-prob-threshold-text-scan": Refused("det_prob_threshold"),
    "input-bomb-20000x20000-png": Refused("400000000 pixels"),
    "input-truncated-header-jpg": Refused("header"),
    "decoded-detect-faces-false-000_5": WholePicture(819, 546),
    "decoded-detect-faces-false-007_B": WholePicture(416, 624),
    "decoded-detect-faces-false-008_B": WholePicture(416, 624),
    "decoded-detect-faces-false-009_C": WholePicture(348, 522),
    "decoded-detect-faces-false-010_2": WholePicture(800, 566),
    "decoded-detect-faces-false-011_3": WholePicture(800, 534),
    "decoded-detect-faces-false-012_4": WholePicture(800, 548),
    "decoded-detect-faces-false-013_4": WholePicture(800, 533),
    "decoded-detect-faces-false-014_5": WholePicture(800, 533),
    "decoded-detect-faces-false-015_6": WholePicture(800, 533),
    "decoded-detect-faces-false-016_8": WholePicture(800, 533),
    "decoded-detect-faces-false-017_0": WholePicture(565, 339),
    "detect-faces-false-1x1": WholePicture(1, 1),
    "detect-faces-false-base64": WholePicture(348, 522),
    "detect-faces-false-calculator-009_C": WholePicture(348, 522),
    "detect-faces-false-calculator-010_2": WholePicture(800, 566),
    "detect-faces-false-form-field": WholePicture(348, 522),
    "detect-faces-false-landmarks-009_C": WholePicture(348, 522),
    "detect-faces-false-landmarks-010_2": WholePicture(800, 566),
    "detect-faces-false-landmarks-pose-calculator-009_C": WholePicture(348, 522),
    "detect-faces-false-landmarks-pose-calculator-010_2": WholePicture(800, 566),
    "detect-faces-false-large": WholePicture(4912, 7360),
    "detect-faces-false-no-face": WholePicture(565, 339),
    "detect-faces-false-none-009_C": WholePicture(348, 522),
    "detect-faces-false-none-010_2": WholePicture(800, 566),
    "detect-faces-false-pose-009_C": WholePicture(348, 522),
    "detect-faces-false-pose-010_2": WholePicture(800, 566),
    "detect-faces-false-threshold": WholePicture(348, 522),
    "input-exif-2-jpg": AsRecorded(),
    "input-exif-3-jpg": AsRecorded(),
    "input-exif-4-jpg": AsRecorded(),
    "input-exif-5-jpg": AsRecorded(),
    "input-exif-6-jpg": AsRecorded(),
    "input-exif-7-jpg": AsRecorded(),
    "input-exif-8-jpg": AsRecorded(),
    "scan-input-exif-6-jpg": AsRecorded(),
    "input-corrupt-data-png": AsRecorded(),
    "input-truncated-50-png": CutShort(),
    "input-truncated-60-jpg": CutShort(),
    "scan-input-truncated-60-jpg": CutShort(),
    "input-gray-alpha-png": SameAs("input-gray-png"),
    "input-cmyk-jpg": SameAs("input-one-png", box_share=0.08),
    "scan-input-cmyk-jpg": SameAs("input-one-png", box_share=0.08),
    "state-after-failed-detect-faces-false": SameAs("face-plugins-none"),
}
"""What we do about each answer that the recordings mark as a defect of the original."""


class Session:
    """Sends each case once, however many tests look at its answer."""

    def __init__(self, engine: Engine, *, facenet: bool) -> None:
        self._engine = engine
        self._facenet = facenet
        self._replies: dict[str, Reply] = {}
        self._differences: dict[str, list[Difference]] = {}

    def reply(self, name: str) -> Reply:
        if name not in self._replies:
            request = case(name)["request"]
            if "before" in request:
                send(self._engine, request["before"])
            self._replies[name] = send(self._engine, request)
        return self._replies[name]

    def expected(self, name: str) -> dict[str, Any]:
        """The recorded JSON; embeddings are None where the engine has another calculator."""
        recorded: dict[str, Any] = case(name)["response"]["json"]
        return recorded if self._facenet else _by_the_embedded_calculator(recorded)

    def differences(self, name: str, want: Mapping[str, Any]) -> list[Difference]:
        if name not in self._differences:
            self._differences[name] = check_faces(self.reply(name).json(), want)
        return self._differences[name]


def _by_the_embedded_calculator(recorded: Mapping[str, Any]) -> dict[str, Any]:
    wanted = dict(recorded)
    for plugins in ("available_plugins", "plugins_versions"):
        if "calculator" in wanted.get(plugins, {}):
            wanted[plugins] = {**wanted[plugins], "calculator": EMBEDDED}
    if "similarity_coefficients" in wanted:  # /status
        wanted["calculator_version"] = EMBEDDED
        wanted["similarity_coefficients"] = EMBEDDED_COEFFICIENTS
    if "result" in wanted:
        wanted["result"] = [
            {**face, "embedding": None} if "embedding" in face else face
            for face in wanted["result"]
        ]
    return wanted


@pytest.fixture(scope="module", params=["facenet", "embedded calculator"])
def session(request: pytest.FixtureRequest) -> Iterator[Session]:
    if request.param == "facenet":
        yield Session(request.getfixturevalue("facenet"), facenet=True)
        return
    with Engine(
        FACE_DETECTION_PLUGIN="facenet.FaceDetector",
        CALCULATION_PLUGIN="embedded.Calculator",
        EXTRA_PLUGINS="facenet.LandmarksDetector,facenet.PoseEstimator",
    ) as engine:
        yield Session(engine, facenet=False)


def test_every_marked_defect_has_a_decision() -> None:
    marked = {name for name in case_ids() if "defects_of_the_original" in case(name)}
    assert marked == DECISIONS.keys()


@pytest.mark.parametrize("name", [name for name in case_ids() if name not in DECISIONS])
def test_an_answer_is_the_originals(session: Session, name: str) -> None:
    response = case(name)["response"]
    reply = session.reply(name)
    check_frame(reply, response)
    if "json" in response:
        check_json_bytes(reply.body)
        want = session.expected(name)
        if "result" in want:
            session.differences(name, want)
        else:
            # What /status says beyond the original: how each network runs here.
            ours = {"runtimes"} if "available_plugins" in want else set()
            got = reply.json()
            assert got.keys() - want.keys() == ours
            assert {key: got[key] for key in want} == want
        assert "x-image-truncated" not in reply.headers
    elif response.get("body", "") is None:
        assert reply.body == b""


@pytest.mark.parametrize("name", list(DECISIONS))
def test_a_defect_of_the_original_is_answered_as_decided(session: Session, name: str) -> None:
    reply = session.reply(name)
    decision = DECISIONS[name]
    check_json_bytes(reply.body)
    match decision:
        case Refused(names):
            assert reply.status == 422
            assert list(reply.json()) == ["message"]
            assert reply.json()["message"].startswith("422 Unprocessable Entity: ")
            assert names in reply.json()["message"]
        case WholePicture(width, height):
            assert reply.status == 200
            _check_whole_picture(reply, session.expected(name), width, height)
        case SameAs(other, box_share):
            assert reply.status == 200
            _check_same(reply, session.expected(other), box_share)
        case CutShort():
            check_frame(reply, case(name)["response"])
            session.differences(name, session.expected(name))
            assert reply.headers.get("x-image-truncated") == "true"
        case AsRecorded():
            check_frame(reply, case(name)["response"])
            want = session.expected(name)
            if "result" in want:
                session.differences(name, want)
            else:
                assert reply.json() == want


def test_nearly_all_faces_have_the_recorded_box_landmarks_and_embedding(session: Session) -> None:
    differences: list[Difference] = []
    here = [name for name in case_ids() if has_its_pictures(name)]
    for name in here:
        recorded = case(name)["response"].get("json") or {}
        if "result" in recorded and isinstance(
            DECISIONS.get(name, AsRecorded()), AsRecorded | CutShort
        ):
            differences += session.differences(name, session.expected(name))
    assert len(differences) > (300 if here == case_ids() else 150)
    boxes = sum(one.box_equal for one in differences)
    landmarks = sum(one.landmarks_equal for one in differences)
    assert boxes >= 0.85 * len(differences)
    assert landmarks >= 0.85 * len(differences)


def _check_whole_picture(reply: Reply, want: Mapping[str, Any], width: int, height: int) -> None:
    got = reply.json()
    assert got["plugins_versions"] == want["plugins_versions"]
    (face,), (recorded,) = got["result"], want["result"]
    assert face.keys() == recorded.keys()
    assert face["execution_time"].keys() == recorded["execution_time"].keys()
    box = {"probability": 1.0, "x_min": 0, "y_min": 0, "x_max": width, "y_max": height}
    assert face["box"] == box
    if "landmarks" in recorded:
        assert face["landmarks"] == recorded["landmarks"] == [[], [], [], [], []]
    if recorded.get("embedding") is not None:
        assert len(face["embedding"]) == len(recorded["embedding"])


def _check_same(reply: Reply, want: Mapping[str, Any], box_share: float) -> None:
    got = reply.json()
    if not box_share:
        check_faces(got, want)
        return
    (face,), (recorded,) = got["result"], want["result"]
    width = recorded["box"]["x_max"] - recorded["box"]["x_min"]
    for edge in ("x_min", "y_min", "x_max", "y_max"):
        assert abs(face["box"][edge] - recorded["box"][edge]) <= box_share * width
