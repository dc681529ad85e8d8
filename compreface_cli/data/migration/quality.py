"""Compares old and new embeddings before a switch: is everybody recognised as often as before?

The engine's own Python computes it, in a container of its image without a network: `cf` has no
NumPy. Both sets of embeddings go through its stdin.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from compreface_cli.data.migration.rules import Rules
from compreface_cli.data.migration.tables import Target, texts
from compreface_cli.docker import cli
from compreface_cli.docker.postgres import Session
from compreface_cli.errors import CfError, DataRefusedError

MOST = 20_000  # photographs of one service; of a larger one whole subjects are drawn
_MOST_NUMBERS = 60_000_000  # in all, which the engine's module has in memory as float32
_LIMIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Quality:
    """Of one service: photographs recognised by the subject's other ones, before and after.

    `tested` photographs are those of subjects with two or more. `border_*`: the similarity, 0..1,
    that one pair of two people in 1000 reaches; None for too few. `worse`: photographs, recognised
    before and after, by subject. `sampled`: these are not all photographs.
    """

    service: str
    application: str
    photographs: int
    tested: int
    tested_subjects: int
    recognised_before: int
    recognised_after: int
    subjects_better: int
    subjects_worse: int
    border_before: float | None
    border_after: float | None
    worse: Mapping[str, Sequence[int]]
    sampled: bool = False

    @property
    def got_worse(self) -> bool:
        return self.recognised_after < self.recognised_before

    def as_dict(self) -> dict[str, Any]:
        names = ("service", "application", "photographs", "tested", "tested_subjects",
                 "recognised_before", "recognised_after", "subjects_better", "subjects_worse",
                 "border_before", "border_after", "sampled", "got_worse")  # fmt: skip
        document = {name: getattr(self, name) for name in names}
        document["worse"] = [
            {"subject": name, "photographs": each[0], "before": each[1], "after": each[2]}
            for name, each in self.worse.items()
        ]
        return document


def compare(
    session: Session,
    target: Target,
    former: Sequence[str],
    rules: Rules,
    images: Sequence[str],
    *,
    before: Sequence[float],
    after: Sequence[float],
) -> tuple[Quality, ...]:
    """The quality of each service, over the faces of the `former` calculator's spellings.

    `images`: of engines, whose Python computes; the first that can is taken. `before`, `after`:
    the coefficients of the similarity of either calculator. Raises QueryError, and CfError where
    it cannot be computed.
    """
    services = _services(session, target, former, rules)
    if not services:
        return ()
    drawn = _drawn(services)
    query = _lines(target, former, rules, drawn)
    for place, image in enumerate(images, start=1):
        try:
            numbers = _computed(query, session, image, before, after)
            break
        except CfError:  # an image by name may have another program, or an older one
            if place == len(images):
                raise
    names = _names(session, [key for each in numbers.values() for key in each["worse"]])
    return tuple(
        _quality(services[key], each, names, drawn) for key, each in sorted(numbers.items())
    )


def _quality(
    service: Mapping[str, Any], each: Mapping[str, Any], names: Mapping[str, str], drawn: int
) -> Quality:
    fields = {name: each[name] for name in Quality.__dataclass_fields__ if name in each}
    fields["worse"] = {names.get(key, key): values for key, values in each["worse"].items()}
    return Quality(
        service=str(service["service"]),
        application=str(service["application"] or ""),
        sampled=int(service["faces"]) > drawn,
        **fields,
    )


def _condition(target: Target, former: Sequence[str], rules: Rules) -> str:
    return (
        f"{target.other} and e.calculator = any({texts(former)}) and v.embedding is not null"
        f" and v.outcome = any({texts(rules.taken)})"
    )


def _services(
    session: Session, target: Target, former: Sequence[str], rules: Rules
) -> dict[str, dict[str, Any]]:
    rows = session.rows(
        "select m.id as service_id, m.name as service, a.name as application, count(*) as faces,"
        " max(cardinality(e.embedding)) + max(cardinality(v.embedding)) as numbers"
        f" from {target.source} where {_condition(target, former, rules)} group by 1, 2, 3"
    )
    return {str(row["service_id"]): row for row in rows}


def _drawn(services: Mapping[str, Mapping[str, Any]]) -> int:
    """How many photographs of each service are compared at most."""
    longest = max(int(row["numbers"]) for row in services.values())
    return min(MOST, max(1, _MOST_NUMBERS // longest // len(services)))


def _lines(target: Target, former: Sequence[str], rules: Rules, most: int) -> str:
    """The query of what the engine's module reads: whole subjects, drawn by a hash of their id."""
    return (
        "select service, subject, old, new from (select m.id as service, s.id as subject,"
        " e.embedding::float4[]::text as old, v.embedding::float4[]::text as new,"
        " count(*) over (partition by m.id order by md5(s.id::text), s.id"
        " range between unbounded preceding and current row) as place"
        f" from {target.source} where {_condition(target, former, rules)}) r"
        f" where place <= {most}"
    )


