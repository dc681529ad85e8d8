"""A stack's database: is it initialised, who can log in, and which calculators' faces it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from compreface_cli.checks.base import CONFLICT, DATA, Finding, fail, ok, warn
from compreface_cli.checks.password import fits
from compreface_cli.facts.database import Collection, DatabaseFacts, DataFolder
from compreface_cli.plugin_table import same_calculator
from compreface_cli.topics import Topic

NAME = "database"
_UNHEALTHY = 8

USER = Topic(
    "database-user",
    means="The database was created with another user name than the settings give.",
    why="PostgreSQL creates user and password at the first start on a volume only; later "
    "settings do not change them.",
    see='`cf logs INSTANCE --service postgres` has `role "..." does not exist`.',
    ways=(
        "Give the user that it was created with: CF_POSTGRES_USER=NAME.",
        "If nothing was stored yet, remove the volume and start again.",
    ),
)

PASSWORD = Topic(
    "database-password",
    means="The database refuses the password that this instance has.",
    why="PostgreSQL keeps the password of the first start on a volume, so that a new one in "
    "the settings, a lost `.env` or another user of this machine cannot log in: admin "
    "and api end.",
    see="`cf logs INSTANCE --service postgres` has `password authentication failed`.",
    ways=(
        "Give the password that it was created with: CF_POSTGRES_PASSWORD=... It is in the "
        "`.env` beside the compose.yaml that created the volume.",
        "Set the one that the instance has, inside the container, where no password is "
        "asked: `docker exec -it CONTAINER psql -U postgres`, then `\\password`.",
        "`cf secrets rotate INSTANCE` gives a running instance a new one everywhere.",
    ),
)

DATABASE = Topic(
    "database-name",
    means="The server on the volume has no database of the name that the settings give.",
    why="The image creates it at the first start on a volume only.",
    see="`docker exec CONTAINER psql -U postgres -l` lists those that exist.",
    ways=("Give the name that it was created with: CF_POSTGRES_DB=NAME.",),
)

ACCESS = Topic(
    "database-access",
    means="The server on the volume refuses connections from other containers.",
    why="Its pg_hba.conf was changed, or the first start was cut off before it was written.",
    see="`docker exec CONTAINER cat /var/lib/postgresql/data/pg_hba.conf`.",
    ways=("Add the line `host all all all scram-sha-256`, then restart the container.",),
)

MIXED = Topic(
    "faces-mixed",
    means="One service holds faces of several calculators.",
    why="With vectors of two lengths every recognition in it answers 400 after the next restart of "
    "the api, with either engine. With vectors of one length it answers, but takes people for one "
    "another.",
    see="`cf status` names the service and the counts.",
    ways=(
        "`cf data repair INSTANCE` shows the rows, takes a backup, and computes them anew or "
        "moves them out.",
    ),
)

OTHERS = Topic(
    "faces-other-calculator",
    means="A service holds only faces of another calculator than the engine computes.",
    why="No face is recognised in it, or every recognition answers 400.",
    see="`cf status` names the service and the counts.",
    ways=(
        "Start the build with their calculator.",
        "Compute them anew: `cf data migrate INSTANCE --to BUILD`.",
    ),
)

OTHER_CALCULATOR = Topic(
    "volume-other-calculator",
    means="The database holds embeddings of another calculator than the build computes.",
    why="Embeddings of two calculators cannot be compared. One face added under the wrong "
    "one, and after the next restart of the api the whole collection answers 400.",
    see="`cf status` and `cf data list` show the faces of each calculator.",
    ways=(
        "Start a build with the calculator of the stored faces; `cf list-builds` and `cf "
        "data list` name them.",
        "Compute the embeddings anew from the stored images: `cf data migrate INSTANCE --to "
        "BUILD`.",
        "Start a fresh instance: `cf up BUILD --instance NAME`.",
    ),
)

UNREAD = Topic(
    "database-unread",
    means="The database runs, and its content cannot be read.",
    why="`cf` cannot tell whether its faces fit the engine.",
    see="The message contains the reason; `cf logs INSTANCE --service postgres` has more.",
    ways=("Mostly it is still starting: try again in a minute.",),
)

LOCK = Topic(
    "schema-lock",
    means="Admin changes the schema of the database under a lock (Liquibase). It was cut off "
    "meanwhile, and its lock has stayed.",
    why="Every further start of admin waits for the lock for ever, so that the stack never "
    "becomes healthy.",
    see="`cf logs INSTANCE --service admin` has `Waiting for changelog lock....`",
    ways=(
        "`cf restart INSTANCE --all` frees it, once its holder is gone for sure.",
        "By hand, with admin stopped: `update databasechangeloglock set locked = false, "
        "lockgranted = null, lockedby = null`.",
    ),
)
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
            topic=USER,
        )
    if "password authentication failed" in error:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} has another password than this instance: {older}"
            " (a folder of `cf render`, another user, removed settings)",
            "Give the one that it was created with: CF_POSTGRES_PASSWORD=... cf up ... It is in "
            f"the `.env` next to the compose.yaml that created the volume.{remove}",
            topic=PASSWORD,
        )
    if _NO_DATABASE.search(error):
        return fail(
            NAME,
            CONFLICT,
            f"the volume {volume} has a database, but under another name: {_fatal(error)}",
            f"Give the name that it was created with: CF_POSTGRES_DB=...{remove}",
            topic=DATABASE,
        )
    if "no pg_hba.conf entry" in error:
        return fail(
            NAME,
            CONFLICT,
            f"the database of the volume {volume} refuses connections from its services: "
            + _fatal(error),
            f"Its pg_hba.conf has no line for other hosts: host all all all scram-sha-256{remove}",
            topic=ACCESS,
        )
    return None  # it is still starting, or has no free connection: the services retry


def login_at_rest(facts: DatabaseFacts, user: str, password: str) -> str:
    """The error that a login with this password would give, in PostgreSQL's words; "" for none.

    Of a database that does not run, by the digests that it has stored; what is not known is "".
    """
    if _NO_DATABASE.search(facts.error):
        return f"FATAL:  {facts.error}"
    if facts.roles is None:
        return ""
    if user not in facts.roles:
        return f'FATAL:  role "{user}" does not exist'
    if fits(facts.roles[user], user, password) is False:
        return f'FATAL:  password authentication failed for user "{user}"'
    return ""


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


@dataclass(frozen=True, slots=True)
class Ways:
    """What a refused calculator's hint names: `builds` that fit, whose data it is, what was wanted.

    `instance`: whose data it is, "" for a volume that no instance of cf was made with. `data`: what
    `--data` named, "" without.
    """

    builds: Sequence[str] = ()
    instance: str = ""
    wanted: str = "BUILD"
    data: str = ""


def refused(
    volume: str, facts: DatabaseFacts, calculator: str, ways: Ways | None = None
) -> Finding:
    """The refusal of a calculator whose embeddings cannot be compared with the volume's."""
    others = foreign(facts, calculator)
    names = sorted({faces.calculator for faces in others})
    return fail(
        "volume",
        DATA,
        f"the volume {volume} holds {_embeddings(sum(faces.faces for faces in others))} of "
        f"{' and '.join(names)} ({rows(others)}); "
        f"this build computes those of {calculator}, which cannot be compared with them",
        ways_on(names[0], ways or Ways()),
        topic=OTHER_CALCULATOR,
    )


