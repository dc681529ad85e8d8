"""The schema `cf_migration`: the run, the embeddings of other calculators, the faces kept out.

It stands in the instance's own database, so that a backup carries it and the switch is one
transaction. A face's row is `public.embedding`; all its columns are named here once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compreface_cli import __version__
from compreface_cli.docker.postgres import Session, literal
from compreface_cli.facts.contents import DEMO, FACES, MIGRATION
from compreface_cli.plugin_table import same_calculator

Phase = Literal["computing", "switched", "done"]
SCHEMA = MIGRATION
_TABLES = f"""
create schema if not exists {SCHEMA};
create table if not exists {SCHEMA}.run (
  sole boolean primary key default true check (sole),
  phase text not null, back boolean not null, calculator text not null, build text not null,
  former_calculator text not null, former_build text not null, former jsonb not null,
  returns_to jsonb, rules jsonb not null, backup text not null default '', cf_version text not null,
  started timestamptz not null default now(), switched timestamptz
);
create table if not exists {SCHEMA}.vector (
  embedding_id uuid not null, calculator text not null, embedding float8[], outcome text not null,
  reason text, img_id uuid, img_version text, primary key (embedding_id, calculator)
);
create table if not exists {SCHEMA}.kept_out (
  id uuid primary key, subject_id uuid not null, embedding float8[] not null,
  calculator varchar(255) not null, img_id uuid, outcome text not null,
  since timestamptz not null default now()
);
create table if not exists {SCHEMA}.moved (
  id uuid primary key, kind text not null, before text, after text, outcome text,
  img_version text
);
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The one migration of a database: to `calculator` and `build`, from the former ones.

    `phase`: computing (nothing in `public` has changed), switched (the faces have, the engine
    perhaps not yet), done. `back`: it returns to the embeddings that an earlier run replaced, and
    to the instance's record of then, `returns_to`. `former`: the record from before this run.
    """

    phase: Phase
    back: bool
    calculator: str
    build: str
    former_calculator: str
    former_build: str
    former: Mapping[str, Any]
    rules: Mapping[str, Any]
    returns_to: Mapping[str, Any] | None = None
    backup: str = ""


def exists(session: Session) -> bool:
    """Whether there are tables of a migration."""
    return bool(session.value(f"select to_regclass('{SCHEMA}.run') is not null as there"))


def create(session: Session) -> None:
    """Make the tables that are missing, all or none."""
    with session.transaction():
        session.execute(_TABLES)


def run_of(session: Session) -> Run | None:
    if not exists(session):
        return None
    row = session.row(
        "select phase, back, calculator, build, former_calculator, former_build, former, rules,"
        f" returns_to, backup from {SCHEMA}.run"
    )
    return None if row is None else Run(**row)


def begin(session: Session, run: Run) -> None:
    """Write the run down in place of an earlier one; its tables are made where they are missing."""
    values: dict[str, str | None] = {
        "phase": run.phase,
        "back": "true" if run.back else "false",
        "calculator": run.calculator,
        "build": run.build,
        "former_calculator": run.former_calculator,
        "former_build": run.former_build,
        "former": json.dumps(dict(run.former), default=str),
        "returns_to": json.dumps(dict(run.returns_to), default=str) if run.returns_to else None,
        "rules": json.dumps(dict(run.rules)),
        "backup": run.backup,
        "cf_version": __version__,
    }
    with session.transaction():
        session.execute(_TABLES)
        session.execute(f"delete from {SCHEMA}.run")
        session.execute(
            f"insert into {SCHEMA}.run ({', '.join(values)})"
            f" values ({', '.join(_literal(value) for value in values.values())})"
        )


def _literal(value: str | None) -> str:
    return "null" if value is None else literal(value)


def set_rules(session: Session, rules: Mapping[str, Any]) -> None:
    session.execute(f"update {SCHEMA}.run set rules = {literal(json.dumps(dict(rules)))}")


def set_phase(session: Session, phase: Phase) -> None:
    session.execute(f"update {SCHEMA}.run set phase = {literal(phase)}")


def drop(session: Session) -> None:
    """Remove all of it, in one transaction."""
    session.execute(f"drop schema {SCHEMA} cascade")


_NO_VECTORS = (
    "(select null::uuid as embedding_id, null::text as calculator, null::float8[] as embedding,"
    " null::text as outcome, null::text as reason, null::uuid as img_id, null::text as img_version"
    " where false)"
)


@dataclass(frozen=True, slots=True)
class Target:
    """The calculator that the faces are to have; `spellings`: all names of its model."""

    calculator: str
    spellings: tuple[str, ...]
    vectors: str = f"{SCHEMA}.vector"  # or an empty relation, while there is no such table

    @classmethod
    def of(cls, session: Session, calculator: str) -> Target:
        there = exists(session)
        others = (
            f"select calculator from {SCHEMA}.vector union select calculator from {SCHEMA}.kept_out"
        )
        rows = session.rows(
            "select distinct calculator from (select calculator from public.embedding"
            f"{f' union {others}' if there else ''}) c"
        )
        known = {str(row["calculator"]) for row in rows} | {calculator}
        same = sorted(name for name in known if same_calculator(name, calculator))
        return cls(calculator, tuple(same), *(() if there else (_NO_VECTORS,)))

    @property
    def other(self) -> str:
        """The condition on FACES under which a face is to be migrated."""
        return f"e.calculator <> all({texts(self.spellings)}) and not {DEMO}"

    @property
    def source(self) -> str:
        """FACES with the image `i` and the embedding `v` of this calculator, where it is valid."""
        return (
            f"{FACES} left join public.img i on i.id = e.img_id"
            f" left join lateral (select * from {self.vectors} w where w.embedding_id = e.id"
            f" and w.calculator = any({texts(self.spellings)}) and (w.outcome = 'stored'"
            # An image that was changed or replaced since is computed again.
            " or (w.img_id = e.img_id and w.img_version = i.xmin::text))"
            " order by w.outcome = 'stored' desc, w.calculator limit 1) v on true"
        )

    @property
    def outcome(self) -> str:
        """A face's outcome, over `source`."""
        return (
            "case when v.embedding_id is not null then v.outcome"
            " when i.id is null then 'no image' else 'pending' end"
        )


