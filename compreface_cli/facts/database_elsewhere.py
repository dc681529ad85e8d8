"""Facts about a database that lives elsewhere, asked over the network; the owner of pg8000."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from compreface_cli.facts import database
from compreface_cli.facts.database import DatabaseFacts

if TYPE_CHECKING:
    from pg8000.native import Connection

# What failed: the name, the connection, TLS (none there; the certificate: not trusted, of another
# name, out of its time, or the file of its authority), the login, or the first question.
Step = Literal[
    "name", "connection", "no-tls", "authority", "trust", "host", "time", "tls", "login", "question"
]
CONNECT_S = 5.0
LIMIT_S = 20.0  # for all that is asked; counting the faces reads their whole table
APPLICATION = "compreface-cli"
# The two drivers of CompreFace's services. The api's second one has no name of its own, and its
# first statement is this (NotificationReceiverService.java).
_DRIVER = "PostgreSQL JDBC Driver"
_LISTENS = "LISTEN face_collection_update_msg"
# X509_V_ERR_* of OpenSSL, include/openssl/x509_vfy.h
_OUT_OF_TIME = (9, 10)
_OTHER_NAME = (62, 64)

_SERVER = f"""
select json_build_object(
 'version', current_setting('server_version_num')::int,
 'read_only', pg_is_in_recovery() or current_setting('transaction_read_only') = 'on',
 'encoding', (select pg_encoding_to_char(encoding) from pg_database
  where datname = current_database()),
 'schema', current_schema(),
 'room', (select min(n) from (
   select current_setting('max_connections')::int
    - current_setting('superuser_reserved_connections')::int
    - (select count(*) from pg_stat_activity where backend_type = 'client backend') as n
   union all select datconnlimit - (select count(*) from pg_stat_activity
     where datname = current_database()) from pg_database
    where datname = current_database() and datconnlimit >= 0
   union all select rolconnlimit - (select count(*) from pg_stat_activity
     where usename = current_user) from pg_roles
    where rolname = current_user and rolconnlimit >= 0) as limits) + 1,
 'others_tables', (select coalesce(json_agg(c.relname order by c.relname), '[]') from pg_class c
   where c.relnamespace = to_regnamespace('public') and c.relkind in ('r', 'p')
    and to_regclass('public.databasechangelog') is not null
    and not pg_has_role(c.relowner, 'usage')),
 'clients', (select coalesce(json_agg(distinct coalesce(host(client_addr), 'a local program')),
   '[]') from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    and (application_name = '{_DRIVER}' or query = '{_LISTENS}')),
 'tls', (select ssl from pg_stat_ssl where pid = pg_backend_pid()))
"""
_TABLES = f"""
select json_build_object('lock', to_regclass('public.databasechangeloglock') is not null,
 'changes', to_regclass('public.databasechangelog') is not null,
 'faces', to_regclass('public.embedding') is not null, 'old', {database.OLD})
"""
# What admin runs first, and what each of its migrations needs; it is rolled back.
_TRIED: Mapping[str, Sequence[str]] = {
    "uuid": ('create extension if not exists "uuid-ossp"', "select uuid_generate_v1()"),
    "table": ("create table public.compreface_cli_tries_its_rights (id integer)",),
}


@dataclass(frozen=True, slots=True)
class Target:
    """A database elsewhere and the login to it."""

    host: str
    port: int
    user: str
    name: str
    sslmode: str = "prefer"
    sslrootcert: str = ""
    password: str = field(default="", repr=False)

    @property
    def address(self) -> str:
        """Host, port and name as users see them: `db.example.org:5432/frs`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.name}"