def _computed(
    query: str, session: Session, image: str, before: Sequence[float], after: Sequence[float]
) -> dict[str, dict[str, Any]]:
    coefficients = ("--before", *map(str, before), "--after", *map(str, after))
    arguments = [
        *("run", "--rm", "-i", "--pull=never", "--network=none", "--read-only"),
        *("--entrypoint=python", image, "-m", "compreface_engine", "recognition", *coefficients),
    ]
    doing = "compare the old and the new embeddings"
    with tempfile.TemporaryFile() as log, cli.process(*arguments, doing=doing, errors=log) as child:
        assert child.stdin is not None  # noqa: S101 - it is a pipe
        assert child.stdout is not None  # noqa: S101
        try:
            with closing(session.copy_out(query, timeout_s=_LIMIT_S)) as rows:
                for row in rows:
                    child.stdin.write(row + b"\n")
            child.stdin.close()
        except BrokenPipeError:
            pass  # it has ended, and says why
        answer = child.stdout.read()
        child.wait()
        log.seek(0)
        said = log.read(1 << 14).decode(errors="replace")
    try:
        document = json.loads(answer)
        services: dict[str, dict[str, Any]] = document["services"]
        return services
    except (ValueError, KeyError, TypeError) as error:
        reason = said.strip().splitlines()[-1:] or [answer.decode(errors="replace")[:300]]
        raise CfError(
            f"{doing}: {' '.join(reason)}",
            hint="`--accept-worse` goes on without this comparison.",
            details={"output": said.splitlines()[-8:]},
        ) from error


def _names(session: Session, subjects: Sequence[str]) -> dict[str, str]:
    if not subjects:
        return {}
    listed = texts(subjects)
    rows = session.rows(
        f"select id, subject_name as name from public.subject where id::text = any({listed})"
    )
    return {str(row["id"]): str(row["name"]) for row in rows}


def refuse(compared: Sequence[Quality], build: str) -> None:
    """Raise DataRefusedError for services in which people would be recognised less often."""
    worse = [each for each in compared if each.got_worse]
    if worse:
        names = ", ".join(
            f"{each.service} ({each.recognised_after} of {each.tested} photographs, before "
            f"{each.recognised_before})"
            for each in worse
        )
        raise DataRefusedError(
            f"people would be recognised less often with {build}: {names}",
            hint="`--accept-worse` migrates all the same. Nothing was changed; what was computed "
            "stays for the next run.",
            details={"quality": [each.as_dict() for each in compared]},
        )


def lines(compared: Sequence[Quality]) -> list[str]:
    """The comparison as text."""
    text = []
    for each in compared:
        drawn = f", drawn from a larger collection ({each.photographs})" if each.sampled else ""
        text.append(
            f"  {each.application} / {each.service}: {each.recognised_after} of {each.tested} "
            f"photographs recognised by other ones of the same person, before "
            f"{each.recognised_before}{drawn}"
        )
        if each.subjects_worse or each.subjects_better:
            text.append(
                f"    subjects recognised more often: {each.subjects_better}, less often: "
                f"{each.subjects_worse}"
            )
        if each.border_after is not None and each.border_before is not None:
            text.append(
                f"    one pair of two people in 1000 is above a similarity of "
                f"{each.border_after:.3f}, before {each.border_before:.3f}"
            )
    return text
