"""A stack's database: is it initialised, who can log in, and which calculators' faces it holds."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from compreface_cli.checks.base import CONFLICT, DATA, Finding, fail, ok, warn
from compreface_cli.facts.database import Collection, DatabaseFacts, DataFolder
from compreface_cli.plugin_table import same_calculator

NAME = "database"
_UNHEALTHY = 8
# PostgreSQL numbers objects that are created after initdb from here on: FirstNormalObjectId in
# src/include/access/transam.h. A table has a file named by such a number as soon as it exists.
_FIRST_OWN = 16384
# Catalogs in base/1 to base/5 count too: a rewritten one has a new number and counts as data.
_RELATION = re.compile(r"base/\d+/(?:t\d+_)?(\d+)")
# The entries of a data folder that initdb, the server and its configuration create.
_TOP = frozenset(
    "PG_VERSION base global pg_commit_ts pg_dynshmem pg_hba.conf pg_ident.conf pg_logical"
    " pg_multixact pg_notify pg_replslot pg_serial pg_snapshots pg_stat pg_stat_tmp pg_subtrans"
    " pg_tblspc pg_twophase pg_wal pg_xact postgresql.auto.conf postgresql.conf postmaster.opts"
    " postmaster.pid".split()
)
_MUST_BE_EMPTY = ("pg_tblspc/", "pg_twophase/")  # tables elsewhere, prepared transactions
_NO_DATABASE = re.compile(r'database "[^"]*" does not exist')
_NO_ROLE = re.compile(r'role "([^"]*)" does not exist')


def holds_nothing(folder: DataFolder) -> bool:
    """Whether this data folder contains only what initdb creates.

    False whenever that is not certain: unknown files, a restored backup, a failed read.
    """
    if folder.error or folder.large:
        return False
    for path in folder.files:
        if path.partition("/")[0] not in _TOP or path.startswith(_MUST_BE_EMPTY):
            return False
        relation = _RELATION.match(path)
        if relation and int(relation[1]) >= _FIRST_OWN:
            return False
    return True


def cut(folder: DataFolder, facts: DatabaseFacts | None = None) -> str:
    """Where the image's initialisation of this folder was interrupted, if it has no data; else "".

    `facts`: of the database, if it runs. An empty folder was not interrupted.
    """
    if not folder.files or not holds_nothing(folder):
        return ""
    if not folder.version:
        return "PostgreSQL has not created its files"
    if not folder.open:
        return "it does not accept connections from other containers yet"
    if facts is not None and _NO_DATABASE.search(facts.error):
        return "it has no database yet"
    return ""


def login(volume: str, facts: DatabaseFacts, *, nothing: bool = False) -> Finding | None:
    """Why the services cannot log in; None when they can, or when that is not known.

    `nothing`: the volume has no data, so that the hint offers to remove it, too.
    """
    if not facts.login:
        return None
    error = facts.login
    role = _NO_ROLE.search(error)
    remove = f"\nIt has no data yet; to start over: docker volume rm {volume}" if nothing else ""
    older = "a volume keeps its first login, whatever the settings say later"
    if role:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} has no user {role[1]}: {older}",
            f"Give the user that it was created with: CF_POSTGRES_USER=...{remove}",
        )
    if "password authentication failed" in error:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} has another password than this instance: {older}"
            " (a folder of `cf render`, another user, removed settings)",
            "Give the one that it was created with: CF_POSTGRES_PASSWORD=... cf up ... It is in "
            f"the `.env` next to the compose.yaml that created the volume.{remove}",
        )
    if _NO_DATABASE.search(error):
        return fail(
            NAME,
            CONFLICT,
            f"the volume {volume} has a database, but under another name: {_fatal(error)}",
            f"Give the name that it was created with: CF_POSTGRES_DB=...{remove}",
        )
    if "no pg_hba.conf entry" in error:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} refuses connections from its services: "
            + _fatal(error),
            f"Its pg_hba.conf has no line for other hosts: host all all all scram-sha-256{remove}",
        )
    return None  # it is still starting, or has no free connection: the services retry


def foreign(facts: DatabaseFacts, calculator: str) -> tuple[Collection, ...]:
    """The collections of other calculators, without CompreFace's demo."""
    return tuple(
        faces
        for faces in facts.collections or ()
        if not (faces.demo or same_calculator(faces.calculator, calculator))
    )


def takes(facts: DatabaseFacts, calculator: str) -> bool | None:
    """Whether an engine with this calculator may use the database; None: not known.

    An empty database fits any calculator. A mixed one fits each of its own: `collections` reports
    the faces of the others.
    """
    if facts.collections is None or facts.old:
        return None
    return not foreign(facts, calculator) or any(
        same_calculator(faces.calculator, calculator) and not faces.demo
        for faces in facts.collections
    )


