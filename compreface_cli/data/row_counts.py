"""The number of rows in each table of a database: by a session, or as SQL that refuses others."""

from __future__ import annotations

import json
from collections.abc import Mapping

from compreface_cli.docker.postgres import Session, literal

_COUNT_S = 3600.0  # counting reads every table
# Without those of PostgreSQL itself, and of extensions, which make them anew.
_TABLES = """
select format('%I.%I', n.nspname, c.relname) as name from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind = 'r' and c.relpersistence <> 't'
and n.nspname not in ('pg_catalog', 'information_schema') and n.nspname not like 'pg\\_%'
and not exists (select from pg_catalog.pg_depend d where d.objid = c.oid
  and d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass and d.deptype = 'e')
order by 1"""


def read(session: Session) -> dict[str, int]:
    """Rows by the table's name as SQL writes it, `public.embedding`."""
    names = [str(row["name"]) for row in session.rows(_TABLES)]
    if not names:
        return {}
    counts = [f"select {literal(name)} as name, count(*) as rows from {name}" for name in names]
    found = session.rows("\nunion all ".join(counts), timeout_s=_COUNT_S)
    return {str(row["name"]): int(row["rows"]) for row in found}


def refusing(rows: Mapping[str, int]) -> str:
    """A statement that fails in a database whose tables or rows are not these."""
    wanted = literal(json.dumps(dict(rows)))
    return f"""
do $cf_rows$
declare t record; n bigint; wanted jsonb := {wanted}::jsonb; seen jsonb := '{{}}'; differing text;
begin
  for t in {_TABLES} loop
    execute 'select count(*) from ' || t.name into n;
    seen := seen || jsonb_build_object(t.name, n);
  end loop;
  select string_agg(coalesce(w.key, s.key) || ': ' || coalesce(s.value::text, 'no table')
    || ' instead of ' || coalesce(w.value::text, 'no table'), ', ')
  into differing from jsonb_each(wanted) w full join jsonb_each(seen) s on s.key = w.key
  where w.value is distinct from s.value;
  if differing is not null then raise exception 'rows differ: %', left(differing, 2000); end if;
end
$cf_rows$;
"""