class Failure(NamedTuple):
    """What failed, in the words of the system or of PostgreSQL, and its SQLSTATE if it has one."""

    step: Step
    reason: str
    state: str = ""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A database elsewhere. With a `failure` the rest is not known."""

    target: Target
    failure: Failure | None = None
    inside: str | None = ""  # error of a connection from a container; None: not tried
    tls: bool = False
    version: int = 0  # as PostgreSQL numbers it: 150004
    read_only: bool = False
    encoding: str = "UTF8"
    schema: str = "public"  # the one that new tables get into; "": none
    room: int = 100  # connections that the services may open now
    uuid: str = ""  # why the extension uuid-ossp cannot be used
    table: str = ""  # why no table can be made in the schema public
    others_tables: tuple[str, ...] = ()  # CompreFace's, of a role that the user is not part of
    clients: tuple[str, ...] = ()  # addresses of CompreFace's services that are connected
    contents: DatabaseFacts | None = None


class _Failed(Exception):
    """Ends the questions; `args[0]` is the Failure."""


def look(target: Target) -> Elsewhere:
    """Ask the database for all that the checks need; nothing is changed, and it ends in time."""
    try:
        with _session(target) as ask:
            server = ask(_SERVER)
            tried = {} if server["read_only"] else _try(ask)
            return Elsewhere(
                target,
                tls=bool(server["tls"]),
                version=int(server["version"]),
                read_only=bool(server["read_only"]),
                encoding=str(server["encoding"]),
                schema=str(server["schema"] or ""),
                room=int(server["room"]),
                uuid=tried.get("uuid", ""),
                table=tried.get("table", ""),
                others_tables=tuple(map(str, server["others_tables"])),
                clients=tuple(sorted(map(str, server["clients"]))),
                contents=_contents(ask),
            )
    except _Failed as failed:
        return Elsewhere(target, failed.args[0])


def contents(target: Target) -> Elsewhere:
    """What the database holds, without the facts about the server; or the failure."""
    try:
        with _session(target) as ask:
            return Elsewhere(target, contents=_contents(ask))
    except _Failed as failed:
        return Elsewhere(target, failed.args[0])


def free_lock(target: Target, lock: database.Lock) -> str:
    """Release Liquibase's lock if that holder still has it; returns the error, "" on success."""
    from pg8000.native import literal

    update = (
        "update public.databasechangeloglock set locked = false, lockgranted = null,"
        f" lockedby = null where locked and coalesce(lockedby, '') = {literal(lock.holder)}"
    )
    try:
        with _session(target) as ask:
            ask(update)
    except _Failed as failed:
        return str(failed.args[0].reason)
    return ""


def from_container(target: Target, image: str) -> str:
    """Why a container of that image cannot connect to the server; "" when it can.

    The image needs bash, as the services' health checks do.
    """
    from compreface_cli.docker import cli
    from compreface_cli.errors import CfError

    script = 'exec 3<>"/dev/tcp/$0/$1" || exit 7'
    try:
        cli.run(
            *("run", "--rm", "--pull=never", "--entrypoint=timeout", image),
            *(f"{CONNECT_S:g}", "bash", "-c", script, target.host, str(target.port)),
            doing="connect from a container",
            timeout_s=60,
        )
    except CfError as error:
        output = [line for line in error.details.get("output", ()) if "/dev/tcp" in line]
        return output[-1].rpartition(": ")[2] if output else f"no answer within {CONNECT_S:g} s"
    return ""


def _contents(ask: Callable[[str], Any]) -> DatabaseFacts:
    there = ask(_TABLES)
    documents: dict[str, Any] = {"old": there["old"], **ask(database.SESSIONS)}
    if there["lock"]:
        documents |= ask(database.LOCK) or {}
    if there["changes"]:
        documents |= ask(database.CHANGES)
    documents |= ask(database.COLLECTIONS) if there["faces"] else {"collections": []}
    return database.of_documents(documents, "", "")


def _try(ask: Callable[[str], Any]) -> dict[str, str]:
    """The errors of what admin's migrations do, which is rolled back: of "uuid", of "table"."""
    errors = {}
    for what, statements in _TRIED.items():
        ask("begin")
        try:
            for statement in statements:
                ask(statement)
        except _Failed as failed:
            errors[what] = str(failed.args[0].reason)
        ask("rollback")
    return errors


