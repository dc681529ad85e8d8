"""PostgreSQL in a container: sessions of `psql`, other programs there, and a server at rest."""

from __future__ import annotations

import json
import os
import re
import select
import tempfile
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from subprocess import Popen
from typing import IO, Any

from compreface_cli.docker import cli, client, containers
from compreface_cli.docker.labels import LABEL_AT_REST
from compreface_cli.errors import CfError, ConflictError

DATA = "/var/lib/postgresql/data"
START_S = 120.0  # a server that was killed recovers first
_POLL_S = 0.1
_STATEMENT_S = 120.0
_FETCHED = 500  # rows that psql has in memory at once
_READ_BYTES = 1 << 16
_SHOWN_BYTES = 1 << 14
_OPTIONS = "-c lc_messages=C -c client_min_messages=warning -c jit=off"
# The password is in the container's environment or, on Swarm, in the file that is named there.
LOGIN = """\
: "${POSTGRES_PASSWORD=$(cat "${POSTGRES_PASSWORD_FILE:-/dev/null}")}"
export PGPASSWORD="$POSTGRES_PASSWORD"
"""
# Runs a program with that password.
_WITH_LOGIN = f'{LOGIN}exec "$@"'
# The same, and ends the program as soon as its stdin is closed, which the end of `cf` does.
# The shell waits for all that it has started: PostgreSQL is process 1 in its container, adopts what
# is left, and takes the end of that by a signal for a crash of its own, which ends every session.
_UNTIL_CLOSED = f"""
{LOGIN}
exec 3<&0
"$@" 3<&- </dev/null & program=$!
(while read -r _ <&3; do :; done; kill "$program") 2>/dev/null & watch=$!
wait "$program"; code=$?
kill "$watch" 2>/dev/null
wait "$watch" 2>/dev/null
exit "$code"
"""
# Waits for a line, so that nothing works on the volume before `cf` has seen who else mounts it.
# A shell runs a trap only between commands and in `wait`.
_AT_REST = """
data=${PGDATA:-/var/lib/postgresql/data}
[ -s "$data/PG_VERSION" ] || { echo 'the volume has no database' >&2; exit 3; }
exec 3<&0
read -r go <&3 || exit 0
postgres -D "$data" -c listen_addresses= -c lc_messages=C & server=$!
trap 'kill -INT "$server"' TERM INT
(cat <&3 >/dev/null; kill -INT "$server") 2>/dev/null &
while wait "$server"; code=$?; kill -0 "$server" 2>/dev/null; do :; done
exit "$code"
"""
_ERROR = re.compile(r"^(?:psql:.*?: )?(?:ERROR|FATAL|PANIC):\s+(?:([0-9A-Z]{5}): )?(.*)", re.M)


