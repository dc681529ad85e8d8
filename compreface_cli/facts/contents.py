"""What a database of CompreFace holds: counts of services, subjects, faces and images, schema."""

from __future__ import annotations

from typing import Any

from compreface_cli.docker.postgres import Session

# CompreFace's own twenty faces in every new database; its migrations give the service this id.
DEMO_SERVICE, DEMO_CALCULATOR = 0, "Facenet2018"
DEMO = f"(m.id = {DEMO_SERVICE} and e.calculator = '{DEMO_CALCULATOR}')"
FACES = (
    "public.embedding e join public.subject s on s.id = e.subject_id"
    " join public.model m on m.api_key = s.api_key left join public.app a on a.id = m.app_id"
)
MIGRATION = "cf_migration"  # the schema of our own tables


def has_faces(session: Session) -> bool:
    """Whether the schema of CompreFace since 0.6 is there."""
    return bool(session.value("select to_regclass('public.embedding') is not null as there"))


def by_calculator(session: Session) -> list[dict[str, Any]]:
    """Faces by service and calculator: application, service, service_id, calculator, demo, faces,
    subjects, without_image, values (the length of one of the vectors).

    Other vectors are not read: they are most of the database.
    """
    return list(
        session.rows(
            "select a.name as application, m.name as service, m.id as service_id, e.calculator,"
            f" bool_and({DEMO}) as demo, count(*) as faces, count(distinct s.id) as subjects,"
            " count(*) filter (where e.img_id is null) as without_image,"
            " (select cardinality(v.embedding) from public.embedding v"
            f" where v.id = min(e.id::text)::uuid) as values from {FACES}"
            " group by a.name, m.name, m.id, e.calculator order by a.name, m.name, m.id, 4"
        )
    )


def by_subject(session: Session) -> list[dict[str, Any]]:
    """The same by subject, without CompreFace's demo faces; for mixed collections."""
    return list(
        session.rows(
            "select a.name as application, m.name as service, m.id as service_id,"
            " s.id as subject_id, s.subject_name as subject, e.calculator, count(*) as faces,"
            f" count(*) filter (where e.img_id is null) as without_image from {FACES}"
            f" where not {DEMO} group by 1, 2, 3, 4, 5, 6 order by 1, 2, 3, 5, 6"
        )
    )


def images(session: Session) -> dict[str, Any]:
    """Images: count and bytes; orphans (no face names them) and their bytes.

    An image that only a face in the schema `cf_migration` names is not an orphan.
    """
    figures = "count(*) as {0}, coalesce(sum(length(i.content)), 0) as {1} from public.img i"
    all_ = session.row(f"select {figures.format('count', 'bytes')}") or {}
    # A condition on the rows, of which PostgreSQL makes one join; as a filter it takes minutes.
    where = f" where {orphaned(session)}"
    orphans = session.row(f"select {figures.format('orphans', 'orphan_bytes')}{where}") or {}
    return {**all_, **orphans}


def orphaned(session: Session) -> str:
    """The condition on `public.img i` under which no face names the image."""
    condition = "not exists (select from public.embedding e where e.img_id = i.id)"
    table = f"{MIGRATION}.kept_out"
    if session.value(f"select to_regclass('{table}') is not null as there"):
        condition += f" and not exists (select from {table} k where k.img_id = i.id)"
    return condition


def subjects(session: Session) -> int:
    """The number of subjects, without CompreFace's demo subjects."""
    return int(
        session.value(
            "select count(*) from public.subject s join public.model m on m.api_key = s.api_key"
            f" where not exists (select from public.embedding e where e.subject_id = s.id"
            f" and {DEMO})"
        )
    )


def change_sets(session: Session) -> list[str]:
    """The ids of the schema's change sets, in the order in which Liquibase carried them out."""
    there = session.value("select to_regclass('public.databasechangelog') is not null as there")
    if not there:
        return []
    query = "select id from public.databasechangelog order by orderexecuted, id"
    return [str(row["id"]) for row in session.rows(query)]
