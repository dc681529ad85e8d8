"""`cf compare`: are these the same person? By the engine's embeddings and its own coefficients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from compreface_cli.errors import CfError
from compreface_cli.flows.scan import CUT_SHORT, Engine, Seen

# Upstream's similarity is 0.5 where its coefficients put the border between same and different.
BORDER = 0.5
CLEAR = 0.85


@dataclass(frozen=True, slots=True)
class Pair:
    """Two faces: pictures by their index, faces by their index in the picture (0: the largest)."""

    a: int
    b: int
    face_a: int
    face_b: int
    distance: float  # of the two embeddings at unit length, 0..2
    similarity: float  # 0..1

    @property
    def verdict(self) -> str:
        if self.similarity >= CLEAR:
            return "probably the same"
        if self.similarity >= BORDER:
            return "perhaps the same"
        return "probably different"


def distance(one: Sequence[float], other: Sequence[float]) -> float:
    """Euclidean distance of two embeddings at unit length; ValueError if one cannot be compared."""
    if len(one) != len(other):
        raise ValueError("embeddings of different length")
    return math.dist(_unit(one), _unit(other))


def similarity(distance: float, coefficients: tuple[float, float]) -> float:
    """Upstream's formula, 0..1: (tanh((c0 - distance) * c1) + 1) / 2."""
    c0, c1 = coefficients
    return (math.tanh((c0 - distance) * c1) + 1) / 2


def _unit(vector: Sequence[float]) -> list[float]:
    length = math.hypot(*vector)
    if not length or not math.isfinite(length):
        raise ValueError("an embedding without direction")
    return [value / length for value in vector]


def compare(engine: Engine, seen: Sequence[Seen]) -> list[Pair]:
    """Two pictures: the largest face of the first with each face of the second; more: the largest
    face of each with that of every other. Pictures without face are left out.

    Raises CfError when the engine gives no embeddings.
    """
    if "calculator" not in engine.plugins:
        raise CfError(f"the engine at {engine.url} has no calculator, so nothing can be compared")
    pairs = []
    for a, b in combinations(range(len(seen)), 2):
        several = range(len(seen[b].faces)) if len(seen) == 2 else range(len(seen[b].faces[:1]))
        if not seen[a].faces:
            continue
        for face_b in several:
            try:
                apart = distance(seen[a].faces[0]["embedding"], seen[b].faces[face_b]["embedding"])
            except (KeyError, TypeError, ValueError) as error:
                raise CfError(
                    f"the embeddings of {seen[a].picture.name} and {seen[b].picture.name} cannot "
                    f"be compared: {error}"
                ) from error
            pairs.append(Pair(a, b, 0, face_b, apart, similarity(apart, engine.similarity)))
    return pairs


def remarks(seen: Sequence[Seen]) -> list[str]:
    """What a reader has to know about the pictures: cut short, failed, no face, more than one."""
    found = []
    for number, one in enumerate(seen):
        name = one.picture.name
        if one.cut_short:
            found.append(f"{name} {CUT_SHORT}")
        if one.error:
            found.append(f"{name} failed: {one.error}")
        elif not one.faces:
            found.append(f"{name}: no face was found")
        elif len(one.faces) > 1 and (number == 0 or len(seen) > 2):
            found.append(f"{name} has {len(one.faces)} faces; the largest is compared")
        elif len(one.faces) > 1:
            found.append(f"{name} has {len(one.faces)} faces; each is compared")
    return found
