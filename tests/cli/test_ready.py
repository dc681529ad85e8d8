"""Ready is a right answer: every way of being wrong is told with both values."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.builds import builds
from compreface_cli.config import settings
from compreface_cli.engine import known_answer
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.errors import ConfigurationError, UnhealthyError
from compreface_cli.instance.state import Endpoint, ServiceState
from compreface_cli.models import prepare
from compreface_cli.models.entry import Border
from compreface_cli.plan import plan
from tests.cli.local_cf import free_port
from tests.cli.names import assert_named
from tests.cli.talking_engine import CALCULATOR, TalkingEngine, face, serving

BOX = (160, 48, 287, 184)
HER = [0.6, 0.8, 0.0]
OTHER = [0.0, 0.0, 1.0]
ANSWER = KnownAnswer(CALCULATOR, BOX, tuple(HER), (1.1, 6.0), 1.0, "a test")
RUNNING = ServiceState("core", "running")


def right() -> TalkingEngine:
    engine = TalkingEngine()
    engine.says("astronaut.png", face(BOX, HER))
    engine.says("grace_hopper.jpg", face((1, 1, 9, 9), OTHER))
    return engine


def check(engine: TalkingEngine, answer: KnownAnswer = ANSWER) -> known_answer.Proof:
    with serving(engine) as endpoint:
        return known_answer.check(endpoint, answer, time.monotonic() + 20)


def refusal(engine: TalkingEngine, answer: KnownAnswer = ANSWER) -> dict[str, Any]:
    with pytest.raises(UnhealthyError) as caught:
        check(engine, answer)
    assert str(caught.value.details["expected"]) in caught.value.message
    assert str(caught.value.details["got"]) in caught.value.message
    return caught.value.details


def test_the_expected_answer_passes() -> None:
    proof = check(right())
    assert proof.box_off_px == 0
    assert proof.cosine == pytest.approx(1.0)
    assert proof.second_similarity < 0.5


def test_a_wrong_similarity_of_the_entry_is_named_as_likely_cause() -> None:
    with pytest.raises(UnhealthyError) as caught:
        check(right(), replace(ANSWER, similarity=(1.9, 6.0)))
    hint = caught.value.hint or ""
    assert_named(hint, "1.41", "`similarity`", "1.9")


def test_two_people_are_distinguished_by_the_border_of_the_calculator() -> None:
    """Distance 1.0, a similarity of 0.77 by (1.1, 6.0): below facenet's border, above 0.52."""
    engine = right()
    engine.says("grace_hopper.jpg", face((1, 1, 9, 9), [0.3, 0.4, 0.866]))
    assert check(engine, replace(ANSWER, border=0.81)).second_similarity > 0.7
    seen = refusal(engine, replace(ANSWER, border=0.52))
    assert (seen["expected"], 0.7 < seen["got"] < 0.81) == ("below 0.52", True)


def test_the_border_is_the_builds_or_the_catalogues_or_half() -> None:
    def border(wanted: plan.Plan) -> float:
        said = {"box": list(BOX), "embedding": HER, "similarity": [1.5, 2.5]}
        return known_answer.expected(wanted, {}, lambda: said).border

    own = _own_model_plan()
    (model,) = own.models
    stated = replace(own, models=(replace(model, border=Border(0.7)),))
    assert [border(_plan(name)) for name in ("embedded", "facenet", "mobilenet")] == [
        0.52,
        0.81,
        0.69,
    ]
    assert border(stated) == 0.7
    assert border(replace(own, models=(replace(model, border=None),))) == 0.5


def test_an_answer_that_was_kept_without_a_border_is_read() -> None:
    kept = asdict(ANSWER)
    del kept["border"]
    assert KnownAnswer.from_dict(kept) == ANSWER


def test_two_pixels_and_a_longer_vector_are_still_right() -> None:
    engine = right()
    engine.says("astronaut.png", face((162, 46, 287, 184), [6.0, 8.0, 0.1]))
    assert check(engine).box_off_px == 2


def test_a_box_three_pixels_off_is_wrong() -> None:
    engine = right()
    engine.says("astronaut.png", face((163, 48, 287, 184), HER))
    assert refusal(engine)["got"] == [163, 48, 287, 184]


def test_another_embedding_is_wrong() -> None:
    engine = right()
    engine.says("astronaut.png", face(BOX, [0.6, 0.8, 0.05]))
    seen = refusal(engine)
    assert 0.99 < seen["cosine"] < 0.999
    assert seen["expected"] == "[0.6000, 0.8000, 0.0000, ...] (3 numbers)"


@pytest.mark.parametrize("embedding", [[0.0, 0.0, 0.0], [float("nan")] * 3])
def test_an_embedding_of_length_zero_is_wrong(embedding: list[float]) -> None:
    engine = right()
    engine.says("astronaut.png", face(BOX, embedding))
    refusal(engine)


