"""What becomes of faces that cannot be migrated, and whether a switch may happen with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from compreface_cli.errors import UsageError

Outcome: TypeAlias = str
# A face's outcome: of its picture (recompute.Kind), or one of these.
STORED, WITHOUT_IMAGE, PENDING = "stored", "no image", "pending"

NoFace: TypeAlias = Literal["keep-out", "refuse"]
Several: TypeAlias = Literal["largest", "keep-out"]
MAX_FAILURES = 0.10


@dataclass(frozen=True, slots=True)
class Rules:
    """The user's rules; None: faces of that kind are kept out and counted as failures."""

    no_face: NoFace | None = None
    several: Several | None = None
    without_image: NoFace | None = None
    max_failures: float | None = None  # share of all faces to migrate; None: MAX_FAILURES

    @property
    def limit(self) -> float:
        return MAX_FAILURES if self.max_failures is None else self.max_failures

    def over(self, kept: Mapping[str, Any]) -> Rules:
        """These rules, and those of an earlier run where none is given now."""
        given = {key: value for key, value in self.as_dict().items() if value is not None}
        return Rules(**{**kept, **given})

    @property
    def taken(self) -> tuple[Outcome, ...]:
        """The outcomes with which a face gets its new embedding."""
        largest = ("several faces",) if self.several == "largest" else ()
        return (STORED, "one face", *largest)

    def as_dict(self) -> dict[str, Any]:
        return {
            "no_face": self.no_face,
            "several": self.several,
            "without_image": self.without_image,
            "max_failures": self.max_failures,
        }

    def of(self, outcome: Outcome) -> tuple[str, str | None]:
        """The flag that rules on an outcome, and what it says."""
        if outcome == WITHOUT_IMAGE:
            return "--without-image", self.without_image
        if outcome == "several faces":
            return "--several", self.several
        return "--no-face", self.no_face


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the switch may happen: `refused` has the reasons if not."""

    faces: int
    taken: int
    kept_out: int
    failures: int  # kept out without a rule
    by_outcome: Mapping[Outcome, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        return self.failures / self.faces if self.faces else 0.0


def share(text: str) -> float:
    """A share as users write it: `10%`, `0.1`; raises UsageError."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UsageError(f"--max-failures {text}: it must be a share, such as 10% or 0.1")
    return value


def judge(tally: Mapping[Outcome, int], rules: Rules) -> Verdict:
    """The verdict over all faces that are to be migrated, by outcome; pending ones may all work."""
    faces = sum(tally.values())
    pending = tally.get(PENDING, 0)
    taken = sum(count for outcome, count in tally.items() if outcome in rules.taken)
    out = {
        outcome: count
        for outcome, count in tally.items()
        if count and outcome != PENDING and outcome not in rules.taken
    }
    failures = sum(count for outcome, count in out.items() if rules.of(outcome)[1] is None)
    refused = [
        f"{_faces(count)} with {_a(outcome)}, and {rules.of(outcome)[0]} refuse does not allow that"
        for outcome, count in out.items()
        if rules.of(outcome)[1] == "refuse"
    ]
    verdict = Verdict(faces, taken, sum(out.values()), failures, dict(tally), ())
    if verdict.share > rules.limit:
        kinds = ", ".join(
            f"{count} with {_a(outcome)}"
            for outcome, count in out.items()
            if rules.of(outcome)[1] is None
        )
        refused.append(
            f"{failures} of {_faces(faces)} ({verdict.share:.1%}) would be kept out ({kinds}), more"
            f" than --max-failures {rules.limit:.0%}"
        )
    elif faces and not taken and not pending:
        refused.append("no face would be left")
    return Verdict(faces, taken, verdict.kept_out, failures, dict(tally), tuple(refused))


def ways_out(verdict: Verdict, instance: str) -> str:
    """The flags that rule on what was refused, and the other ways."""
    flags = {
        WITHOUT_IMAGE: "--without-image keep-out",
        "no face": "--no-face keep-out",
        "unreadable": "--no-face keep-out",
        "several faces": "--several largest (or keep-out)",
    }
    named = dict.fromkeys(
        flag for outcome, flag in flags.items() if verdict.by_outcome.get(outcome)
    )
    lines = [f"Rule on them: {', '.join(named)}; or allow more: --max-failures SHARE."]
    lines.append(
        "Or add new photographs of these people through the UI or the API, and delete the old ones."
    )
    lines.append(f"Or stay with the present build: '{instance}' runs on unchanged.")
    return "\n".join(lines)


def _faces(count: int) -> str:
    return "1 face" if count == 1 else f"{count} faces"


def _a(outcome: Outcome) -> str:
    return {"unreadable": "an unreadable image", "no face": "no face in the image"}.get(
        outcome, outcome
    )
