"""The reference answer: waits for the engine and compares its answer for a portrait with it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compreface_cli import plugin_table, resources
from compreface_cli.checks import log_engine
from compreface_cli.engine import embeddings
from compreface_cli.engine.client import LATER, EngineClient, Refused, fault, until
from compreface_cli.errors import CfError, ConfigurationError, UnhealthyError
from compreface_cli.instance.state import Endpoint, ServiceState
from compreface_cli.models.prepare import read_record
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import BF16
from compreface_cli.topics import Topic

LATE = Topic(
    "engine-not-ready",
    means="The engine, or a service that needs it, was not ready within the time of a start.",
    why="The start is rolled back: what ran before runs again.",
    see="`cf logs INSTANCE --explain`; `top` shows whether the machine is busy.",
    ways=(
        "Give it more time: `--timeout 600`.",
        "See to the last answer or the log lines that the message has.",
    ),
)

ENDED = Topic(
    "engine-ended",
    means="The engine ended at its start, or soon after it.",
    why="The start is rolled back: what ran before runs again.",
    see="The message has how it ended and its last lines.",
    ways=(
        "See to the likely cause that the message names.",
        "`cf doctor` checks processor, memory, disk and models.",
    ),
)

WRONG = Topic(
    "wrong-answer",
    means="The engine answers, and not what is known of the reference photographs: another "
    "face, box, embedding or calculator.",
    why="Its embeddings could not be compared with those that the same build computes "
    "elsewhere. The start is rolled back.",
    see="The message shows what was expected and what came.",
    ways=(
        "For your own model: check colour order, `mean`, `scale`, `align` and `similarity` "
        "in the build file.",
        "`cf models verify` finds damaged files.",
        "Defective memory or an overclocked processor computes wrongly, too.",
    ),
)

BOX_TOLERANCE_PX = 2.0  # another processor or library moves a box by a pixel at most, by rounding
MIN_COSINE = 0.999
SAME_PERSON = 0.5  # for a calculator without a known threshold: half of the similarity's range
_POLL_S = 0.1
_ENDED = ("failed", "paused", "stopped", "missing")
_RETRY_S = 0.5
# The portrait is 512 px wide. A smaller limit makes the detector see a smaller picture; measured
# from 120 to 500 px its box then moves by up to 10 px and the cosine stays above 0.99.
_PORTRAIT_PX = 512
_BOX_TOLERANCE_SHRUNK_PX = 16.0
_MIN_COSINE_SHRUNK = 0.9


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """The expected answer for the shipped portrait; kept as JSON in the instance's record.

    `box` (x_min, y_min, x_max, y_max) px, `embedding` of any norm, `similarity` (c0, c1), `shrink`
    at most 1: the factor by which the engine's limit shrinks the portrait before detection;
    `least`: the smallest accepted cosine, lower for a build whose runtime may be less exact;
    `border`: the similarity from which two faces may be the same person.
    """

    calculator: str
    box: tuple[float, ...]
    embedding: tuple[float, ...]
    similarity: tuple[float, ...]
    shrink: float
    source: str
    least: float = MIN_COSINE
    border: float = SAME_PERSON

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> KnownAnswer:
        """The inverse of dataclasses.asdict, through JSON."""
        lists = {key: tuple(document[key]) for key in ("box", "embedding", "similarity")}
        return cls(**{**document, **lists})


@dataclass(frozen=True, slots=True)
class Proof:
    """How close the engine's answer was; `cf up` prints it."""

    box_off_px: float
    cosine: float
    second_similarity: float
    seconds: float


def expected(
    plan: Plan, models: Mapping[str, Path], compute: Callable[[], Mapping[str, Any]]
) -> KnownAnswer:
    """The answer for this detector and calculator: the stored one, else what `compute` returns."""
    kept = stored(plan, models)
    if kept is not None:
        return kept
    computed = compute()
    return _answer(plan, computed, computed["similarity"], Path("the converter"))


def stored(plan: Plan, models: Mapping[str, Path]) -> KnownAnswer | None:
    """The answer that is shipped with `cf` or stored with the prepared model; else None.

    A shipped one is valid only for the files that it was computed from.
    """
    for path in sorted((resources.builds_dir() / "answers").glob("*.json")):
        document = _json(path)
        pair = (document.get("detector"), document.get("calculator"))
        if pair == (plan.detector, plan.calculator) and _of_these_files(document, models):
            return _answer(plan, document, document["similarity"], path)
    name = plugin_table.model_of(plan.calculator)
    if name is not None and name in models:
        path = models[name] / "model.json"
        document = _json(path)
        known = document.get("known_answers", {}).get(plan.detector)
        if known is not None:
            return _answer(plan, known, document["similarity"], path)
    return None


