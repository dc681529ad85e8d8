"""`cf data backup`: writes the database of an instance or volume, as it is now, into one file."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from compreface_cli import __version__
from compreface_cli.builds import builds
from compreface_cli.config.settings_table import BY_KEY
from compreface_cli.config.textfile import read_bytes
from compreface_cli.data import archive, backup_file, manifest, row_counts
from compreface_cli.data.encryption import Sink
from compreface_cli.data.manifest import ChangeSets, Manifest, Postgres
from compreface_cli.data.plain_tar import BrokenArchive
from compreface_cli.data.protection import PLAIN, Protection
from compreface_cli.docker import postgres
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.errors import CfError
from compreface_cli.facts import contents
from compreface_cli.facts.places import Place
from compreface_cli.instance.records import now
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

_LOCK_WAIT = "60s"  # for a table whose schema is being changed
_LEVEL = "1"  # of gzip: photographs do not shrink, and vectors little more with more time
_SHARE = 1.1  # of a database's size, in its backup: 100 000 vectors of 512 with 500 MB of images
_NOT_SET = ("default", "build ", "the full stack")  # origins of values that nobody has chosen


@dataclass(frozen=True, slots=True)
class BackupMade:
    """A backup that has been written; `counts`: rows of each table, faces of each calculator."""

    path: Path | None  # None: it went to a stream
    bytes: int
    sha256: str  # of the file
    manifest: Manifest

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows by table, `public.embedding`."""
        return self.manifest.tables


def backup(
    place: Place,
    out: Output,
    *,
    target: Path | None = None,
    force: bool = False,
    server: Server | None = None,
    protection: Protection = PLAIN,
) -> BackupMade:
    """Write a backup of the place to `target`, whole or not at all, while it may be in use.

    Without `target` a new file in `<data home>/backups/NAME`. `server`: of the place, if it is
    open already. The caller holds the instance's lock. Raises a CfError for a target that exists
    (unless `force`), for a full disk, and as the place does; then nothing is left.
    """
    if target is None:
        target = backup_file.default(place.name, protection.suffix)
        backup_file.private(target.parent)
    backup_file.refuse(target, force=force)
    with _opened(place, server) as opened, _dump(place, opened) as (described, pieces):
        needed = round(described.database_bytes * _SHARE)
        backup_file.need_room(target.parent, needed, f"the backup of '{place.name}'")
        with backup_file.written(target, force=force) as stream:
            sink = _Counted(stream)
            _copy(pieces, sink, place, described, protection, out)
    return BackupMade(target, sink.size, sink.digest.hexdigest(), described)


def stream(
    place: Place,
    out: Output,
    target: BinaryIO,
    *,
    server: Server | None = None,
    protection: Protection = PLAIN,
) -> BackupMade:
    """Write a backup to a stream; raises BrokenPipeError and OSError as that does."""
    sink = _Counted(target)
    with _opened(place, server) as opened, _dump(place, opened) as (described, pieces):
        _copy(pieces, sink, place, described, protection, out)
        target.flush()
    return BackupMade(None, sink.size, sink.digest.hexdigest(), described)