def test_an_embedding_of_another_length_is_wrong() -> None:
    engine = right()
    engine.says("astronaut.png", face(BOX, [*HER, 0.0]))
    assert refusal(engine)["got"] == 4


def test_two_people_who_count_as_one_are_wrong() -> None:
    engine = right()
    engine.says("grace_hopper.jpg", face((1, 1, 9, 9), HER))
    assert refusal(engine)["got"] == 1.0


def test_another_calculator_is_wrong() -> None:
    engine = right()
    engine.calculator = "other.Calculator"
    assert refusal(engine)["expected"] == CALCULATOR


def test_no_face_two_faces_and_no_embedding_are_wrong() -> None:
    engine = right()
    del engine.answers["astronaut.png"]
    assert "No face is found" in refusal(engine)["got"]
    engine.says("astronaut.png", face(BOX, HER), face(BOX, HER))
    assert refusal(engine)["got"] == "2 faces"
    engine.answers["astronaut.png"] = (200, {"result": [{"box": face(BOX, HER)["box"]}]})
    assert refusal(engine)["got"] == "none"


def test_a_shrunk_portrait_may_be_off_by_more_but_not_by_anything() -> None:
    engine = right()
    engine.says("astronaut.png", face((170, 48, 287, 184), [0.6, 0.8, 0.05]))
    assert check(engine, replace(ANSWER, shrink=0.5)).box_off_px == 10
    engine.says("astronaut.png", face((180, 48, 287, 184), HER))
    refusal(engine, replace(ANSWER, shrink=0.5))
    engine.says("astronaut.png", face(BOX, [0.6, -0.8, 0.0]))
    refusal(engine, replace(ANSWER, shrink=0.5))


def test_an_answer_survives_its_record() -> None:
    assert KnownAnswer.from_dict(json.loads(json.dumps(asdict(ANSWER)))) == ANSWER


def test_embeddings_of_one_model_are_comparable_and_of_another_are_not() -> None:
    near = replace(ANSWER, embedding=(0.62, 0.78, 0.05))
    assert known_answer.same_space(ANSWER, near)
    assert not known_answer.same_space(ANSWER, replace(ANSWER, embedding=(0.8, -0.6, 0.0)))
    assert not known_answer.same_space(ANSWER, replace(ANSWER, embedding=(0.6, 0.8)))


def never() -> dict[str, Any]:
    raise AssertionError("a stored answer was there")


def test_the_bundled_builds_whose_files_are_known_have_an_answer() -> None:
    for name, length in (("embedded", 192), ("facenet", 512)):
        known = known_answer.expected(_plan(name), {}, never)
        assert (len(known.embedding), len(known.box), known.shrink) == (length, 4, 1.0)
        assert known.calculator == _plan(name).calculator
    small = replace(_plan("embedded"), max_detect_size=256)
    assert known_answer.expected(small, {}, never).shrink == 0.5


def test_a_user_supplied_model_has_its_stored_answer(tmp_path: Path) -> None:
    own = _own_model_plan()
    document = {
        "similarity": [1.0, 2.0],
        "known_answers": {own.detector: {"box": list(BOX), "embedding": HER}},
    }
    (tmp_path / "model.json").write_text(json.dumps(document))
    models = {own.models[0].name: tmp_path}
    known = known_answer.expected(own, models, never)
    assert (known.box, known.embedding, known.similarity) == (BOX, tuple(HER), (1.0, 2.0))
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ConfigurationError, match=str(tmp_path / "model.json")):
        known_answer.expected(own, models, never)


def test_a_pair_without_a_stored_answer_is_computed(tmp_path: Path) -> None:
    own = _own_model_plan()
    (tmp_path / "model.json").write_text(json.dumps({"similarity": [1, 2], "known_answers": {}}))
    said = {"box": list(BOX), "embedding": HER, "similarity": [1.5, 2.5]}
    known = known_answer.expected(own, {own.models[0].name: tmp_path}, lambda: said)
    assert (known.box, known.embedding, known.similarity) == (BOX, tuple(HER), (1.5, 2.5))
    with pytest.raises(ConfigurationError, match="box"):
        known_answer.expected(own, {}, lambda: {"similarity": [1.5, 2.5]})


def test_a_less_exact_build_is_checked_with_its_own_tolerance() -> None:
    plan = _plan("embedded")
    for changes, least in (
        ({}, 0.999),
        ({"min_cosine": 0.99}, 0.999),
        ({"runtime": "auto"}, 0.998),
        ({"runtime": "openvino", "min_cosine": 0.99}, 0.99),
        ({"runtime": "auto", "precision": "fp32"}, 0.999),
        ({"runtime": "auto", "min_cosine": 0.9999}, 0.999),
    ):
        wanted = replace(plan, **changes)
        assert known_answer.expected(wanted, {}, never).least == least, changes


