"""`cf data clean`: removes the images of a database that no face names any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from compreface_cli.cleanup import interruptible
from compreface_cli.data import databases
from compreface_cli.deploy import running
from compreface_cli.docker.postgres import Session
from compreface_cli.errors import ConfigurationError, UsageError
from compreface_cli.facts import contents, places
from compreface_cli.removal.things import size_words
from compreface_cli.terminal.output import Output

_NO_LIMIT_S = 3600.0  # for statements that read or delete many images
# The formats of images, by their first bytes in hexadecimal digits.
_FORMAT = """
case when head like 'ffd8ff%' then 'JPEG' when head like '89504e47%' then 'PNG'
 when head like '47494638%' then 'GIF' when head like '52494646________57454250%' then 'WebP'
 when head like '424d%' then 'BMP' when head like '49492a00%' or head like '4d4d002a%' then 'TIFF'
 else 'other' end
"""


@dataclass(frozen=True, slots=True)
class Orphans:
    """Images of one format that no face names; `bytes` as they are stored."""

    format: str
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was shown, and how many of these were removed."""

    instance: str
    change: str  # "nothing", "dry run", "removed"
    orphans: tuple[Orphans, ...]
    images: int  # all that the database holds, these included
    removed: int = 0
    databases: Mapping[str, int] = field(default_factory=dict)  # kept by a rollback: bytes

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def clean(name: str, out: Output, *, yes: bool = False, dry_run: bool = False) -> Cleaned:
    """Show the orphaned images of an instance, and remove those very ones once that is confirmed.

    Works beside a running api: it stores an image and the face that names it in one transaction, so
    that an image which is seen at all is seen with its face. Each is looked at again when it is
    removed, all in one transaction. Raises UsageError without a confirmation.
    """
    name = running.pick(name, only_running=False).name
    with interruptible(), running.instances().lock(name, f"cf data clean {name}"):
        place = places.place_of(name)
        with place.opened() as server, Session(server, statement_s=_NO_LIMIT_S) as session:
            _refuse_without_faces(name, there=contents.has_faces(session))
            with out.waiting("Looking for images that no face names"):
                orphans, images = _found(session)
                kept = databases.kept(server)
            count = sum(each.count for each in orphans)
            seen = Cleaned(name, "nothing", orphans, images, databases=kept)
            if not (count or kept) or dry_run:
                return replace(seen, change="dry run") if count or kept else seen
            for line in lines(seen):
                out.note(line)
            _confirm(yes, out)
            with out.waiting("Removing these"):
                removed = _removed(session) if count else 0
                for database in kept:
                    databases.drop(server, database)
            return replace(seen, change="removed", removed=removed)


def lines(seen: Cleaned) -> list[str]:
    """For users: how many images, of what format and size, and databases of before."""
    return [
        *(_of_images(seen.orphans, seen.images) if seen.orphans else []),
        *(
            f"database of before a rollback: {database} ({size_words(size)})"
            for database, size in seen.databases.items()
        ),
    ]


def _of_images(orphans: tuple[Orphans, ...], images: int) -> list[str]:
    count = sum(each.count for each in orphans)
    size = size_words(sum(each.bytes for each in orphans))
    return [
        f"{count} of {images} images belong to no face ({size}):",
        *(f"  {each.count} {each.format}, {size_words(each.bytes)}" for each in orphans),
    ]


def _refuse_without_faces(name: str, *, there: bool) -> None:
    if not there:
        raise ConfigurationError(
            f"the database of '{name}' has no table of faces",
            hint="`cf data list` shows what is stored.",
        )


def _found(session: Session) -> tuple[tuple[Orphans, ...], int]:
    """The orphans, whose ids a table of this session keeps, and the number of all images."""
    session.execute(
        "create temporary table orphans as select i.id, length(i.content)::bigint as bytes,"
        " encode(substring(i.content from 1 for 12), 'hex') as head from public.img i"
        f" where {contents.orphaned(session)}"
    )
    rows = session.rows(
        f"select {_FORMAT} as format, count(*) as count, sum(bytes)::bigint as bytes from orphans"
        " group by 1 order by 3 desc"
    )
    orphans = tuple(Orphans(**row) for row in rows)
    return orphans, int(session.value("select count(*) from public.img"))


def _removed(session: Session) -> int:
    """Remove those that still belong to no face; how many they were."""
    still = contents.orphaned(session)
    with session.transaction():
        session.execute(f"delete from public.img i using orphans o where i.id = o.id and {still}")
        left = session.value("select count(*) from orphans o join public.img i on i.id = o.id")
        total = session.value("select count(*) from orphans")
    # Else their bytes stay in the files until PostgreSQL's own vacuum gets to them.
    session.execute("vacuum public.img")
    return int(total) - int(left)


def _confirm(yes: bool, out: Output) -> None:
    if yes:
        return
    typed = out.ask("Remove these? [y/N] ")
    if typed is None:
        raise UsageError(
            "removing what is shown needs a confirmation",
            hint="Add --yes. To see what would be removed: --dry-run",
        )
    if typed.lower() not in ("y", "yes"):
        raise UsageError("nothing was removed")
