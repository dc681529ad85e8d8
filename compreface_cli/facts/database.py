"""Facts about the content of an instance's database, running or in a volume that is not mounted."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compreface_cli.docker import cli
from compreface_cli.docker.labels import LABEL_AT_REST
from compreface_cli.docker.postgres import LOGIN
from compreface_cli.errors import CfError

_SILENT = "no answer"
LOOK_S = 20.0  # timeout of a query; a healthy database answers in a tenth of a second
STATEMENT_S = 4  # timeout of each statement in it; counting faces reads their whole table
REST_S = 90.0  # timeout for a stopped database, which may have to be recovered first
REST_STATEMENT_S = 40

# `demo`: CompreFace's own twenty faces in each new database, of a calculator that no engine has.
COLLECTIONS = (
    "select jsonb_build_object('collections', coalesce(jsonb_agg(r), '[]')) as found from ("
    "select m.id as service_id, m.name as service, a.name as application, e.calculator,"
    " sum(e.faces) as faces, bool_and(m.id = 0"
    " and e.calculator = 'Facenet2018') as demo from (select subject_id, calculator, count(*)"
    " as faces from public.embedding group by subject_id, calculator) e"
    " join public.subject s on s.id = e.subject_id join public.model m on m.api_key = s.api_key"
    " left join public.app a on a.id = m.app_id group by m.id, m.name, a.name, e.calculator"
    " order by a.name, m.name, m.id, e.calculator) r;"
)
# CompreFace before 0.6 stored its faces in a table of that name; later versions move them.
OLD = "to_regclass('public.face') is not null"
LOCK = (
    "select jsonb_build_object('lock', jsonb_build_object('holder', coalesce(lockedby, ''),"
    " 'since', coalesce(to_char(lockgranted, 'YYYY-MM-DD\"T\"HH24:MI:SS.MS'), '')))"
    " from public.databasechangeloglock where locked limit 1;"
)
# Each change set as "NUMBER ID", the number of its file db.changelog-NUMBER.yaml; ids repeat.
CHANGE = "regexp_replace(filename, '^.*db[.]changelog-|[.]yaml$', '', 'g') || ' ' || id"
CHANGES = (
    f"select jsonb_build_object('changes', coalesce(jsonb_agg({CHANGE} order by orderexecuted),"  # noqa: S608
    " '[]')) from public.databasechangelog;"
)
# Liquibase keeps its connection open while it holds its lock.
SESSIONS = (
    "select jsonb_build_object('sessions', count(*)) from pg_stat_activity where"
    " datname = current_database() and pid <> pg_backend_pid() and"
    " backend_type = 'client backend' and application_name not like 'psql%';"
)
_TABLES = f"""
select to_regclass('public.databasechangeloglock') is not null as has_lock,
       to_regclass('public.databasechangelog') is not null as has_changes,
       to_regclass('public.embedding') is not null as has_faces, {OLD} as is_old \\gset
"""
# The first connection is made like those of the services: over the network, with their password.
_LOOK = f"""
user=${{POSTGRES_USER:-postgres}}; database=${{POSTGRES_DB:-$user}}
{LOGIN}
export PGCONNECT_TIMEOUT=3 LC_ALL=C
export PGOPTIONS='-c statement_timeout={STATEMENT_S}s -c lc_messages=C -c jit=off'
set -- psql -X -A -t -q -w -v ON_ERROR_STOP=1 -U "$user" -d "$database"
address=$(hostname -i); address=${{address%% *}}
echo @login; "$@" -h "$address" -c 'select 1' 2>&1 >/dev/null
echo @found; "$@" 2>&1 <<'END'
{_TABLES}
\\if :has_lock
{LOCK}
\\endif
\\if :has_changes
{CHANGES}
\\endif
{SESSIONS}
select jsonb_build_object('old', :'is_old'::boolean);
\\if :has_faces
{COLLECTIONS}
\\else
select '{{"collections": []}}';
\\endif
END
echo @end
"""
_FREE = f"""
user=${{POSTGRES_USER:-postgres}}; database=${{POSTGRES_DB:-$user}}
{LOGIN}
export PGCONNECT_TIMEOUT=3
psql -X -q -w -v ON_ERROR_STOP=1 -v "holder=$1" -U "$user" -d "$database" <<'END'
update public.databasechangeloglock set locked = false, lockgranted = null, lockedby = null
where locked and coalesce(lockedby, '') = :'holder';
END
"""  # noqa: S608 - the holder is a variable of psql
# The file names by which checks/database.py decides whether a data folder has data.
_FILES = """
cd "${PGDATA:-/var/lib/postgresql/data}" || exit 1
echo @server; postgres --version
[ -s PG_VERSION ] && echo @version && cat PG_VERSION
grep -Eq '^[[:space:]]*host[[:space:]]+all[[:space:]]+all[[:space:]]+all[[:space:]]' pg_hba.conf \
  2>/dev/null && echo @open
