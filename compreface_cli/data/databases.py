"""Several databases on one server: a fresh one takes the place of the instance's, which is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from compreface_cli.docker.postgres import Server, Session, literal

# The database that every server has; to rename another one, nobody may be connected to it.
_HOME, _OTHER_HOME = "postgres", "template1"
_MARK = "_cf_"  # in the names of ours: frs_cf_fresh, frs_cf_20261130t205500z


def fresh_name(server: Server) -> str:
    """The name under which a database is made ready."""
    return f"{server.database}{_MARK}fresh"


def kept_name(server: Server) -> str:
    """A new name for the database that gives way."""
    return f"{server.database}{_MARK}{datetime.now(UTC):%Y%m%dt%H%M%Sz}"


def create_fresh(server: Server) -> Server:
    """An empty database like the server's own one; what an earlier run left of it is removed."""
    name = fresh_name(server)
    with Session(_home(server)) as session:
        session.execute(f"drop database if exists {_quoted(name)}")
        like = session.row(
            "select pg_encoding_to_char(encoding) as encoding, datcollate, datctype"
            f" from pg_database where datname = {literal(server.database)}"
        )
        assert like is not None  # noqa: S101 - `server` answers
        session.execute(
            f"create database {_quoted(name)} template template0"
            f" encoding {literal(like['encoding'])} lc_collate {literal(like['datcollate'])}"
            f" lc_ctype {literal(like['datctype'])}"
        )
    return replace(server, database=name)


def swap(server: Server, successor: str) -> str:
    """Give `successor` the name of the server's database, in one transaction.

    Returns the name that the former one has now. Ends the connections to both.
    """
    former = kept_name(server)
    with Session(_home(server)) as session:
        _disconnect(session, server.database, successor)
        with session.transaction():
            session.execute(
                f"alter database {_quoted(server.database)} rename to {_quoted(former)}"
            )
            session.execute(
                f"alter database {_quoted(successor)} rename to {_quoted(server.database)}"
            )
    return former


def kept(server: Server) -> dict[str, int]:
    """Bytes by name of the databases that gave way to another one, the oldest first."""
    with Session(_home(server)) as session:
        rows = session.rows(
            "select datname as name, pg_database_size(oid) as bytes from pg_database"
            f" where left(datname, {len(server.database + _MARK)})"
            f" = {literal(server.database + _MARK)} order by 1"
        )
        return {str(row["name"]): int(row["bytes"]) for row in rows}


def drop(server: Server, name: str) -> None:
    """Remove a database that `kept` names."""
    with Session(_home(server), statement_s=None) as session:
        _disconnect(session, name)
        session.execute(f"drop database if exists {_quoted(name)}")


def _home(server: Server) -> Server:
    return replace(server, database=_HOME if server.database != _HOME else _OTHER_HOME)


def _disconnect(session: Session, *names: str) -> None:
    wanted = ", ".join(map(literal, names))
    session.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        f" where datname in ({wanted}) and pid <> pg_backend_pid()"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
