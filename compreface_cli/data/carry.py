"""Carries what was added since a backup from a newer database over to the restored one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compreface_cli.docker.postgres import Server, Session, literal
from compreface_cli.errors import CfError

FACES = ("app", "model", "subject", "img", "embedding")
_BY_ROW = ("img", "embedding")  # large: only what differs is copied
_FIXED = ("img",)  # its rows never change
_SCHEMA = ("databasechangelog", "databasechangeloglock")
_NO_LIMIT_S = 86_400.0

Columns = Sequence[tuple[str, str]]  # name and type, in order


@dataclass(frozen=True, slots=True)
class Carried:
    """What became of the newer database's rows; `reason`: why none was carried over."""

    added: int = 0  # embeddings
    removed: int = 0
    left: tuple[str, ...] = ()  # tables that keep what the backup has
    reason: str = ""


def carry(newer: Server, restored: Server) -> Carried:
    """Make the restored database's rows those of the newer one, in one transaction.

    Nobody else may be connected to the newer one. A table is carried over if the newer one has all
    of its columns with the same types; if that does not hold for a table that faces stand in,
    nothing is, and the result says why.
    """
    with Session(newer, statement_s=_NO_LIMIT_S) as source:
        with Session(restored, statement_s=_NO_LIMIT_S) as target:
            wanted, there = _tables(target), _tables(source)
            fitting = {
                name: columns
                for name, columns in wanted.items()
                if name not in _SCHEMA and set(columns) <= set(there.get(name, ()))
            }
            changed = [name for name in FACES if name not in fitting]
            if changed:
                names = " and ".join(changed)
                return Carried(reason=f"the newer version has changed the columns of {names}")
            before = _count(source), _count(target)
            try:
                with target.transaction():
                    gone, come = _carried(source, target, fitting)
            except CfError as error:
                return Carried(reason=error.message)
            assert before[0] == before[1] + come - gone  # noqa: S101
    left = sorted(set(wanted) - set(fitting) - set(_SCHEMA))
    return Carried(come, gone, tuple(left))


def added_since(newer: Session, known: int) -> int:
    """How many embeddings more a database has than the number that is known of a backup."""
    return _count(newer) - known


def _carried(source: Session, target: Session, tables: Mapping[str, Columns]) -> tuple[int, int]:
    """Embeddings that were removed and added."""
    # Rows come table by table; that each reference is fulfilled is looked at afterwards.
    target.execute("set local session_replication_role = replica")
    gone = come = 0
    for name, columns in tables.items():
        names = ", ".join(_quoted(column) for column, _ in columns)
        table = f"public.{_quoted(name)}"
        if name in _BY_ROW:
            removed, added = _differing(source, target, name, names)
            if name == "embedding":
                gone, come = removed, added
        else:
            target.execute(f"delete from {table}")
            rows = source.copy_out(f"select {names} from {table}")
            target.copy_lines(f"{table} ({names})", rows)
    _sequences(source, target)
    refuse_loose_ends(target)
    return gone, come


def _differing(source: Session, target: Session, name: str, names: str) -> tuple[int, int]:
    """Copy the rows of a table that the target has not, and remove those that it alone has."""
    table = f"public.{_quoted(name)}"
    state = "''" if name in _FIXED else f"md5(row({names})::text)"
    known, gone = f"cf_known_{name}", f"cf_gone_{name}"
    source.execute(f"create temporary table {known} (id uuid primary key, state text)")
    source.copy_lines(f"{known} (id, state)", target.copy_out(f"select id, {state} from {table}"))
    target.execute(f"create temporary table {gone} (id uuid) on commit drop")
    there = f"(select id, {state} as state from {table})"
    target.copy_lines(
        f"{gone} (id)",
        source.copy_out(
            f"select k.id from {known} k left join {there} t on t.id = k.id"
            " where t.id is null or t.state <> k.state"
        ),
    )
    removed = int(target.value(f"select count(*) from {gone}"))
    target.execute(f"delete from {table} t using {gone} g where g.id = t.id")
    before = int(target.value(f"select count(*) from {table}"))
    target.copy_lines(
        f"{table} ({names})",
        source.copy_out(
            f"select {names} from {table} where id in (select t.id from {there} t"
            f" left join {known} k on k.id = t.id where k.id is null or t.state <> k.state)"
        ),
    )
    return removed, int(target.value(f"select count(*) from {table}")) - before


def _tables(session: Session) -> dict[str, Columns]:
    rows = session.rows(
        "select c.relname as name, a.attname as column,"
        " format_type(a.atttypid, a.atttypmod) as type"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where n.nspname = 'public' and c.relkind = 'r' order by c.relname, a.attnum"
    )
    tables: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        tables.setdefault(str(row["name"]), []).append((str(row["column"]), str(row["type"])))
    return dict(tables)


def _count(session: Session) -> int:
    return int(session.value("select count(*) from public.embedding"))


def _sequences(source: Session, target: Session) -> None:
    """Continue each sequence of the target where that of the source is."""
    query = (
        "select c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = 'public' and c.relkind = 'S'"
    )
    there = {str(row["name"]) for row in source.rows(query)}
    for name in [str(row["name"]) for row in target.rows(query)]:
        if name in there:
            quoted = f"public.{_quoted(name)}"
            row = source.row(f"select last_value, is_called from {quoted}") or {}
            target.execute(
                f"select setval({literal(quoted)}, {int(row['last_value'])},"
                f" {'true' if row['is_called'] else 'false'})"
            )


def refuse_loose_ends(target: Session) -> None:
    """Raise CfError if a row refers to another one that is not there."""
    keys = target.rows(
        "select conrelid::regclass::text as own, confrelid::regclass::text as other,"
        " (select string_agg(format('o.%I = t.%I', f.attname, a.attname), ' and ')"
        " from unnest(conkey, confkey) as k(own, other)"
        " join pg_attribute a on a.attrelid = conrelid and a.attnum = k.own"
        " join pg_attribute f on f.attrelid = confrelid and f.attnum = k.other) as same,"
        " (select string_agg(format('t.%I is not null', a.attname), ' and ')"
        " from unnest(conkey) as k(own)"
        " join pg_attribute a on a.attrelid = conrelid and a.attnum = k.own) as given"
        " from pg_constraint where contype = 'f' and connamespace = 'public'::regnamespace"
    )
    for key in list(keys):
        loose = target.value(
            f"select count(*) from {key['own']} t where {key['given']}"
            f" and not exists (select from {key['other']} o where {key['same']})"
        )
        if loose:
            raise CfError(f"{loose} rows of {key['own']} refer to rows that are not there")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
