"""Asks an engine for the embeddings of stored pictures, as the api stores them: at unit length."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from compreface_cli.engine import embeddings
from compreface_cli.engine.client import LATER, EngineClient, Refused, until
from compreface_cli.errors import UnhealthyError

Kind: TypeAlias = Literal["one face", "several faces", "no face", "unreadable"]
Key = TypeVar("Key")

BUSY_S = 120.0  # how long an engine that has no room is asked about one picture
_PAUSE_S = 0.25
_FAULTS = 3  # a picture that the engine fails on (500) this often is unreadable to it
_NO_FACE = "No face is found"  # of the contract, so of every engine


@dataclass(frozen=True, slots=True)
class Face:
    """A face in a picture: `box` (x_min, y_min, x_max, y_max) px, `probability` 0..1, and the
    `embedding` at unit length, float64."""

    box: tuple[float, ...]
    probability: float
    embedding: tuple[float, ...]

    @property
    def area(self) -> float:
        """Of its box, px²."""
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True)
class Seen:
    """What an engine sees in a picture: `faces`, the largest first.

    `reason`: why there is none, in the engine's words; "" where there are some.
    """

    faces: tuple[Face, ...] = ()
    reason: str = ""

    @property
    def kind(self) -> Kind:
        if self.faces:
            return "one face" if len(self.faces) == 1 else "several faces"
        return "no face" if _NO_FACE in self.reason or not self.reason else "unreadable"


def faces(client: EngineClient, picture: bytes, *, limit_s: float = BUSY_S) -> Seen:
    """What the engine sees in the picture, which it is asked as the api asks it.

    A picture without a face or that cannot be read is a value. An engine that has no room now is
    asked again. Raises UnhealthyError when it cannot be reached, stays too busy for `limit_s`, or
    gives an answer that is none.
    """
    deadline, faults = time.monotonic() + limit_s, 0
    while True:
        try:
            answer = client.scan(picture, plugins=("calculator",))
            return Seen(tuple(sorted(_read(answer, client.url), key=lambda face: -face.area)))
        except Refused as refused:
            if refused.status not in LATER and refused.status < 500:
                return Seen(reason=refused.message)
            faults += refused.status not in LATER
            if faults >= _FAULTS:
                return Seen(reason=refused.message)
            if not until(deadline):
                raise UnhealthyError(
                    f"the engine at {client.url} takes no picture: {refused.message}"
                ) from refused
            time.sleep(_PAUSE_S)


def _read(answer: dict[str, Any], url: str) -> Iterator[Face]:
    """The faces of an answer; raises UnhealthyError for one that does not keep the contract."""
    try:
        for face in answer["result"]:
            sides = (face["box"][side] for side in ("x_min", "y_min", "x_max", "y_max"))
            yield Face(
                tuple(float(side) for side in sides),
                float(face["box"]["probability"]),
                tuple(embeddings.unit([float(value) for value in face["embedding"]])),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise UnhealthyError(f"the engine at {url} gave no valid face: {error!r}") from error


def several(
    client: EngineClient,
    pictures: Iterable[tuple[Key, bytes]],
    *,
    at_once: int = 4,
    limit_s: float = BUSY_S,
) -> Iterator[tuple[Key, Seen]]:
    """`faces` of many pictures, `at_once` of them in flight, in their order.

    Takes a picture from the iterable only once there is room for it, so memory holds `at_once` of
    them. Raises as `faces` does.
    """
    waiting: deque[tuple[Key, Future[Seen]]] = deque()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="recompute")
    try:
        for key, picture in pictures:
            waiting.append((key, pool.submit(faces, client, picture, limit_s=limit_s)))
            del picture
            while len(waiting) >= at_once or (waiting and waiting[0][1].done()):
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        # After an error what is in flight ends with its engine; it is not waited for.
        pool.shutdown(wait=not waiting, cancel_futures=True)