@contextmanager
def _session(target: Target) -> Iterator[Callable[[str], Any]]:
    """A function that runs a statement and returns its first value; all in LIMIT_S seconds.

    It raises _Failed for what cannot be reached or is refused.
    """
    from pg8000.native import Connection, DatabaseError, InterfaceError

    live = [_connected(target)]
    end = threading.Timer(LIMIT_S, lambda: _shut(live[-1]))
    end.daemon = True
    end.start()
    link: Connection | None = None
    try:
        live.append(_secured(live[0], target))
        try:
            link = Connection(
                target.user,
                password=target.password,
                database=target.name,
                sock=live[-1],
                ssl_context=False,
                application_name=APPLICATION,
                startup_params={"statement_timeout": f"{database.STATEMENT_S}s"},
            )
        except (DatabaseError, InterfaceError) as error:
            raise _Failed(_said(error, "login")) from error

        def ask(statement: str) -> Any:
            try:
                rows = link.run(statement)
            except (DatabaseError, InterfaceError) as error:
                raise _Failed(_said(error, "question")) from error
            return rows[0][0] if rows else None

        yield ask
    except (OSError, EOFError, ValueError, IndexError, KeyError, UnicodeError) as error:
        # What is no PostgreSQL, or stops in the middle, is read as far as it goes.
        reason = "no answer in time" if not end.is_alive() else str(error) or type(error).__name__
        raise _Failed(Failure("connection", reason)) from error
    finally:
        end.cancel()
        if link is not None:
            with contextlib.suppress(Exception):
                link.close()
        for each in live:
            each.close()


def _connected(target: Target) -> socket.socket:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _Failed(Failure("name", str(error.strerror or error))) from error
    last: OSError = OSError("no address")
    for family, kind, protocol, _, address in found[:4]:
        sock = socket.socket(family, kind, protocol)
        sock.settimeout(CONNECT_S)
        try:
            sock.connect(address)
        except OSError as error:
            sock.close()
            last = error
            continue
        sock.settimeout(LIMIT_S)
        return sock
    late = isinstance(last, TimeoutError)
    reason = f"no answer within {CONNECT_S:g} s" if late else str(last.strerror or last)
    raise _Failed(Failure("connection", reason)) from last


def _secured(sock: socket.socket, target: Target) -> socket.socket:
    """The connection with TLS as the mode asks for it, as libpq and both Java drivers do it."""
    if target.sslmode == "disable":
        return sock
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if target.sslmode.startswith("verify"):
        context.check_hostname = target.sslmode == "verify-full"
        try:
            context.load_verify_locations(target.sslrootcert)
        except (OSError, ssl.SSLError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise _Failed(Failure("authority", reason)) from error
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # Int32(8), the length; Int32(80877103), SSLRequest: PostgreSQL 17, section 53.7
    sock.sendall((8).to_bytes(4, "big") + (80877103).to_bytes(4, "big"))
    answer = sock.recv(1)
    if answer == b"N":
        if target.sslmode == "prefer":
            return sock
        raise _Failed(Failure("no-tls", "the server has no TLS"))
    if answer != b"S":
        raise _Failed(Failure("connection", "what answers there is no PostgreSQL"))
    try:
        return context.wrap_socket(sock, server_hostname=target.host)
    except ssl.SSLCertVerificationError as error:
        step: Step = "trust"
        if error.verify_code in _OUT_OF_TIME:
            step = "time"
        elif error.verify_code in _OTHER_NAME:
            step = "host"
        raise _Failed(Failure(step, error.verify_message)) from error
    except ssl.SSLError as error:
        raise _Failed(Failure("tls", error.reason or str(error))) from error


def _said(error: Exception, step: Step) -> Failure:
    """What PostgreSQL says, as pg8000 hands it on: a dictionary of its fields."""
    fields = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
    if not fields:
        return Failure("connection" if step == "login" else step, str(error))
    return Failure(step, str(fields.get("M", error)), str(fields.get("C", "")))


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
