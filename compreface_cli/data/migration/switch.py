"""The switch: in one transaction every face has its new embedding, and the old one is saved.

Whoever calls has stopped the services that write faces.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from compreface_cli.data.migration import rules as rulings
from compreface_cli.data.migration.rules import PENDING, Rules, Verdict
from compreface_cli.data.migration.tables import (
    SCHEMA,
    Target,
    forget_deleted,
    set_phase,
    tally,
    texts,
)
from compreface_cli.docker.postgres import Session
from compreface_cli.errors import CfError, ConflictError, DataRefusedError, UnhealthyError
from compreface_cli.facts.contents import DEMO, FACES

_LOCK_S = 30
_LIMIT_S = 7200.0
_GONE_S = 20.0  # until the connections of stopped services are gone
_ROW = "id, subject_id, embedding, calculator, img_id"
_ROW_OF_E = "e.id, e.subject_id, e.embedding, e.calculator, e.img_id"


class Pending(Exception):
    """Faces without a valid embedding of the target are left; nothing was changed."""


def refuse_others(session: Session) -> None:
    """Raise ConflictError while another program is connected to the database: it may add faces."""
    end = time.monotonic() + _GONE_S
    while True:
        rows = list(
            session.rows(
                "select coalesce(nullif(application_name, ''), 'a program') as name,"
                " coalesce(host(client_addr), 'the container') as address from pg_stat_activity"
                " where backend_type = 'client backend' and datname = current_database()"
                " and pid <> pg_backend_pid() and application_name not like 'psql%'"
            )
        )
        if not rows:
            return
        if time.monotonic() > end:
            names = ", ".join(f"{row['name']} at {row['address']}" for row in rows[:5])
            raise ConflictError(
                f"other programs are connected to the database and might add faces: {names}",
                hint="Stop them (a second api, a program of your own), then run this again.",
                details={"clients": rows[:20]},
            )
        time.sleep(0.5)


def switch(session: Session, target: Target, by: Rules) -> Verdict:
    """Replace all embeddings of other calculators by those of the target; the verdict on them.

    Saves the present ones, moves faces out that get none, and lets faces return that were kept out
    and have one. Raises Pending, DataRefusedError for what the rules refuse, and CfError if the
    counts do not fit; nothing has changed then, and the session is to be closed.
    """
    _begin(session)
    forget_deleted(session)
    before = _total(session)
    counted = tally(session, target)
    if counted.get(PENDING):
        raise Pending
    verdict = rulings.judge(counted, by)
    refuse(verdict, "")
    taken, own = texts(by.taken), texts(target.spellings)
    _run(
        session,
        f"delete from {SCHEMA}.moved",
        f"insert into {SCHEMA}.moved (id, kind, before, after, outcome, img_version) select e.id,"
        f" case when v.embedding is not null and v.outcome = any({taken}) then 'taken' else 'out'"
        f" end, e.calculator, v.calculator, {target.outcome}, v.img_version from {target.source}"
        f" where {target.other}",
        f"insert into {SCHEMA}.moved (id, kind) select e.id, 'same' from {FACES}"
        f" where e.calculator = any({own}) and not {DEMO}",
        f"insert into {SCHEMA}.moved (id, kind, outcome) select k.id, 'returned', k.outcome"
        f" from {SCHEMA}.kept_out k where k.calculator = any({own})",
        f"analyze {SCHEMA}.moved",
        *_exchange("before", "after", "'stored'", "null"),
        *_out("m.kind = 'out'"),
        *_in("m.kind = 'returned'"),
        f"update {SCHEMA}.run set switched = now()",
    )
    set_phase(session, "switched")
    left = sum(tally(session, target).values())
    _hold(session, before, left)
    _one_length(session, target)
    session.execute("commit", timeout_s=_LIMIT_S)
    return verdict


def undo(session: Session, target: Target) -> int:
    """Take the last switch, to this target, back: every face is as it was before, byte for byte.

    A face that was added since is of the target's calculator and cannot be compared with the
    others: it is kept out, and returns with the next switch to that calculator. Returns how many.
    """
    _begin(session)
    before = _total(session)
    own = texts(target.spellings)
    _run(
        session,
        f"insert into {SCHEMA}.moved (id, kind, outcome) select e.id, 'added', 'added meanwhile'"
        f" from {FACES} where e.calculator = any({own}) and not {DEMO}"
        f" and not exists (select from {SCHEMA}.moved m where m.id = e.id)",
        *_exchange("after", "before", "m.outcome", "m.img_version"),
        *_in("m.kind = 'out'"),
        *_out("m.kind in ('returned', 'added')"),
    )
    added = int(session.value(f"select count(*) as n from {SCHEMA}.moved where kind = 'added'"))
    session.execute(f"delete from {SCHEMA}.moved")
    set_phase(session, "computing")
    _hold(session, before, 0)
    session.execute("commit", timeout_s=_LIMIT_S)
    return added


def _begin(session: Session) -> None:
    session.execute("begin")
    session.execute(f"set local lock_timeout = '{_LOCK_S}s'; set local statement_timeout = 0")
    session.execute("lock table public.embedding in share row exclusive mode")


def _run(session: Session, *statements: str) -> None:
    for statement in statements:
        session.execute(statement, timeout_s=_LIMIT_S)


def _exchange(now: str, wanted: str, outcome: str, version: str) -> tuple[str, ...]:
    """Give the taken faces the saved embedding of the calculator in the column `wanted` of `moved`.

    The one that they have, of the column `now`, is saved, with that outcome and image's version.
    """
    faces = f"{SCHEMA}.moved m join public.embedding e on e.id = m.id"
    columns = ("embedding", "outcome", "img_id", "img_version")
    return (
        f"insert into {SCHEMA}.vector (embedding_id, calculator, {', '.join(columns)})"
        f" select e.id, m.{now}, e.embedding, {outcome}, e.img_id, {version} from {faces}"
        " where m.kind = 'taken' on conflict (embedding_id, calculator) do update set"
        f" {', '.join(f'{name} = excluded.{name}' for name in columns)}, reason = null",
        "update public.embedding e set embedding = v.embedding, calculator = v.calculator"
        f" from {SCHEMA}.moved m join {SCHEMA}.vector v on v.embedding_id = m.id"
        f" and v.calculator = m.{wanted} where m.kind = 'taken' and e.id = m.id",
        # By now these are in the faces themselves.
        f"delete from {SCHEMA}.vector v using {SCHEMA}.moved m where m.kind = 'taken'"
        f" and v.embedding_id = m.id and v.calculator = m.{wanted}",
    )


def _out(condition: str) -> tuple[str, ...]:
    """Move whole faces out of the collection."""
    return (
        f"insert into {SCHEMA}.kept_out ({_ROW}, outcome) select {_ROW_OF_E}, m.outcome"
        f" from {SCHEMA}.moved m join public.embedding e on e.id = m.id where {condition}",
        f"delete from public.embedding e using {SCHEMA}.moved m where m.id = e.id and {condition}",
    )


def _in(condition: str) -> tuple[str, ...]:
    """The opposite; an image that was removed meanwhile is left out."""
    return (
        f"with back as (delete from {SCHEMA}.kept_out k using {SCHEMA}.moved m"
        f" where m.id = k.id and {condition} returning k.*)"
        f" insert into public.embedding ({_ROW}) select id, subject_id, embedding, calculator,"
        " (select i.id from public.img i where i.id = back.img_id) from back",
    )


def refuse(verdict: Verdict, instance: str, details: Mapping[str, object] | None = None) -> None:
    """Raise DataRefusedError for what the rules refuse."""
    if verdict.refused:
        raise DataRefusedError(
            f"the faces are not migrated: {'; '.join(verdict.refused)}",
            hint=rulings.ways_out(verdict, instance),
            details={
                "by_outcome": dict(verdict.by_outcome),
                "share": round(verdict.share, 4),
                **(details or {}),
            },
        )


def _total(session: Session) -> int:
    """Faces, those kept out included; nothing may lose one."""
    return int(
        session.value(
            "select (select count(*) from public.embedding)"
            f" + (select count(*) from {SCHEMA}.kept_out) as n"
        )
    )


def _hold(session: Session, before: int, left: int) -> None:
    """Raise CfError unless all faces are there, and none of another calculator is left."""
    now = _total(session)
    if left or now != before:
        raise CfError(
            f"the switch was undone: {left} faces of another calculator would be left, and "
            f"{now} of {before} faces would be there",
            hint="Nothing was changed. `cf data list` shows what is there.",
        )


def _one_length(session: Session, target: Target) -> None:
    """Raise UnhealthyError for embeddings of several lengths, which no collection may have."""
    rows = session.rows(
        f"select cardinality(e.embedding) as length, count(*) as faces from {FACES}"
        f" where e.calculator = any({texts(target.spellings)}) and not {DEMO} group by 1 order by 2"
    )
    lengths = {int(row["length"]): int(row["faces"]) for row in rows}
    if len(lengths) > 1:
        raise UnhealthyError(
            f"the new engine gave embeddings of several lengths: {lengths}",
            hint="Nothing was changed. `--finish` removes what it has computed.",
            details={"lengths": lengths},
        )