class _Counted:
    """Writes, and counts and hashes what it writes."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self.size, self.digest = 0, hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        self._target.write(data)
        self.size += len(data)
        self.digest.update(data)


@contextmanager
def _opened(place: Place, server: Server | None) -> Iterator[Server]:
    if server is not None:
        yield server
        return
    with place.opened() as opened:
        yield opened


@contextmanager
def _dump(place: Place, server: Server) -> Iterator[tuple[Manifest, Iterator[bytes]]]:
    """The manifest and the archive, both of one snapshot that is held during the block."""
    with ExitStack() as stack:
        session = stack.enter_context(Session(server))
        # Not `transaction`: there is nothing to commit, and its end is the session's.
        session.execute("begin isolation level repeatable read read only")
        described = _described(place, server, session)
        snapshot = session.value("select pg_export_snapshot() as id")
        dump = stack.enter_context(
            postgres.program(
                server,
                *("pg_dump", "--format=custom", f"--compress={_LEVEL}", "--no-password"),
                *(f"--snapshot={snapshot}", f"--lock-wait-timeout={_LOCK_WAIT}"),
                doing=f"dump the database of '{place.name}'",
            )
        )
        try:
            text = manifest.text_of(described)
            yield described, archive.Writer(text, _own_build(place), dump).pieces()
        except BrokenArchive as error:
            raise _unfit(place.name, error) from error


def _unfit(name: str, error: BrokenArchive) -> CfError:
    return CfError(f"'{name}' cannot be backed up: {error}")


def _copy(
    pieces: Iterator[bytes],
    target: Sink,
    place: Place,
    described: Manifest,
    protection: Protection,
    out: Output,
) -> None:
    label, total = f"backing up '{place.name}'", float(described.database_bytes) or None
    with Heartbeat(out).progress(label, total) as advance:

        def counted() -> Iterator[bytes]:
            for piece in pieces:
                yield piece
                advance(len(piece))

        protection.write(counted(), target)


def _described(place: Place, server: Server, session: Session) -> Manifest:
    record = place.record
    plan = record.plan if record else {}
    ids = contents.change_sets(session)
    calculators: dict[str, int] = {}
    for row in contents.by_calculator(session) if contents.has_faces(session) else ():
        if not row["demo"]:
            faces = calculators.get(row["calculator"], 0) + int(row["faces"])
            calculators[row["calculator"]] = faces
    data: Mapping[str, Any] = (record.deployment.get("data") or {}) if record else {}
    images = {
        key.removesuffix("_image"): str(value)
        for key, value in (plan.get("stack") or {}).items()
        if key.endswith("_image")
    } or ({"postgres": place.image} if place.image else {})
    if data.get("tag"):
        images["core"] = str(data["tag"])
    version = "select current_setting('server_version_num')::int as v"
    return Manifest(
        format=manifest.FORMAT,
        cf=__version__,
        created=now(),
        instance=place.instance,
        volume=place.volume,
        build=record.build if record else "",
        calculator=record.calculator if record else "",
        calculators=calculators,
        tables=row_counts.read(session),
        change_sets=ChangeSets(
            count=len(ids), sha256=hashlib.sha256("\n".join(ids).encode()).hexdigest()
        ),
        postgres=Postgres(
            version=int(session.value(version)), user=server.user, database=server.database
        ),
        database_bytes=int(session.value("select pg_database_size(current_database()) as size")),
        images=images,
        settings=_settings(plan),
    )


def _settings(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that somebody has chosen for the instance, by key; never a secret."""
    chosen = {}
    stack, limits = plan.get("stack") or {}, plan.get("engine_limits") or {}
    for key, origin in (plan.get("origins") or {}).items():
        row = BY_KEY.get(key)
        if row is None or row.secret or str(origin).startswith(_NOT_SET):
            continue
        value = plan.get(key, stack.get(key, limits.get(row.env)))
        if value is not None:
            chosen[key] = value
    return chosen


def _own_build(place: Place) -> bytes | None:
    """The file of the instance's build, unless it came with cf or is no longer there."""
    record = place.record
    if record is None or not record.build:
        return None
    where = (record.plan.get("origins") or {}).get("build") or record.build
    try:
        origin, path = builds.find(str(where) if str(where).startswith("/") else record.build)
        return None if origin == "bundled" else read_bytes(path, str(path))
    except CfError:
        return None


def document(made: BackupMade) -> dict[str, Any]:
    """A backup as a JSON document."""
    return {
        "path": str(made.path.absolute()) if made.path else None,
        "bytes": made.bytes,
        "sha256": made.sha256,
        "manifest": made.manifest.model_dump(mode="json"),
    }


def lines(made: BackupMade, name: str) -> list[str]:
    """What is printed about a backup."""
    faces = sum(made.manifest.calculators.values())
    by = ", ".join(f"{count} by {who}" for who, count in made.manifest.calculators.items())
    text = [
        f"'{name}' is in {made.path} ({made.bytes} bytes)"
        if made.path
        else f"'{name}' was written ({made.bytes} bytes)",
        f"  SHA-256 {made.sha256}",
        f"  faces: {faces}{f' ({by})' if by else ''}",
    ]
    if made.path:
        with_key = {".age": " --identity FILE"}.get(made.path.suffix, "")
        check = f"cf data restore {shlex.quote(str(made.path))}{with_key} --dry-run"
        text.append(f"To check it: {check}")
    return text