def texts(values: Iterable[str]) -> str:
    """An array of texts."""
    return f"array[{', '.join(map(literal, values))}]::text[]"


def uuids(values: Sequence[str]) -> str:
    return f"array[{', '.join(map(literal, values))}]::uuid[]"


def tally(session: Session, target: Target) -> dict[str, int]:
    """The faces that are to be migrated, by outcome."""
    rows = session.rows(
        f"select {target.outcome} as outcome, count(*) as faces from {target.source}"
        f" where {target.other} group by 1 order by 1"
    )
    return {str(row["outcome"]): int(row["faces"]) for row in rows}


def counts(session: Session) -> dict[str, int]:
    """The rows of these tables: stored embeddings, computed ones, faces kept out."""
    row = session.row(
        f"select (select count(*) from {SCHEMA}.vector where outcome = 'stored') as stored,"
        f" (select count(*) from {SCHEMA}.vector where outcome <> 'stored') as computed,"
        f" (select count(*) from {SCHEMA}.kept_out) as kept_out"
    )
    return {key: int(value) for key, value in (row or {}).items()}


def forget_deleted(session: Session) -> None:
    """Remove the embeddings of faces that somebody has deleted."""
    session.execute(
        f"delete from {SCHEMA}.vector v where"
        " not exists (select from public.embedding e where e.id = v.embedding_id)"
        f" and not exists (select from {SCHEMA}.kept_out k where k.id = v.embedding_id)"
    )
    session.execute(
        f"delete from {SCHEMA}.kept_out k where"
        " not exists (select from public.subject s where s.id = k.subject_id)"
    )
