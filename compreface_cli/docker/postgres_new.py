"""A new database: a volume that the image's own start initialises, served without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from compreface_cli.docker import cli, client, postgres
from compreface_cli.docker.postgres import Server
from compreface_cli.errors import CfError

# After the first signal an initialisation ends, and a server once its sessions have ended.
_NEW = """
exec 3<&0
read -r go <&3 || exit 0
"$@" 3<&- </dev/null >&2 & server=$!
trap 'kill -TERM "$server"; sleep 1; kill -INT "$server"' TERM INT
(cat <&3 >/dev/null; kill -TERM "$server"; sleep 1; kill -INT "$server") 2>/dev/null &
while kill -0 "$server" 2>/dev/null; do wait "$server"; code=$?; done
exit "$code"
"""
# What is loaded in the transaction that makes the tables needs no write-ahead log.
_QUICK = ("-c", "wal_level=minimal", "-c", "max_wal_senders=0", "-c", "max_wal_size=4GB")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")


def major_of(image: str) -> int:
    """The major version of the PostgreSQL in a local image; raises CfError if it has none."""
    doing = f"look which PostgreSQL {image} has"
    arguments = ("run", "--rm", "--pull=never", "--network=none", "--entrypoint=postgres")
    text = cli.run(*arguments, image, "--version", doing=doing)
    found = _VERSION.search(text)
    if found is None:
        raise CfError(f"{doing}: it says {text[:200]!r}")
    return int(found[1])


@contextmanager
def initialised(
    volume: str, image: str, *, user: str, database: str, password: str
) -> Iterator[Server]:
    """A temporary server on an empty volume, with this superuser and this database.

    It shuts down at the end of the block, and also when `cf` is killed. Raises as
    `postgres.at_rest`.
    """
    row = client.get("images", image, "json", doing=f"look at {image}")["Config"]
    command = [*(row.get("Entrypoint") or ()), *(row.get("Cmd") or ("postgres",))]
    variables = {
        "POSTGRES_USER": user,
        "POSTGRES_DB": database,
        "POSTGRES_PASSWORD": password,
        "PGDATA": postgres.DATA,
    }
    with postgres.temporary(
        volume,
        image,
        ("-c", _NEW, "sh", *command, *_QUICK),
        doing=f"initialise the volume {volume}",
        accepts=lambda name: _listens(Server(name, user, database)),
        options=[f"--env={name}" for name in variables],
        environment=variables,
    ) as name:
        yield Server(name, user, database)


def _listens(server: Server) -> bool:
    """Whether it listens to the network, which it does once it is initialised."""
    try:
        cli.run(
            *server.exec("pg_isready", "-q", "-h", "127.0.0.1"),
            doing="ask the database",
            timeout_s=20,
        )
    except CfError:
        return False
    return True