echo @large; find . -path './base/*' -name 2613 -size +0
echo @files; find . -mindepth 1 -maxdepth 3 ! -type d
echo @end
"""
# The stored passwords are digests, which checks/password.py compares with the services' password.
_ROLES = (
    "select jsonb_build_object('roles', coalesce(jsonb_object_agg(rolname,"
    " coalesce(rolpassword, '')), '{}')) as found from pg_authid where rolcanlogin;"
)
# For a volume whose database does not run: a single process without network reads it and ends.
_REST = f"""
postgres --single -c lc_messages=C -c statement_timeout={REST_STATEMENT_S}s \
  -D "${{PGDATA:-/var/lib/postgresql/data}}" "$0" 2>&1 <<'END'
select jsonb_build_object('old', {OLD}) as found;
{_ROLES}
{COLLECTIONS}
END
echo @end
"""
_NO_TABLE = 'relation "public.embedding" does not exist'


@dataclass(frozen=True, slots=True)
class Collection:
    """The faces of one calculator in one service."""

    service: str
    service_id: int
    application: str
    calculator: str
    faces: int
    demo: bool = False  # CompreFace's demo faces, which every database has


@dataclass(frozen=True, slots=True)
class Lock:
    """Liquibase's lock on the schema, while it is held."""

    holder: str  # "host name (address)", as Liquibase writes it
    since: str  # the holder's own local time, ISO 8601 without a zone


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """The content of a database; `error`: why values are None."""

    error: str = ""
    login: str | None = None  # error of the services' login; "": it works; None: not tried
    collections: tuple[Collection, ...] | None = None
    lock: Lock | None = None
    sessions: int | None = None  # of other programs
    silent: bool = False  # it gave no answer in time
    old: bool = False  # the schema of a CompreFace before 0.6
    changes: tuple[str, ...] | None = None  # of the schema, in order; None: not known
    # Only of a database at rest: who may log in, with the digest of each password; None: not read.
    roles: Mapping[str, str] | None = field(default=None, repr=False)
    # Major versions of the PostgreSQL that wrote the volume ("11") and of the one that is to run on
    # it; "" where not asked
    written_by: str = ""
    server: str = ""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """The files of a data folder, three levels deep; `error`: why they could not be listed."""

    error: str = ""
    version: bool = False  # it has a PG_VERSION, so the image will not initialise it
    open: bool = False  # pg_hba.conf has the image's line for all hosts
    files: tuple[str, ...] = ()  # "base/5/2619"
    large: bool = False  # there are large objects
    written_by: str = ""  # major version of the PostgreSQL that wrote it, by its PG_VERSION: "11"
    server: str = ""  # major version of the image's PostgreSQL


def look(container: str, *, timeout_s: float = LOOK_S) -> DatabaseFacts:
    """Query the database that runs in the container; a failure is in `error`."""
    output, error = _docker("exec", container, "sh", "-c", _LOOK, timeout_s=timeout_s)
    if error:
        return DatabaseFacts(error=error, silent=error.startswith(_SILENT))
    return read(output)


def at_rest(volume: str, image: str, database: str) -> DatabaseFacts:
    """Read a volume whose database does not run, with the image's PostgreSQL.

    The caller must make sure that no container uses the volume, and that it has an initialised
    database.
    """
    output, error = _docker(
        *("run", "--rm", "--pull=never", "--network=none", "--user=postgres", "--entrypoint=sh"),
        f"--label={LABEL_AT_REST}={volume}",
        *(f"--volume={volume}:/var/lib/postgresql/data", image, "-c", _REST, database),
        timeout_s=REST_S,
    )
    return DatabaseFacts(error=error) if error else read_single(output)


def server_of(image: str) -> str:
    """The major version of the image's PostgreSQL; "" if it does not say it."""
    output, _ = _docker(
        *("run", "--rm", "--pull=never", "--network=none", "--entrypoint=postgres", image),
        "--version",
        timeout_s=REST_S,
    )
    return major(output)


def folder_in(container: str) -> DataFolder:
    """The data files of the database that runs in the container."""
    output, error = _docker("exec", container, "sh", "-c", _FILES, timeout_s=LOOK_S)
    return DataFolder(error) if error else read_folder(output)


