"""A database that lives elsewhere: whether the services can work on it, and nobody else does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compreface_cli.checks import database
from compreface_cli.checks.base import (
    CONFIGURATION,
    CONFLICT,
    DATA,
    Finding,
    OwnedResources,
    fail,
    ok,
    warn,
)
from compreface_cli.facts import Facts
from compreface_cli.facts.database_elsewhere import Elsewhere, Failure, Step
from compreface_cli.plan.plan import Plan
from compreface_cli.topics import Topic

NAME = "database"
OLDEST, NEWEST = (
    10,
    17,
)  # PostgreSQL 10 has what the schema needs; a newer one than 17 was not tried
# Hikari's pools of three in admin and api (application.yml), and the api's two for notifications.
CONNECTIONS = 8
_UNREACHABLE = 8
_PASSWORD, _NO_DATABASE, _TOO_MANY = "28P01", "3D000", "53300"  # SQLSTATE

UNREACHABLE = Topic(
    "elsewhere-unreachable",
    means="The database elsewhere does not answer.",
    why="admin and api end at their start without it.",
    see="`psql URL` or `nc -zv HOST PORT` from this machine.",
    ways=(
        "Correct host and port in the address.",
        "Let PostgreSQL listen on that address (`listen_addresses`), and firewalls let it through.",
    ),
)
CONTAINERS = Topic(
    "elsewhere-containers",
    means="The database elsewhere answers this machine, and no container on it.",
    why="The services run in containers, which have other addresses and often another resolver.",
    see="`docker run --rm IMAGE bash -c 'exec 3<>/dev/tcp/HOST/PORT'`.",
    ways=(
        "Let the firewall of the database's host accept the addresses of Docker's networks.",
        "Give an address instead of a name that only this machine knows (/etc/hosts).",
    ),
)
TLS = Topic(
    "elsewhere-tls",
    means="The connection to the database elsewhere cannot be secured as its address asks.",
    why="With verify-full the certificate must be valid, of the named authority, and for the host "
    "in the address; the services refuse another one.",
    see="`openssl s_client -starttls postgres -connect HOST:PORT -CAfile FILE`.",
    ways=(
        "Name the authority that has signed the certificate: `sslrootcert=FILE`.",
        "Take the host name that stands in the certificate.",
        "Renew a certificate that has expired.",
    ),
)
UNVERIFIED = Topic(
    "elsewhere-unverified",
    means="The services do not check who answers as the database elsewhere, or use no TLS at all.",
    why="Whoever is between them can read the password and the faces.",
    see="`cf config list` shows postgres_sslmode.",
    ways=("Add `?sslmode=verify-full&sslrootcert=FILE` to the address.",),
)
LOGIN = Topic(
    "elsewhere-login",
    means="The database elsewhere refuses the login.",
    why="admin and api log in with the same user and password.",
    see="The server's log says why; `psql URL` shows the same.",
    ways=(
        "Correct user and password: in the address, or CF_POSTGRES_PASSWORD.",
        "Let pg_hba.conf accept this user from the addresses of the services.",
    ),
)
NO_DATABASE = Topic(
    "elsewhere-name",
    means="The server has no database of that name.",
    why="`cf` creates none on a server of yours; admin makes its tables in one that is there.",
    see="`psql -l` lists the databases.",
    ways=("Create it: `create database NAME owner USER`.", "Correct the name in the address."),
)
VERSION = Topic(
    "elsewhere-version",
    means="The PostgreSQL elsewhere is of a version that CompreFace was not seen to work with.",
    why="Its own is 11.5. Before 10 the schema cannot be made.",
    see="`select version()`.",
    ways=(f"Take one of {OLDEST} to {NEWEST}.",),
)
RIGHTS = Topic(
    "elsewhere-rights",
    means="The user may not make or change CompreFace's tables.",
    why="admin makes and migrates the schema `public` at its start; CompreFace's queries name it.",
    see=r"`\dn+ public` and `\dt public.*` in psql show owners and rights.",
    ways=(
        "Make the user the owner of the database, or `grant create on schema public to USER`.",
        "Give it the tables of another user: `reassign owned by OTHER to USER`.",
        "Remove another `search_path`: `alter role USER in database NAME reset search_path`.",
    ),
)
UUID = Topic(
    "elsewhere-uuid-ossp",
    means="The extension uuid-ossp cannot be used.",
    why='The first thing that admin runs is `create extension if not exists "uuid-ossp"`.',
    see="`select * from pg_available_extensions where name = 'uuid-ossp'`.",
    ways=(
        "Install the contributed extensions (Debian: they are in postgresql-VERSION).",
        'Create it as a superuser in that database: `create extension "uuid-ossp" schema public`.',
    ),
)
READ_ONLY = Topic(
    "elsewhere-read-only",
    means="The database elsewhere accepts no changes.",
    why="It is a standby, or `default_transaction_read_only` is on.",
    see="`select pg_is_in_recovery()`.",
    ways=("Give the address of the primary.",),
)
ENCODING = Topic(
    "elsewhere-encoding",
    means="The database does not store text as UTF-8.",
    why="Names of subjects in other scripts could not be stored.",
    see="`psql -l`.",
    ways=("Create it anew: `create database NAME encoding 'UTF8' template template0`.",),
)
ROOM = Topic(
    "elsewhere-connections",
    means="The server has too few free connections for the services.",
    why=f"admin and api keep {CONNECTIONS} open.",
    see="`select count(*) from pg_stat_activity` and `show max_connections`.",
    ways=("Raise max_connections, or the limit of the role or database.", "End idle clients."),
)
IN_USE = Topic(
    "elsewhere-in-use",
    means="The services of another install work on this database already.",
    why="Two api processes on one database drift apart in silence after it restarts: who was "
    "deleted at one is still recognised at the other.",
    see="`select client_addr, application_name from pg_stat_activity`.",
    ways=(
        "Stop the other install, or use a database of its own.",
        "Insist with `--several-apis`, and restart every api after each restart of the database.",
    ),
)

_CERTIFICATE: Mapping[Step, tuple[str, str]] = {
    "no-tls": ("offers no TLS", "Switch it on there (ssl = on), or take sslmode=disable."),
    "trust": (
        "has a certificate that the authority in sslrootcert has not signed",
        "Name the file with the authority that has signed it: sslrootcert=FILE",
    ),
    "host": (
        "has a certificate for another host",
        "Take a name or an address that stands in the certificate.",
    ),
    "time": ("has a certificate that is out of its time", "Renew it on the server."),
    "tls": ("cannot agree on TLS with this machine", "Its log says why."),
}


def check(plan: Plan, facts: Facts, own: OwnedResources) -> Iterator[Finding]:
    """The findings about the database of the plan; none with one of its own."""
    seen = facts.elsewhere
    if seen is None or plan.owns_database:
        return
    if seen.failure is not None:
        yield failed(seen, seen.failure)
        return
    findings = [*_server(seen), *_users(plan, seen, own), *_contents(plan, seen)]
    yield from findings
    yield from _unverified(seen)
    if not findings:
        yield ok(NAME, f"the database {seen.target.address} fits {plan.calculator}")


def failed(seen: Elsewhere, failure: Failure) -> Finding:
    """The finding for a database that could not be asked."""
    address, step = seen.target.address, failure.step
    if step in ("name", "connection"):
        what = "host name cannot be looked up" if step == "name" else "server does not answer"
        return fail(
            NAME,
            _UNREACHABLE,
            f"the database {address}: its {what}: {failure.reason}",
            "Correct the address, or see that it listens there: listen_addresses, firewalls.",
            topic=UNREACHABLE,
        )
    if step == "authority":
        return fail(
            NAME,
            CONFIGURATION,
            f"the certificate authority {seen.target.sslrootcert} cannot be read: {failure.reason}",
            "Name a file in PEM: sslrootcert=FILE",
            topic=TLS,
        )
    if step in _CERTIFICATE:
        what, way = _CERTIFICATE[step]
        message = f"the database {address} {what}: {failure.reason}"
        return fail(NAME, CONFIGURATION, message, way, topic=TLS)
    if failure.state == _NO_DATABASE:
        name = seen.target.name
        return fail(
            NAME,
            CONFIGURATION,
            f"the server of {address} has no database of that name",
            f'Create it there: create database "{name}" owner "{seen.target.user}"',
            topic=NO_DATABASE,
        )
    if failure.state == _TOO_MANY:
        return _no_room(address, failure.reason)
    if step == "login":
        way = (
            "Give its password in the address, or CF_POSTGRES_PASSWORD=..."
            if failure.state == _PASSWORD or not seen.target.password
            else "The server's log says more; mostly its pg_hba.conf decides it."
        )
        return fail(
            NAME,
            CONFIGURATION,
            f"the database {address} refuses the login: {failure.reason}",
            way,
            topic=LOGIN,
        )
    return fail(
        NAME,
        _UNREACHABLE,
        f"the database {address} does not answer what it was asked: {failure.reason}",
        "Try again in a minute; the server's log says more.",
        topic=database.UNREAD,
    )


def refused(seen: Elsewhere, calculator: str) -> Finding | None:
    """The refusal of a calculator whose embeddings do not compare with those in the database."""
    contents = seen.contents
    if contents is None or database.takes(contents, calculator) is not False:
        return None
    others = database.foreign(contents, calculator)
    names = sorted({faces.calculator for faces in others})
    return fail(
        NAME,
        DATA,
        f"the database {seen.target.address} holds embeddings of {' and '.join(names)} "
        f"({database.rows(others)}); this build computes those of {calculator}, which cannot be "
        "compared with them",
        f"Nothing in it was changed. Start a build with the calculator {names[0]} (`cf list-builds`"
        " shows all), or give an empty database.",
        topic=database.OTHER_CALCULATOR,
    )


def _server(seen: Elsewhere) -> Iterator[Finding]:
    """What the server is and allows."""
    address = seen.target.address
    if seen.inside:
        yield fail(
            NAME,
            _UNREACHABLE,
            f"a container on this machine cannot connect to the database {address}: {seen.inside}",
            "Let its firewall accept Docker's networks; a name must be known beyond this machine.",
            topic=CONTAINERS,
        )
    major = seen.version // 10000
    if major < OLDEST:
        yield fail(
            NAME,
            CONFIGURATION,
            f"the database {address} runs PostgreSQL {major}, and CompreFace needs {OLDEST} or a "
            "newer one",
            f"Take a server of {OLDEST} to {NEWEST}.",
            topic=VERSION,
        )
    elif major > NEWEST:
        yield warn(
            NAME,
            f"the database {address} runs PostgreSQL {major}, with which CompreFace was not tried",
            f"{OLDEST} to {NEWEST} are known to fit.",
            topic=VERSION,
        )
    if seen.read_only:
        yield fail(
            NAME,
            CONFIGURATION,
            f"the database {address} accepts no changes: it is a standby or set to read only",
            "Give the address of the primary.",
            topic=READ_ONLY,
        )
    if seen.encoding != "UTF8":
        yield fail(
            NAME,
            CONFIGURATION,
            f"the database {address} stores text as {seen.encoding}, and CompreFace needs UTF8",
            "Create another: create database NAME encoding 'UTF8' template template0",
            topic=ENCODING,
        )
    if seen.uuid:
        yield fail(
            NAME,
            CONFIGURATION,
            f"the database {address} has no usable extension uuid-ossp: {seen.uuid}",
            'As a superuser in that database: create extension "uuid-ossp" schema public',
            topic=UUID,
        )
    yield from _rights(seen)
    if seen.room < CONNECTIONS:
        yield _no_room(address, f"{max(seen.room, 0)} are free")


def _rights(seen: Elsewhere) -> Iterator[Finding]:
    address, user = seen.target.address, seen.target.user
    if seen.table:
        yield fail(
            NAME,
            CONFIGURATION,
            f"the user {user} cannot make tables in the schema public of {address}: {seen.table}",
            f'As its owner: grant create on schema public to "{user}"',
            topic=RIGHTS,
        )
    if seen.others_tables:
        first = seen.others_tables[0]
        more = f" and {len(seen.others_tables) - 1} more" if len(seen.others_tables) > 1 else ""
        yield fail(
            NAME,
            CONFIGURATION,
            f"CompreFace's tables in {address} belong to another user than {user}: {first}{more}",
            f'Log in as their owner, or as a superuser there: reassign owned by OTHER to "{user}"',
            topic=RIGHTS,
        )
    if seen.schema != "public":
        where = f"the schema {seen.schema}" if seen.schema else "no schema"
        yield fail(
            NAME,
            CONFIGURATION,
            f"new tables of {user} in {address} get into {where}, and CompreFace needs public",
            f'alter role "{user}" in database "{seen.target.name}" set search_path = public',
            topic=RIGHTS,
        )


def _no_room(address: str, reason: str) -> Finding:
    return fail(
        NAME,
        CONFIGURATION,
        f"the database {address} has too few free connections: the services keep {CONNECTIONS} "
        f"open, {reason}",
        "Raise max_connections there, or the limit of the role or database; or end idle clients.",
        topic=ROOM,
    )


def _users(plan: Plan, seen: Elsewhere, own: OwnedResources) -> Iterator[Finding]:
    """Other services of CompreFace on this database; its own are replaced."""
    address = seen.target.address
    users = [f"the instance '{each.name}'" for each in own.others if each.database == address]
    if not users and own.database != address and seen.clients:
        users = [f"services of CompreFace at {', '.join(seen.clients)}"]
    if not users:
        return
    message = f"{' and '.join(users)} work on the database {address} too"
    if len(users) == 1 and not seen.clients:
        message = f"{users[0]} works on the database {address} too"
    if plan.allow_several_apis:
        yield warn(
            NAME, message, "Restart every api each time the database has restarted.", topic=IN_USE
        )
        return
    yield fail(
        NAME,
        CONFLICT,
        message,
        "Two api processes on one database drift apart after it restarts. Stop the others first, "
        "or insist with --several-apis.",
        topic=IN_USE,
    )


def _contents(plan: Plan, seen: Elsewhere) -> Iterator[Finding]:
    """Faces of another calculator, and Liquibase's lock while somebody holds it."""
    contents = seen.contents
    if contents is None:
        return
    if contents.collections is None:
        yield fail(
            NAME,
            _UNREACHABLE,
            f"the database {seen.target.address} does not say what it holds: {contents.error}",
            "Try again in a minute; the server's log says more.",
            topic=database.UNREAD,
        )
    if finding := refused(seen, plan.calculator):
        yield finding


def _unverified(seen: Elsewhere) -> Iterator[Finding]:
    if seen.target.sslmode.startswith("verify"):
        return
    what = "its certificate is not checked" if seen.tls else "without TLS"
    yield warn(
        NAME,
        f"the services reach the database {seen.target.address} with sslmode "
        f"{seen.target.sslmode}: {what}",
        "sslmode=verify-full with sslrootcert=FILE protects the password and the faces.",
        topic=UNVERIFIED,
    )
