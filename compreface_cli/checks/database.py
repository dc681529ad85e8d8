"""What a look at a stack's database means: is it whole, who may in, whose faces does it hold."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from compreface_cli.checks.base import CONFLICT, DATA, Finding, fail, ok, warn
from compreface_cli.facts.database import Collection, DatabaseFacts, DataFolder

NAME = "database"
_UNHEALTHY = 8
# PostgreSQL gives numbers from here on to what is made after initdb: FirstNormalObjectId in
# src/include/access/transam.h. A table has a file named by such a number from its first moment on.
_FIRST_OWN = 16384
# Catalogs in base/1 to base/5 count too: one that was rewritten has a new number, and is data then.
_RELATION = re.compile(r"base/\d+/(?:t\d+_)?(\d+)")
# What initdb, the server and its configuration leave at the top of a data folder.
_TOP = frozenset(
    "PG_VERSION base global pg_commit_ts pg_dynshmem pg_hba.conf pg_ident.conf pg_logical"
    " pg_multixact pg_notify pg_replslot pg_serial pg_snapshots pg_stat pg_stat_tmp pg_subtrans"
    " pg_tblspc pg_twophase pg_wal pg_xact postgresql.auto.conf postgresql.conf postmaster.opts"
    " postmaster.pid".split()
)
_MAY_NOT_HOLD = ("pg_tblspc/", "pg_twophase/")  # tables elsewhere, transactions to be finished
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')
_NO_ROLE = re.compile(r'role "([^"]*)" does not exist')


def holds_nothing(folder: DataFolder) -> bool:
    """Whether nothing was ever made in this data folder, beside what initdb makes.

    False wherever that is not sure: files of somebody else, a restored backup, a failed look.
    """
    if folder.error or folder.large:
        return False
    for path in folder.files:
        if path.partition("/")[0] not in _TOP or path.startswith(_MAY_NOT_HOLD):
            return False
        found = _RELATION.match(path)
        if found and int(found[1]) >= _FIRST_OWN:
            return False
    return True


def cut(folder: DataFolder, seen: DatabaseFacts | None = None) -> str:
    """Where the image's initialisation of this folder was cut off, if it holds nothing; else "".

    `seen`: what the database says, where it runs. An empty folder is none that was cut off.
    """
    if not folder.files or not holds_nothing(folder):
        return ""
    if not folder.version:
        return "PostgreSQL has not made its files"
    if not folder.open:
        return "it lets no other container in yet"
    if seen is not None and _NO_DATABASE.search(seen.error):
        return "it has no database yet"
    return ""


def login(volume: str, seen: DatabaseFacts, *, nothing: bool = False) -> Finding | None:
    """Why the services cannot log in; None when they can, or when that is not known.

    `nothing`: the volume holds nothing, so that to remove it is a way out, too.
    """
    if not seen.login:
        return None
    said = seen.login
    role = _NO_ROLE.search(said)
    remove = f"\nIt holds nothing yet; to begin anew: docker volume rm {volume}" if nothing else ""
    older = "a volume keeps what it was made with, whatever the settings say later"
    if role:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} has no user {role[1]}: {older}",
            f"Name the user it was made with: CF_POSTGRES_USER=...{remove}",
        )
    if "password authentication failed" in said:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} has another password than this instance: {older}"
            " (a folder of `cf render`, another user, removed settings)",
            "Give the one it was made with: CF_POSTGRES_PASSWORD=... cf up ... It stands in the "
            f"`.env` beside the compose.yaml that made the volume.{remove}",
        )
    if _NO_DATABASE.search(said):
        return fail(
            NAME,
            CONFLICT,
            f"the volume {volume} has a database, but none of this name: {_fatal(said)}",
            f"Name the one it was made with: CF_POSTGRES_DB=...{remove}",
        )
    if "no pg_hba.conf entry" in said:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} does not let its services in: {_fatal(said)}",
            f"Its pg_hba.conf has no line for other hosts: host all all all scram-sha-256{remove}",
        )
    return None  # it starts, or is full: the services try again


def foreign(seen: DatabaseFacts, calculator: str) -> tuple[Collection, ...]:
    """The faces of other calculators, CompreFace's demo aside."""
    return tuple(
        one for one in seen.collections or () if one.calculator != calculator and not one.demo
    )


def takes(seen: DatabaseFacts, calculator: str) -> bool | None:
    """Whether an engine with this calculator may work on it; None: not known.

    An empty one takes any. A mixed one does: its collections are named, not refused.
    """
    if seen.collections is None or seen.old:
        return None
    return not foreign(seen, calculator) or any(
        one.calculator == calculator for one in seen.collections
    )