class QueryError(CfError):
    """A statement or a connection failed; `state` is the SQLSTATE, "" where there is none."""

    def __init__(self, message: str, *, state: str = "", **rest: Any) -> None:
        super().__init__(message, **rest)
        self.state = state


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL that runs in a container, with the superuser and the database of CompreFace."""

    container: str
    user: str
    database: str

    def exec(self, *program: str, script: str = _WITH_LOGIN) -> list[str]:
        """The arguments of `docker` that run a program there, with a stdin."""
        variables = {
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGOPTIONS": _OPTIONS,
            "PGCLIENTENCODING": "UTF8",
            "PGCONNECT_TIMEOUT": "10",
            "LC_ALL": "C",
        }
        given = [f"--env={name}={value}" for name, value in variables.items()]
        return ["exec", "-i", *given, self.container, "sh", "-c", script, "sh", *program]


def of_container(container: str, *, user: str = "", database: str = "") -> Server:
    """The server in a running container; what is not given is read from its environment."""
    row = client.get("containers", container, "json", doing="look up the database")
    pairs = (str(item).partition("=") for item in row["Config"].get("Env") or ())
    environment = {name: value for name, _, value in pairs}
    user = user or environment.get("POSTGRES_USER") or "postgres"
    return Server(row["Id"], user, database or environment.get("POSTGRES_DB") or user)


@contextmanager
def at_rest(
    volume: str,
    image: str,
    *,
    user: str = "postgres",
    database: str = "frs",
    start_s: float = START_S,
) -> Iterator[Server]:
    """A temporary server, without a network, on a volume that no running container mounts.

    It shuts down at the end of the block, and also when `cf` is killed, since its stdin is then
    closed. `image` has the PostgreSQL of the volume's major version; nothing is initialised.
    Raises ConflictError, which names the container, for a volume that is in use.
    """
    with temporary(
        volume,
        image,
        ("-c", _AT_REST),
        doing=f"read the volume {volume}",
        accepts=lambda name: _accepts(Server(name, user, database)),
        options=("--user=postgres",),
        start_s=start_s,
    ) as name:
        yield Server(name, user, database)


@contextmanager
def temporary(
    volume: str,
    image: str,
    arguments: Sequence[str],
    *,
    doing: str,
    accepts: Callable[[str], bool],
    options: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    start_s: float = START_S,
) -> Iterator[str]:
    """The name of a container without a network in which `sh ARGUMENTS` serves the volume.

    The script waits for a line on its stdin, and shuts the server down when that is closed.
    `accepts`: whether the server in that container answers; it is given up after `start_s` seconds.
    """
    refuse_used(volume)
    name = f"cf-at-rest-{uuid.uuid4().hex[:12]}"
    words = [
        *("run", "--rm", "-i", "--pull=never", "--network=none", *options),
        *(f"--name={name}", f"--label={LABEL_AT_REST}={volume}", "--shm-size=256m"),
        *("--stop-timeout=60", "--entrypoint=sh", f"--volume={volume}:{DATA}"),
        *(image, *arguments),
    ]
    with (
        tempfile.TemporaryFile() as log,
        cli.process(*words, doing=doing, errors=log, environment=environment) as child,
    ):
        try:
            end = time.monotonic() + start_s
            while client.find("containers", name, "json") is None:
                _wait_for(child, log, doing, end)
            refuse_used(volume, but=name)
            assert child.stdin is not None  # noqa: S101 - it is a pipe
            child.stdin.write(b"go\n")
            child.stdin.flush()
            while not accepts(name):
                _wait_for(child, log, doing, end)
            yield name
        finally:
            _shut_down(child, name)


def refuse_used(volume: str, *, but: str = "") -> None:
    """Raise ConflictError if a container other than `but` runs on the volume.

    Two servers on one volume destroy it, and neither notices the other.
    """
    for container in containers.listed(volume=volume):
        if container.active and but not in (container.name, container.id):
            raise ConflictError(
                f"the container {container.name} runs on the volume {volume}",
                hint=f"Stop it first: docker stop {container.name}",
                details={"volume": volume, "container": container.name},
            )


def _wait_for(child: Popen[bytes], log: IO[bytes], doing: str, end: float) -> None:
    if child.poll() is not None:
        raise cli.failure(doing, _tail(log), code=child.returncode)
    if time.monotonic() > end:
        raise QueryError(
            f"{doing}: the database does not answer in time",
            details={"log": _tail(log).splitlines()[-8:]},
        )
    time.sleep(_POLL_S)


def _accepts(server: Server) -> bool:
    program = ("psql", "-X", "-q", "-w", "-c", "select 1")
    try:
        cli.run(*server.exec(*program), doing="ask the database", timeout_s=20)
    except CfError as error:
        lines = "\n".join(error.details.get("output", ()))
        # Wrong names are not mended by waiting; the first statement tells.
        return "FATAL" in lines and "does not exist" in lines
    return True


def _shut_down(child: Popen[bytes], name: str) -> None:
    """Let the server write everything to its files; `docker run` ends with it."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        child.wait(60)
    finally:
        if child.poll() is None:
            cli.run("rm", "--force", name, doing="remove a container", check=False)