def label_of(answer: KnownAnswer) -> str:
    """The answer as the value of an image's label: JSON, with six digits of each number."""
    document = {
        "box": [float(f"{value:.6g}") for value in answer.box],
        "embedding": [float(f"{value:.6g}") for value in answer.embedding],
        "similarity": list(answer.similarity),
        "border": answer.border,
    }
    return json.dumps(document, separators=(",", ":"))


def of_label(plan: Plan, text: str, where: str) -> KnownAnswer:
    """The inverse of `label_of`; raises ConfigurationError."""
    try:
        document = json.loads(text)
        border = float(document["border"])
        similarity = document["similarity"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{where} contains no valid reference answer: {error}") from error
    return replace(_answer(plan, document, similarity, Path(where)), border=border)


def _of_these_files(shipped: Mapping[str, Any], models: Mapping[str, Path]) -> bool:
    """Whether the models were prepared from the files that the shipped answer was computed from."""
    for name, digests in shipped.get("sources", {}).items():
        record = read_record(models[name]) if name in models else None
        if record is None or sorted(record.sources.values()) != sorted(digests):
            return False
    return True


def same_space(first: KnownAnswer, second: KnownAnswer) -> bool:
    """Whether the two come from one embedding model, so that stored embeddings stay comparable.

    With another detector or limit the cosine is about 0.98, with another model about 0.
    """
    try:
        return embeddings.cosine(first.embedding, second.embedding) > 0.9
    except ValueError:
        return False


def _json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} is not a JSON object")
    return document