def test_a_shipped_answer_counts_for_the_files_it_was_made_from(tmp_path: Path) -> None:
    plan = _plan("mnet25-mobilefacenet")
    said = {"box": list(BOX), "embedding": HER, "similarity": [1.5, 2.5]}
    models = {}
    for model in plan.models:
        folder = tmp_path / model.name
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps({"similarity": [1, 2]}))
        models[model.name] = folder
        record = {
            "entry": "",
            "sources": {one.path: one.sha256[0] for one in model.files},
            "files": {},
            "sizes": {},
        }
        (folder / prepare.RECORD).write_text(json.dumps(record))
    assert len(known_answer.expected(plan, models, never).embedding) == 128
    record["sources"] = dict.fromkeys(record["sources"], "0" * 64)
    (models["mnet25_retrained"] / prepare.RECORD).write_text(json.dumps(record))
    assert known_answer.expected(plan, models, lambda: said).embedding == tuple(HER)


def test_waiting_ends_when_the_engine_answers() -> None:
    with serving(right()) as endpoint:
        known_answer.wait(endpoint, lambda: RUNNING, time.monotonic() + 20)


@pytest.mark.parametrize("state", ["failed", "stopped", "missing", "restarting"])
def test_waiting_ends_at_once_when_the_engine_is_gone(state: Any) -> None:
    gone = ServiceState("core", state, "exit code 3")
    with pytest.raises(UnhealthyError, match="exit code 3"):
        known_answer.wait(_nobody(), lambda: gone, time.monotonic() + 3600)


def test_waiting_ends_at_the_first_crash() -> None:
    crashed = ServiceState("core", "running", "started again 1 times", restarts=1)
    with pytest.raises(UnhealthyError, match=crashed.detail):
        known_answer.wait(_nobody(), lambda: crashed, time.monotonic() + 3600)


def test_waiting_ends_at_the_deadline() -> None:
    with pytest.raises(UnhealthyError) as caught:
        known_answer.wait(_nobody(), lambda: RUNNING, time.monotonic())
    assert "--timeout" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((500, {"message": "500 Internal Server Error: no model"}), "500 Internal .* no model"),
        ((502, "bad gateway"), "502 .*bad gateway"),
        ((200, {"status": "loading"}), "200 .*loading"),
    ],
)
def test_the_answer_of_an_unhealthy_engine_is_shown(answer: tuple[int, Any], said: str) -> None:
    engine = right()
    engine.status = answer
    with (
        serving(engine) as endpoint,
        pytest.raises(UnhealthyError, match=said) as caught,
    ):
        known_answer.wait(endpoint, lambda: RUNNING, time.monotonic() + 0.3)
    assert "--timeout" not in str(caught.value.hint)


@pytest.mark.parametrize(
    ("state", "detail", "words"),
    [
        ("failed", "exit code 137: killed", "core ended with exit code 137: killed"),
        ("failed", "ended by SIGKILL", "core ended by SIGKILL"),
        ("failed", "gave up", "core has failed: gave up"),
        ("missing", "no container", "core is missing: no container"),
        ("stopped", "", "core is stopped"),
    ],
)
def test_the_state_of_a_service_is_a_sentence(state: Any, detail: str, words: str) -> None:
    assert ServiceState("core", state, detail).words == words


def test_all_services_are_waited_for() -> None:
    looks = [
        [RUNNING, ServiceState("api", "starting")],
        [RUNNING, ServiceState("api", "running", healthy=False)],
        [RUNNING, ServiceState("api", "running", healthy=True)],
    ]
    known_answer.wait_for_all(_one_after_the_other(looks), time.monotonic() + 20)
    with pytest.raises(UnhealthyError, match=r"api .*gone"):
        known_answer.wait_for_all(
            lambda: [ServiceState("api", "failed", "gone")], time.monotonic() + 20
        )
    with pytest.raises(UnhealthyError, match="api"):
        known_answer.wait_for_all(lambda: looks[0], time.monotonic())


def _one_after_the_other(
    looks: list[list[ServiceState]],
) -> Callable[[], Sequence[ServiceState]]:
    rest = iter(looks)
    return lambda: next(rest)


def _nobody() -> Endpoint:
    return Endpoint("127.0.0.1", free_port())


def _plan(name: str) -> plan.Plan:
    nowhere = Path("/nowhere/file.yaml")
    chosen = settings.resolve({}, environ={}, project_file=nowhere, user_file=nowhere)
    return plan.resolve(builds.load(name), chosen)


def _own_model_plan() -> plan.Plan:
    facenet = _plan("facenet")
    model = replace(facenet.models[0], name="mine")
    return replace(facenet, calculator="custom.Calculator@mine", models=(model,))