def rows(collections: Iterable[Collection]) -> str:
    """`3 faces of facenet.Calculator in "Recognition" of "Front door", 1 face of ...`."""
    return ", ".join(f"{_faces(faces)} in {_service(faces)}" for faces in collections)


def refused(volume: str, facts: DatabaseFacts, calculator: str) -> Finding:
    """The refusal of a calculator whose embeddings cannot be compared with the volume's."""
    others = foreign(facts, calculator)
    names = sorted({faces.calculator for faces in others})
    return fail(
        "volume",
        DATA,
        f"the volume {volume} holds embeddings of {' and '.join(names)} ({rows(others)}); "
        f"this build computes those of {calculator}, which cannot be compared with them",
        "Start it as another instance (--instance NAME), or start a build with the calculator "
        f"{names[0]}. Nothing in the volume was changed.",
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database runs, for the commands in a hint."""

    instance: str
    database: str  # its container
    api: str  # the container of the api
    user: str = "postgres"
    name: str = "frs"


def collections(place: Place, facts: DatabaseFacts, calculator: str) -> Iterator[Finding]:
    """One finding for each service with faces that this engine cannot compare."""
    ordered = sorted(facts.collections or (), key=lambda each: (each.application, each.service_id))
    for _, group in groupby(ordered, key=lambda each: each.service_id):
        of_service = list(group)
        others = [each for each in of_service if not same_calculator(each.calculator, calculator)]
        if not others or all(faces.demo for faces in of_service):
            continue
        mixed = len(of_service) > 1
        what = (
            "holds faces of several calculators, and answers 400 after the api's next restart"
            if mixed
            else "holds no face that this engine can compare"
        )
        yield fail(
            NAME,
            DATA,
            f"{place.instance}: {_service(of_service[0])} {what}: "
            f"{', '.join(map(_faces, of_service))}; the engine computes {calculator}",
            _way_back(place, others) if mixed else _recompute(calculator),
        )


def judge(place: Place, facts: DatabaseFacts, calculator: str) -> list[Finding]:
    """The rows of `doctor` for one running database."""
    if facts.collections is None:
        why = facts.error or "no answer"
        return [warn(NAME, f"the database of {place.instance} could not be read: {why}")]
    findings = list(collections(place, facts, calculator))
    if facts.lock is not None and facts.sessions == 0:
        findings.append(
            fail(
                NAME,
                _UNHEALTHY,
                f"{place.instance}: the schema change lock is held by {facts.lock.holder}, "
                "which is no longer connected: admin waits for it forever",
                f"cf restart {place.instance} --all",
            )
        )
    count = sum(each.faces for each in facts.collections if not each.demo)
    return findings or [
        ok(NAME, f"the database of {place.instance} holds {count} faces, all of {calculator}")
    ]


def _faces(faces: Collection) -> str:
    return f"{faces.faces} {'face' if faces.faces == 1 else 'faces'} of {faces.calculator}"


def _service(faces: Collection) -> str:
    return f'"{faces.service}"' + (f' of "{faces.application}"' if faces.application else "")


def _recompute(calculator: str) -> str:
    return (
        "Start the build with their calculator, or delete these subjects in the UI and add their "
        f"photographs again for {calculator}."
    )


def _way_back(place: Place, others: Sequence[Collection]) -> str:
    """Commands that delete the other calculators' rows, embedding first, and restart the api."""
    lines = ["Remove the faces of the other calculator, then add their photographs again:"]
    who = f"-U {shlex.quote(place.user)} -d {shlex.quote(place.name)}"
    psql = f"docker exec {place.database} psql {who} -c"
    for faces in others:
        statement = (
            "with gone as (delete from embedding e using subject s, model m where "  # noqa: S608
            f"s.id = e.subject_id and m.api_key = s.api_key and m.id = {faces.service_id} and "
            f"e.calculator = {_literal(faces.calculator)} returning e.id, e.img_id), "
            "pictures as (delete from img i using gone where i.id = gone.img_id and not exists "
            "(select from embedding o where o.img_id = i.id and o.id not in (select id from gone)))"
            " select count(*) as faces_removed from gone"
        )
        lines.append(f"{psql} {shlex.quote(statement)}")
    lines.append(f"docker restart {place.api}")
    return "\n".join(lines)


def _literal(text: str) -> str:
    """An SQL literal that can stand between a shell's single quotes."""
    return "'" + text.replace("'", "''") + "'" if "$" in text else f"$${text}$$"


def _fatal(error: str) -> str:
    return error.rpartition("FATAL:")[2].strip()
