"""`cf compare`: are these the same person? By the engine's embeddings and its own coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from compreface_cli import plugin_table
from compreface_cli.deploy import running
from compreface_cli.engine import embeddings
from compreface_cli.errors import CfError
from compreface_cli.models import catalogue
from compreface_cli.models.entry import Border
from compreface_cli.photos.scan import CUT_SHORT, Engine, Seen


@dataclass(frozen=True, slots=True)
class Pair:
    """Two faces: pictures by their index, faces by their index in the picture (0: the largest)."""

    a: int
    b: int
    face_a: int
    face_b: int
    distance: float  # of the two embeddings at unit length, 0..2
    similarity: float  # 0..1
    verdict: str | None  # None where the calculator's border is not known


def border_of(engine: Engine, instance: str | None, url: str | None) -> Border | None:
    """The border of the engine's calculator: what its build states, else the catalogue's.

    An engine at `url` names its calculator and coefficients, and nothing of its build.
    """
    if url is None:
        record = running.pick(instance, only_running=instance is None)
        name = plugin_table.model_of(engine.calculator)
        for model in record.plan.get("models", ()):
            if model["name"] == name and model.get("border"):
                return Border(**model["border"])
    return catalogue.border(engine.calculator, engine.similarity)


def verdict(similarity: float, border: Border | None) -> str | None:
    """What a similarity says by that border; nothing without one."""
    if border is None:
        return None
    if border.sure is not None and similarity >= border.sure:
        return "probably the same"
    return "perhaps the same" if similarity >= border.at else "probably different"


def scale(calculator: str, border: Border | None) -> str:
    """What the similarities of this calculator mean, and how often its verdicts are wrong."""
    said = f"By {calculator}: 1 is the same picture of a face. "
    if border is None:
        return said + (
            "Nobody has measured from which similarity on two faces are one person by this "
            "calculator, so there is no verdict; a build that knows states it as `border` of its "
            "model."
        )
    said += f"Perhaps the same person from {border.at:.2f}"
    if border.sure is not None:
        said += f", probably from {border.sure:.2f}"
    figures = []
    if border.equal_error is not None:
        figures.append(f"{border.equal_error:g} % are wrong at {border.at:.2f}")
    if border.sure is not None and border.sure_different is not None:
        reach = f"{border.sure_different:g} % of different people's reach {border.sure:.2f}"
        missed = (
            "" if border.sure_same is None else f", {border.sure_same:g} % of one person's do not"
        )
        figures.append(reach + missed)
    if figures:
        said += f"; of {border.set or 'the pairs it was measured on'} {'; '.join(figures)}"
    return said + ". It is no proof."


def compare(engine: Engine, seen: Sequence[Seen], border: Border | None) -> list[Pair]:
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
                face, other = seen[a].faces[0], seen[b].faces[face_b]
                apart = embeddings.distance(face["embedding"], other["embedding"])
            except (KeyError, TypeError, ValueError) as error:
                raise CfError(
                    f"the embeddings of {seen[a].picture.name} and {seen[b].picture.name} cannot "
                    f"be compared: {error}"
                ) from error
            like = embeddings.similarity(apart, engine.similarity)
            pairs.append(Pair(a, b, 0, face_b, apart, like, verdict(like, border)))
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