def rows(found: Iterable[Collection]) -> str:
    """`3 faces of facenet.Calculator in "Recognition" of "Front door", 1 face of ...`."""
    return ", ".join(f"{_faces(one)} in {_service(one)}" for one in found)


def refused(volume: str, seen: DatabaseFacts, calculator: str) -> Finding:
    """The refusal of a calculator that the volume's faces do not compare with."""
    theirs = foreign(seen, calculator)
    names = sorted({one.calculator for one in theirs})
    return fail(
        "volume",
        DATA,
        f"the volume {volume} holds embeddings of {' and '.join(names)} ({rows(theirs)}); "
        f"this build computes those of {calculator}, which do not compare with them",
        "Start it as another instance (--instance NAME), or here a build with the calculator "
        f"{names[0]}. Nothing in the volume was touched.",
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database runs, for commands that people paste."""

    instance: str
    database: str  # its container
    api: str
    user: str = "postgres"
    name: str = "frs"


def collections(place: Place, seen: DatabaseFacts, calculator: str) -> Iterator[Finding]:
    """One finding for each service whose faces cannot all be compared by this engine."""
    found = sorted(seen.collections or (), key=lambda one: (one.application, one.service_id))
    for _, group in groupby(found, key=lambda one: one.service_id):
        of_service = list(group)
        theirs = [one for one in of_service if one.calculator != calculator]
        if not theirs or all(one.demo for one in of_service):
            continue
        mixed = len(of_service) > 1
        what = (
            "holds faces of several calculators, and answers 400 once the api has started anew"
            if mixed
            else "holds no face that this engine can compare"
        )
        yield fail(
            NAME,
            DATA,
            f"{place.instance}: {_service(of_service[0])} {what}: "
            f"{', '.join(map(_faces, of_service))}; the engine computes {calculator}",
            _way_back(place, theirs) if mixed else _recompute(calculator),
        )


def judge(place: Place, seen: DatabaseFacts, calculator: str) -> list[Finding]:
    """The rows of `doctor` for one running database."""
    if seen.collections is None:
        why = seen.error or "no answer"
        return [warn(NAME, f"what the database of {place.instance} holds is not known: {why}")]
    found = list(collections(place, seen, calculator))
    if seen.lock is not None and seen.sessions == 0:
        found.append(
            fail(
                NAME,
                _UNHEALTHY,
                f"{place.instance}: the lock of a schema change is held by {seen.lock.holder}, "
                "which is not connected: admin waits for it for ever",
                f"cf restart {place.instance} --all",
            )
        )
    count = sum(one.faces for one in seen.collections if not one.demo)
    return found or [
        ok(NAME, f"the database of {place.instance} holds {count} faces, all of {calculator}")
    ]


def _faces(one: Collection) -> str:
    return f"{one.faces} {'face' if one.faces == 1 else 'faces'} of {one.calculator}"


def _service(one: Collection) -> str:
    return f'"{one.service}"' + (f' of "{one.application}"' if one.application else "")


def _recompute(calculator: str) -> str:
    return (
        "Start the build with their calculator, or delete these subjects in the UI and add their "
        f"photographs anew for {calculator}."
    )


def _way_back(place: Place, theirs: Sequence[Collection]) -> str:
    """Commands that take the foreign rows out, each row before its picture; api forgets them."""
    lines = ["Remove the faces of the other calculator, then add their photographs again:"]
    who = f"-U {shlex.quote(place.user)} -d {shlex.quote(place.name)}"
    psql = f"docker exec {place.database} psql {who} -c"
    for one in theirs:
        statement = (
            "with gone as (delete from embedding e using subject s, model m where "  # noqa: S608
            f"s.id = e.subject_id and m.api_key = s.api_key and m.id = {one.service_id} and "
            f"e.calculator = {_literal(one.calculator)} returning e.id, e.img_id), "
            "pictures as (delete from img i using gone where i.id = gone.img_id and not exists "
            "(select from embedding o where o.img_id = i.id and o.id not in (select id from gone)))"
            " select count(*) as faces_removed from gone"
        )
        lines.append(f"{psql} {shlex.quote(statement)}")
    lines.append(f"docker restart {place.api}")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """A value in SQL that a shell's single quotes may stand around."""
    return "'" + text.replace("'", "''") + "'" if "$" in text else f"$${text}$$"


def _fatal(said: str) -> str:
    return said.rpartition("FATAL:")[2].strip()