def _answer(
    plan: Plan, document: Mapping[str, Any], similarity: Sequence[float], path: Path
) -> KnownAnswer:
    try:
        x_min, y_min, x_max, y_max = (float(value) for value in document["box"])
        c0, c1 = (float(value) for value in similarity)
        embedding = tuple(float(value) for value in document["embedding"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path} contains no valid reference answer: {error}") from error
    shrink = min(1.0, (plan.max_detect_size or _PORTRAIT_PX) / _PORTRAIT_PX)
    border = plan.border
    return KnownAnswer(
        plan.calculator,
        (x_min, y_min, x_max, y_max),
        embedding,
        (c0, c1),
        shrink,
        str(path),
        _least_cosine(plan),
        SAME_PERSON if border is None else border.at,
    )


def _least_cosine(plan: Plan) -> float:
    """The smallest accepted cosine: lower only if the engine may compute in bfloat16."""
    rounds = plan.runtime in BF16 and plan.precision != "fp32"
    return min(MIN_COSINE, plan.min_cosine) if rounds else MIN_COSINE


def wait(endpoint: Endpoint, look: Callable[[], ServiceState], deadline: float) -> None:
    """Wait until the engine answers `/status` with OK.

    Raises UnhealthyError at once when it has ended or crashed, and at `deadline` (time.monotonic).
    """
    answered = ""
    while True:
        state = look()
        if state.state in (*_ENDED, "restarting") or state.restarts:
            detail = f": {state.detail}" if state.detail else ""
            raise UnhealthyError(
                f"the engine did not start{detail}", details={"state": state.state}, topic=ENDED
            )
        timeout_s = max(0.2, min(2.0, until(deadline)))
        problem = fault(endpoint.url, key=endpoint.key, timeout_s=timeout_s)
        if problem is None:
            return
        answered = problem or answered
        if time.monotonic() >= deadline:
            raise _late(answered)
        time.sleep(_POLL_S)


def _late(answered: str) -> UnhealthyError:
    """The error of an engine that was not ready at the deadline, with its last answer if any."""
    if not answered:
        return UnhealthyError(
            "the engine was not ready in time: it gave no answer",
            hint="Give it more with --timeout SECONDS.",
            topic=LATE,
        )
    return UnhealthyError(
        f"the engine was not ready in time; its last answer was: {answered}",
        details={"answer": answered},
        topic=LATE,
    )


def wait_for_all(look: Callable[[], Sequence[ServiceState]], deadline: float) -> None:
    """Wait until all services run and none is unhealthy; raises as `wait` does."""
    while True:
        states = look()
        for service in states:
            if service.state in _ENDED:
                raise UnhealthyError(service.words, details={"service": service.name}, topic=ENDED)
        pending = [
            service for service in states if service.state != "running" or service.healthy is False
        ]
        if not pending:
            return
        if time.monotonic() >= deadline:
            names = ", ".join(service.name for service in pending)
            raise UnhealthyError(
                f"not ready in time: {names}",
                hint="Allow more time with --timeout SECONDS.",
                details={"service": pending[0].name},
                topic=LATE,
            )
        time.sleep(_POLL_S)


def check(endpoint: Endpoint, answer: KnownAnswer, deadline: float) -> Proof:
    """Check the engine's answers for both portraits; the UnhealthyError shows both values."""
    started = time.monotonic()
    portraits = resources.portraits_dir()
    timeout_s = max(1.0, until(deadline))
    with EngineClient(endpoint.url, key=endpoint.key, timeout_s=timeout_s) as client:
        calculator = client.status().get("calculator_version")
        if calculator != answer.calculator:
            raise _wrong("calculator", answer.calculator, calculator)
        face = _one_face(client, portraits / resources.PORTRAIT, deadline)
        second = _one_face(client, portraits / resources.SECOND_PORTRAIT, deadline)
    box = tuple(float(face["box"][side]) for side in ("x_min", "y_min", "x_max", "y_max"))
    off = max(abs(side - expected) for side, expected in zip(box, answer.box, strict=True))
    exact = answer.shrink == 1.0
    if off > (BOX_TOLERANCE_PX if exact else _BOX_TOLERANCE_SHRUNK_PX):
        raise _wrong("box", list(answer.box), list(box))
    got, wanted = face["embedding"], answer.embedding
    if len(got) != len(wanted):
        raise _wrong("length of the embedding", len(wanted), len(got))
    try:
        cosine = embeddings.cosine(got, wanted)
        apart = embeddings.distance(got, second["embedding"])
    except ValueError as error:
        raise _wrong("embedding", _head(wanted), str(error)) from error
    least = answer.least if exact else _MIN_COSINE_SHRUNK
    if not cosine >= least:
        what = f"embedding (cosine {cosine:.4f}, at least {least} expected)"
        raise _wrong(what, _head(wanted), _head(got), cosine=cosine)
    other = embeddings.similarity(apart, answer.similarity)
    if not other < answer.border:
        what, most = "similarity of two people", f"below {answer.border}"
        raise _wrong(what, most, round(other, 4), hint=_too_alike(apart, answer))
    return Proof(off, cosine, other, time.monotonic() - started)


def _one_face(client: EngineClient, portrait: Path, deadline: float) -> dict[str, Any]:
    data, answer = portrait.read_bytes(), None
    while answer is None:
        try:
            answer = client.scan(data, filename=portrait.name, plugins=["calculator"])
        except Refused as refused:
            if refused.status not in LATER:
                wrong = _wrong(f"answer for {portrait.name}", "one face", refused.message)
                raise wrong from refused
            if time.monotonic() >= deadline:
                raise UnhealthyError(
                    f"the engine was too busy for the check: {refused.message}",
                    hint="Allow more time with --timeout SECONDS, or raise rate_limit and "
                    "rate_burst.",
                    topic=log_engine.OVERLOADED,
                ) from refused
            time.sleep(_RETRY_S)
    faces = answer.get("result")
    if not isinstance(faces, list) or len(faces) != 1:
        count = len(faces) if isinstance(faces, list) else "no list of"
        raise _wrong(f"answer for {portrait.name}", "1 face", f"{count} faces")
    if "embedding" not in faces[0]:
        raise _wrong(f"answer for {portrait.name}", "an embedding", "none")
    face: dict[str, Any] = faces[0]
    return face


_DAMAGED = (
    "A model file is damaged or is not the one that the build names, or this machine computes "
    "incorrectly. `cf doctor` checks the models."
)


def _too_alike(apart: float, answer: KnownAnswer) -> str:
    """The likely cause when the reference is met, but two people count as the same person."""
    return (
        f"The embeddings of two people are {apart:.2f} apart (0 is the same, 2 the opposite), and "
        f"the model's `similarity` says that the same person is below {answer.similarity[0]:g}. "
        "Set a lower first number in the build's entry of the model. If the distance looks too "
        "small, `input` or `align` are not as the network was trained."
    )


def _wrong(
    what: str, expected: object, got: object, *, hint: str = _DAMAGED, **more: Any
) -> CfError:
    return UnhealthyError(
        f"wrong answer: the {what} of the reference face\n"
        f"  expected  {expected}\n  got       {got}",
        hint=hint,
        details={"wrong": what, "expected": expected, "got": got, **more},
        topic=WRONG,
    )


def _head(vector: Sequence[float]) -> str:
    shown = ", ".join(f"{value:.4f}" for value in embeddings.unit(vector)[:6])
    return f"[{shown}, ...] ({len(vector)} numbers)"