def folder_of(volume: str, image: str) -> DataFolder:
    """The data files in a volume, mounted read-only; `image` is the database's."""
    output, error = _docker(
        *("run", "--rm", "--pull=never", "--network=none", "--entrypoint=sh"),
        f"--label={LABEL_AT_REST}={volume}",
        *(f"--volume={volume}:/var/lib/postgresql/data:ro", image, "-c", _FILES),
        timeout_s=REST_S,
    )
    return DataFolder(error) if error else read_folder(output)


def free_lock(container: str, lock: Lock) -> str:
    """Release the lock if that holder still has it; returns the error, "" on success."""
    return _docker("exec", container, "sh", "-c", _FREE, "sh", lock.holder, timeout_s=LOOK_S)[1]


def read(text: str) -> DatabaseFacts:
    """Parse the output of `_LOOK`."""
    parts = _parts(text)
    if "end" not in parts:
        return DatabaseFacts(error=_line(text) or "it gave no answer")
    login = " ".join(parts.get("login", ())).strip()
    documents, errors = _documents(parts.get("found", ()))
    return of_documents(documents, " ".join(errors), login)


def read_single(text: str) -> DatabaseFacts:
    """Parse the output of `_REST`: values as `1: found = "{...}" (typeid = ...`."""
    if not text.rstrip().endswith("@end"):
        return DatabaseFacts(error=_line(text) or "it gave no answer")
    values = re.findall(r'^\s+1: found = "(.*)"\t\(typeid', text, re.MULTILINE)
    documents, _ = _documents(values)
    errors = re.findall(r"(?:ERROR|FATAL|PANIC):\s+(.*)", text)
    if "collections" not in documents and any(_NO_TABLE in line for line in errors):
        documents["collections"] = []
        errors = []
    return of_documents(documents, " ".join(errors), None)


def read_folder(text: str) -> DataFolder:
    """Parse the output of `_FILES`."""
    parts = _parts(text)
    if "end" not in parts:
        return DataFolder(_line(text) or "its files could not be listed")
    return DataFolder(
        version="version" in parts,
        open="open" in parts,
        files=tuple(sorted(line.removeprefix("./") for line in parts.get("files", ()))),
        large=bool(parts.get("large")),
        written_by=major("".join(parts.get("version", ()))),
        server=major("".join(parts.get("server", ()))),
    )


def major(text: str) -> str:
    """The major version in a text of PostgreSQL's: `15`, and `9.6` before 10; "" without one."""
    match = re.search(r"(\d+)(?:\.(\d+))?", text)
    if match is None:
        return ""
    return match[1] if int(match[1]) >= 10 else match[0]


def of_documents(documents: Mapping[str, Any], error: str, login: str | None) -> DatabaseFacts:
    """The facts of what the queries print, merged into one document."""
    rows, lock = documents.get("collections"), documents.get("lock")
    changes = documents.get("changes")
    try:
        return DatabaseFacts(
            error=error or ("" if rows is not None else "its answer has no collections"),
            login=login,
            collections=None if rows is None else tuple(_collection(row) for row in rows),
            lock=Lock(str(lock["holder"]), str(lock["since"])) if lock else None,
            sessions=documents.get("sessions"),
            old=bool(documents.get("old")),
            roles=documents.get("roles"),
            changes=None if changes is None else tuple(map(str, changes)),
        )
    except (KeyError, TypeError, ValueError) as error:
        return DatabaseFacts(error=f"its answer is not understood: {error!r}", login=login)


def _collection(row: Mapping[str, Any]) -> Collection:
    return Collection(
        service=str(row["service"]),
        service_id=int(row["service_id"]),
        application=str(row["application"] or ""),
        calculator=str(row["calculator"]),
        faces=int(row["faces"]),
        demo=bool(row["demo"]),
    )


def _parts(text: str) -> dict[str, list[str]]:
    """The lines after each marker `@name`, by name."""
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("@"):
            current = parts.setdefault(line[1:], [])
        elif line.strip():
            current.append(line)
    return parts


def _documents(lines: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """The JSON objects among the lines, merged, and the other lines."""
    merged: dict[str, Any] = {}
    errors = []
    for line in lines:
        try:
            merged |= json.loads(line)
        except (ValueError, TypeError):
            errors.append(line.strip())
    return merged, errors


def _line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "@"]
    return lines[-1][:300] if lines else ""


def _docker(*arguments: str, timeout_s: float) -> tuple[str, str]:
    """The output of `docker ARGUMENTS` and its error, "" on success."""
    try:
        return cli.run(*arguments, doing="ask the database", timeout_s=timeout_s), ""
    except CfError as failed:
        if failed.details.get("timed_out"):
            return "", f"{_SILENT} within {timeout_s:g} s"
        return "", _line("\n".join(failed.details.get("output", ()))) or failed.message