def ways_on(calculator: str, ways: Ways) -> str:
    """The three ways on where embeddings of `calculator` are stored and another is wanted."""
    fits = f"a build with the calculator {calculator} (`cf list-builds` shows all)"
    build = ways.builds[0] if ways.builds else "BUILD"
    name = ways.instance or "NAME"
    up = f"cf up {build} --data {ways.data}" if ways.data else f"cf up {build} --instance {name}"
    if ways.builds:
        fits = f"a build whose calculator fits: {up}"
        if len(ways.builds) > 1:
            fits += f" (or {', '.join(ways.builds[1:])})"
    migrate = f"cf data migrate {name} --to {ways.wanted}"
    if not ways.instance:
        migrate = f"{up} --instance NAME, then {migrate}"
    return (
        f"Nothing in the volume was changed. Three ways on:\n- {fits}\n"
        f"- new embeddings from the stored images: {migrate}\n"
        f"- an instance with a volume of its own: cf up {ways.wanted} --instance NEW"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a database runs."""

    instance: str
    database: str  # its container


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
            _ways(place.instance, others, mixed=mixed),
            topic=MIXED if mixed else OTHERS,
        )


def judge(place: Place, facts: DatabaseFacts, calculator: str) -> list[Finding]:
    """The rows of `doctor` for one running database."""
    if facts.collections is None:
        why = facts.error or "no answer"
        return [
            warn(
                NAME,
                f"the database of {place.instance} could not be read: {why}",
                topic=UNREAD,
            )
        ]
    findings = list(collections(place, facts, calculator))
    if facts.lock is not None and facts.sessions == 0:
        findings.append(
            fail(
                NAME,
                _UNHEALTHY,
                f"{place.instance}: the schema change lock is held by {facts.lock.holder}, "
                "which is no longer connected: admin waits for it forever",
                f"cf restart {place.instance} --all",
                topic=LOCK,
            )
        )
    count = sum(each.faces for each in facts.collections if not each.demo)
    return findings or [
        ok(NAME, f"the database of {place.instance} holds {count} faces, all of {calculator}")
    ]


def _embeddings(count: int) -> str:
    return f"{count} embedding{'' if count == 1 else 's'}"


def _faces(faces: Collection) -> str:
    return f"{faces.faces} {'face' if faces.faces == 1 else 'faces'} of {faces.calculator}"


def _service(faces: Collection) -> str:
    return f'"{faces.service}"' + (f' of "{faces.application}"' if faces.application else "")


def _ways(instance: str, others: Sequence[Collection], *, mixed: bool) -> str:
    if all(faces.demo for faces in others):
        return (
            "Remove the faces that were added to CompreFace's demo service, in its UI: the demo's "
            "own are of no engine's calculator."
        )
    repair = (
        f"cf data repair {instance} computes them anew from their photographs, or moves them out "
        "into a backup."
    )
    return repair if mixed else f"Start the build with their calculator. {repair}"


def _fatal(error: str) -> str:
    return error.rpartition("FATAL:")[2].strip()