class Session:
    """One `psql` in the server's container, which ends, with its transaction, when `cf` does.

    After an error (QueryError) it is closed. Used from one thread only.
    """

    def __init__(self, server: Server, *, statement_s: float | None = _STATEMENT_S) -> None:
        self.server = server
        self.statement_s = statement_s
        self._number = 0
        self._buffer = bytearray()

    def __enter__(self) -> Session:
        self._errors: IO[bytes] = tempfile.TemporaryFile()
        options = ("-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1")
        more = ("-v", "VERBOSITY=verbose", "-v", f"FETCH_COUNT={_FETCHED}", "-P", "pager=off")
        arguments = self.server.exec("psql", *options, *more)
        self._process = cli.process(*arguments, doing="ask the database", errors=self._errors)
        self._child = self._process.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            self._process.__exit__(None, None, None)
        finally:
            self._errors.close()

    def lines(self, sql: str, *, timeout_s: float | None = None) -> Generator[str, None, None]:
        """The lines that a statement prints, as they arrive; a value is printed as text."""
        for line in self._answer(sql, timeout_s):
            yield line.decode()

    def rows(
        self, select: str, *, timeout_s: float | None = None
    ) -> Generator[dict[str, Any], None, None]:
        """The rows of a query as they arrive, each as PostgreSQL's JSON of it."""
        for line in self._answer(f"select row_to_json(r) from (\n{select}\n) r", timeout_s):
            yield json.loads(line)

    def row(self, select: str, *, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The first row of a query, None without one."""
        with closing(self.rows(select, timeout_s=timeout_s)) as rows:
            return next(rows, None)

    def value(self, select: str, *, timeout_s: float | None = None) -> Any:
        """The only value of a query that gives one row of one column, as its JSON."""
        row = self.row(select, timeout_s=timeout_s)
        return None if row is None else next(iter(row.values()))

    def execute(self, sql: str, *, timeout_s: float | None = None) -> None:
        """Run one or more statements and ignore what they print."""
        for _ in self._answer(sql, timeout_s):
            pass

    @contextmanager
    def transaction(self, mode: str = "") -> Iterator[None]:
        """Commit at the block's end; any error in it ends the session, which rolls it back.

        `mode`: of `begin`, such as "isolation level repeatable read".
        """
        self.execute(f"begin {mode}")
        yield
        self.execute("commit")

    def copy_out(
        self, select: str, *, timeout_s: float | None = None
    ) -> Generator[bytes, None, None]:
        """The lines of `copy (SELECT) to stdout`, in PostgreSQL's text format."""
        yield from self._answer(f"copy (\n{select}\n) to stdout", timeout_s)

    def copy_in(
        self, into: str, rows: Iterable[Sequence[Any]], *, timeout_s: float | None = None
    ) -> None:
        """Copy rows into `into`, "TABLE (COLUMN, ...)"; None is null, all else is its text."""
        lines = ("\t".join(map(_field, row)).encode() for row in rows)
        self.copy_lines(into, lines, timeout_s=timeout_s)

    def copy_lines(
        self, into: str, lines: Iterable[bytes], *, timeout_s: float | None = None
    ) -> None:
        """Copy lines in PostgreSQL's text format, as `copy_out` gives them, into `into`."""
        self._send(f"copy {into} from stdin;\n".encode())
        for line in lines:
            self._send(line + b"\n")
        self._send(b"\\.\n")
        self.execute("select where false", timeout_s=timeout_s)

    def _answer(self, sql: str, timeout_s: float | None) -> Generator[bytes, None, None]:
        self._number += 1
        mark = f"@end-{self._number}".encode()
        self._send(f"{sql.rstrip().removesuffix(';')};\n\\echo {mark.decode()}\n".encode())
        limit = timeout_s or self.statement_s
        end = time.monotonic() + limit if limit else float("inf")
        finished = False
        try:
            while (line := self._line(end)) != mark:
                yield line
            finished = True
        finally:
            if not finished and self._child.poll() is None:
                while self._line(end) != mark:
                    pass

    def _send(self, data: bytes) -> None:
        assert self._child.stdin is not None  # noqa: S101 - it is a pipe
        try:
            self._child.stdin.write(data)
            self._child.stdin.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._failed() from error

    def _line(self, end: float) -> bytes:
        assert self._child.stdout is not None  # noqa: S101 - it is a pipe
        handle = self._child.stdout.fileno()
        start = 0
        while (length := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)  # a line may have many megabytes
            left = min(end - time.monotonic(), 3600.0)
            if left <= 0 or not select.select([handle], [], [], left)[0]:
                raise QueryError("the database did not answer in time", state="57014")
            piece = os.read(handle, _READ_BYTES)
            if not piece:
                raise self._failed()
            self._buffer += piece
        line = bytes(self._buffer[:length])
        del self._buffer[: length + 1]
        return line

    def _failed(self) -> QueryError:
        self._child.wait()
        text = _tail(self._errors)
        match = list(_ERROR.finditer(text))
        last = match[-1] if match else None
        reason = last[2] if last else (text.strip().splitlines() or ["its connection ended"])[-1]
        return QueryError(
            f"the database says: {reason}",
            state=(last[1] or "") if last else "",
            details={"output": text.splitlines()[-8:]},
        )


class Printed:
    """The stdout of a program in a container: its end is the program's success.

    `read` raises a CfError with the last lines of stderr at the end of what a failed program has
    printed, so that nobody takes a part for the whole.
    """

    def __init__(self, server: Server, child: Popen[bytes], errors: IO[bytes], doing: str) -> None:
        self._server = server
        self._child = child
        self._errors = errors
        self._doing = doing

    def read(self, size: int = -1, /) -> bytes:
        assert self._child.stdout is not None  # noqa: S101 - it is a pipe
        data = self._child.stdout.read(size)
        if len(data) < size or size < 0:
            self.check()
        return data

    def check(self) -> None:
        """Wait for the program's end; raises a CfError if it failed."""
        if code := self._child.wait():
            raise _failure(self._server, self._doing, self._errors, code)


@contextmanager
def program(server: Server, *arguments: str, doing: str) -> Iterator[Printed]:
    """The stdout of a program in the container, which is killed there when the block or `cf` ends.

    Raises a CfError with its last lines if it fails.
    """
    words = server.exec(*arguments, script=_UNTIL_CLOSED)
    with (
        tempfile.TemporaryFile() as errors,
        cli.process(*words, doing=doing, errors=errors) as child,
    ):
        printed = Printed(server, child, errors, doing)
        yield printed
        while printed.read(_READ_BYTES):
            pass


@contextmanager
def fed(server: Server, *arguments: str, doing: str) -> Iterator[IO[bytes]]:
    """The stdin of a program in the container; it must take an early end for a failure.

    What it prints is thrown away. Raises a CfError with its last lines if it fails.
    """
    script = f"{_WITH_LOGIN} >/dev/null"
    with tempfile.TemporaryFile() as errors:
        with cli.process(
            *server.exec(*arguments, script=script), doing=doing, errors=errors
        ) as child:
            assert child.stdin is not None  # noqa: S101 - it is a pipe
            try:
                yield child.stdin
                child.stdin.close()
            except BrokenPipeError:
                pass  # it has ended, and its stderr has the reason
            code = child.wait()
        if code:
            raise _failure(server, doing, errors, code)


def _failure(server: Server, doing: str, errors: IO[bytes], code: int) -> CfError:
    """Why a program in the container failed: that has ended, or what the program says."""
    try:
        row = client.find("containers", server.container, "json")
    except CfError:
        return cli.failure(doing, _tail(errors), code=code)
    if row is not None and row["State"]["Running"]:
        return cli.failure(doing, _tail(errors), code=code)
    return QueryError(
        f"{doing}: the container of its database has ended meanwhile",
        hint="`cf status` says why. Then run the same command again.",
        details={"container": server.container, "exit_code": code},
    )


def literal(text: str) -> str:
    """The text as a literal of SQL. Raises ValueError for a NUL, which PostgreSQL cannot store."""
    if "\0" in text:
        raise ValueError("a NUL character cannot be stored")
    return "'" + text.replace("'", "''") + "'"


def _field(value: Any) -> str:
    """A value in the text format of COPY."""
    if value is None:
        return r"\N"
    text = str(value).replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def _tail(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _SHOWN_BYTES))
    return file.read().decode(errors="replace")
