"""`cf compare`: similarity and verdict of pairs of faces, from the engine's embeddings."""

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
from compreface_cli.photos.scan import CUT_SHORT, Engine, ScanResult


@dataclass(frozen=True, slots=True)
class Pair:
    """Two faces: indices of their pictures, and of the faces in them (0: the largest)."""

    a: int
    b: int
    face_a: int
    face_b: int
    distance: float  # Euclidean, of the two embeddings at unit length, 0..2
    similarity: float  # 0..1
    verdict: str | None  # None if the calculator's border is not known


def border_of(engine: Engine, instance: str | None, url: str | None) -> Border | None:
    """The border of the engine's calculator: that of its build, else that of the catalogue.

    The build of an engine at `url` is not known, only its calculator and coefficients.
    """
    if url is None:
        record = running.pick(instance, only_running=instance is None)
        name = plugin_table.model_of(engine.calculator)
        for model in record.plan.get("models", ()):
            if model["name"] == name and model.get("border"):
                return Border(**model["border"])
    return catalogue.border(engine.calculator, engine.similarity)


def verdict(similarity: float, border: Border | None) -> str | None:
    """The verdict on a similarity by that border; None without a border."""
    if border is None:
        return None
    if border.sure is not None and similarity >= border.sure:
        return "probably the same"
    return "perhaps the same" if similarity >= border.at else "probably different"


def scale(calculator: str, border: Border | None) -> str:
    """The meaning of this calculator's similarities, and the error rates of its verdicts."""
    text = f"{calculator}: 1 is the same picture of a face. "
    if border is None:
        return text + (
            "No border has been measured for this calculator, so there is no verdict; a build can "
            "state one as `border` of its model."
        )
    if border.sure == border.at:
        text += f"Probably the same person from {border.at:.2f}"
    else:
        text += f"Perhaps the same person from {border.at:.2f}"
        text += "" if border.sure is None else f", probably from {border.sure:.2f}"
    figures = []
    if border.equal_error is not None:
        figures.append(f"{border.equal_error:g} % of the verdicts at {border.at:.2f} are wrong")
    if border.sure is not None and border.sure_different is not None:
        figures.append(
            f"{border.sure_different:g} % of pairs of different people reach {border.sure:.2f}"
        )
        if border.sure_same is not None:
            figures.append(f"{border.sure_same:g} % of pairs of one person do not")
    if figures:
        text += f". Measured on {border.set or 'pairs of photographs'}: {', '.join(figures)}"
    return text + ". This is no proof of identity."


def compare(engine: Engine, results: Sequence[ScanResult], border: Border | None) -> list[Pair]:
    """Compare the largest face of the first of two pictures with each face of the second.

    Of more than two pictures, the largest faces of all pairs are compared. Pictures without a face
    are left out. Raises CfError when the engine has no calculator or returns no embeddings.
    """
    if "calculator" not in engine.plugins:
        raise CfError(f"the engine at {engine.url} has no calculator, so nothing can be compared")
    pairs = []
    for a, b in combinations(range(len(results)), 2):
        first, second = results[a], results[b]
        if not first.faces:
            continue
        for face_b, other in enumerate(second.faces if len(results) == 2 else second.faces[:1]):
            try:
                distance = embeddings.distance(first.faces[0]["embedding"], other["embedding"])
            except (KeyError, TypeError, ValueError) as error:
                raise CfError(
                    f"the embeddings of {first.picture.name} and {second.picture.name} cannot be "
                    f"compared: {error}"
                ) from error
            similarity = embeddings.similarity(distance, engine.similarity)
            pairs.append(Pair(a, b, 0, face_b, distance, similarity, verdict(similarity, border)))
    return pairs


def remarks(results: Sequence[ScanResult]) -> list[str]:
    """Notes about pictures that were truncated, failed, or have no face or more than one."""
    notes = []
    for number, result in enumerate(results):
        name, count = result.picture.name, len(result.faces)
        if result.cut_short:
            notes.append(f"{name} {CUT_SHORT}")
        if result.error:
            notes.append(f"{name} failed: {result.error}")
        elif not count:
            notes.append(f"{name}: no face was found")
        elif count > 1 and (number == 0 or len(results) > 2):
            notes.append(f"{name} has {count} faces; the largest is compared")
        elif count > 1:
            notes.append(f"{name} has {count} faces; each is compared")
    return notes
