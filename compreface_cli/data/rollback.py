"""`cf rollback`: back to the versions before the last upgrade, with the faces added since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli.checks import schema
from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.data import api_check, databases, manifest, put_back, upgrade
from compreface_cli.data.api_check import Recognised
from compreface_cli.data.archive import Reader
from compreface_cli.data.backup import backup
from compreface_cli.data.upgrade import Step, Upgraded
from compreface_cli.deploy import running, same_settings, up, versions
from compreface_cli.deploy.run_record import RunRecord
from compreface_cli.docker import belongings, image
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.errors import CfError, ConfigurationError, DataRefusedError
from compreface_cli.facts import places
from compreface_cli.facts.places import Place
from compreface_cli.instance import history
from compreface_cli.instance.history import Versions
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output


@dataclass
class _Change:
    """What a rollback adds to a start: the backup of before in place, and a check after."""

    command: str
    record: Record
    images: Mapping[str, str]
    target: Versions
    replaces_data: bool
    out: Output
    limit_s: float
    backup: str = ""
    recognised: Recognised | None = None
    put_back: put_back.PutBack | None = None

    @property
    def place(self) -> Place:
        return places.of_record(self.record)

    def begin(self, record: RunRecord, undo: CleanUp) -> None:
        """Back the present database up, then restore the one of before if the schema needs it."""
        with self.place.opened() as server:
            self.backup = str(backup(self.place, self.out, server=server).path)
        record.backed_up(self.backup, rollback=True)
        if not self.replaces_data:
            return
        record.touches(("fe", "api", "admin"))
        put_back.stop_services(running.deployment(self.record), self.out)
        undo.push("the database", self._data_back)
        with self.place.opened() as server:
            self.put_back = put_back.put_back(server, Path(self.target.backup), self.out)

    def check(self, new: Deployment) -> None:
        """Have the api recognise a stored face."""
        self.recognised = upgrade.recognise(
            self.place, new, self.record.calculator, self.limit_s, self.out
        )

    def _data_back(self) -> None:
        """The database of the newer version again, if the restored one took its place."""
        if self.put_back is None:
            return
        put_back.stop_services(running.deployment(self.record), self.out)
        with self.place.opened() as server:
            databases.swap(server, self.put_back.kept)


def rollback(
    name: str,
    out: Output,
    *,
    restore_backup: bool = False,
    dry_run: bool = False,
    timeout_s: float | None = None,
) -> Upgraded:
    """Give the instance the versions that it had before its last upgrade.

    Where the newer version has changed the schema that needs `restore_backup`: the backup of before
    takes the place of the database, and what was added since is carried over. Raises
    ConfigurationError without an earlier version, DataRefusedError for a schema that it does not
    know.
    """
    command = f"cf rollback {name}" + (" --restore-backup" if restore_backup else "")
    with interruptible(), running.instances().lock(name, command):
        running.refuse_swarm(running.pick(name, only_running=False), command)
        record = upgrade.ready(name, out, dry_run=dry_run)
        target = _target(record)
        plan, images = _wanted(record, target, out)
        now = {service: str(record.plan["stack"][f"{service}_image"]) for service in images}
        now["core"] = str(record.plan["image"])
        steps = tuple(
            Step(service, now[service], named)
            for service, named in {**images, "core": plan.image}.items()
            if now[service] != named
        )
        replaces = _replaces_data(record, target, restore_backup, out)
        limit_s = timeout_s or api_check.LIMIT_S
        pinned = {f"{service}_image": named for service, named in images.items()}
        change = _Change(command, record, pinned, target, replaces, out, limit_s)
        options = Options(dry_run=dry_run, timeout_s=timeout_s)
        if dry_run:
            return upgrade.foreseen(name, steps, up.dry_run(plan, options, out, change))
        with upgrade.said_if_back(name):
            result = up.under_lock(plan, options, out, change=change)
        if result.change == "already running":
            return Upgraded(name, "nothing", steps, result)
        _forget_newer(name)
        upgrade.forget_engines(name)
        done = Upgraded(name, "rolled back", steps, result, change.backup, change.recognised)
        return replace(done, put_back=change.put_back)


def _target(record: Record) -> Versions:
    """The versions before the last upgrade."""
    known = history.of(record)
    if len(known) < 2:
        raise ConfigurationError(
            f"'{record.name}' has run no other versions than these",
            hint=f"`cf upgrade {record.name}` gives it newer ones.",
        )
    return known[-2]


def _wanted(record: Record, target: Versions, out: Output) -> tuple[Plan, dict[str, str]]:
    """The plan of these versions, with the engine of then if its image is still here."""
    plan = same_settings.as_it_was(replace(record, plan=target.plan, build=target.build), out)
    images = {service: target.images[service] for service in versions.SERVICES}
    plan = versions.with_images(plan, images)
    engine = target.ids.get("core", "")
    if engine == (record.deployment.get("data") or {}).get("image"):
        return replace(plan, image=record.plan["image"], origins=_of_image(plan, record)), images
    kept = belongings.kept_engine(record.name, engine)
    if image.find(kept) is None:
        out.warning("the engine's image of then is gone; the present engine stays")
        return replace(plan, image=record.plan["image"], origins=_of_image(plan, record)), images
    return replace(plan, image=kept, origins={**plan.origins, "image": "flag --image"}), images


def _of_image(plan: Plan, record: Record) -> dict[str, str]:
    """The origins with that of the present image."""
    return {**plan.origins, "image": str(record.plan["origins"].get("image", "default"))}


def _replaces_data(record: Record, target: Versions, allowed: bool, out: Output) -> bool:
    """Whether the schema is newer than these versions know; raises unless that is `allowed`."""
    with places.of_record(record).opened() as server:
        changes = put_back.change_sets(server)
        known = frozenset(target.schema) if target.schema is not None else None
        beyond = schema.beyond(target.images["admin"], changes, known) or []
        if not beyond:
            return False
        archive = Path(target.backup) if target.backup else None
        there = refuse_without_backup(record.name, archive)
        since = faces_since(server, there)
    if not allowed:
        raise refused(record.name, beyond, since, str(there))
    out.note(f"{since} faces more than in the backup of before, to be carried over")
    return True


def faces_since(server: Server, archive: Path) -> int:
    """How many embeddings more the database has than the backup; less than 0: fewer."""
    with archive.open("rb") as stream:
        then = manifest.parse(Reader(stream).manifest).tables.get("public.embedding", 0)
    with Session(server) as session:
        return int(session.value("select count(*) from public.embedding")) - then


def refuse_without_backup(name: str, archive: Path | None) -> Path:
    """The backup that a rollback needs; raises CfError where it is not there."""
    if archive is None or not archive.is_file():
        raise CfError(
            f"the newer version has changed the schema of '{name}', and the backup of before is "
            f"not there{f': {archive}' if archive else ''}",
            hint="Put it back in its place, or restore another one: cf data restore FILE "
            f"--instance {name}-restored",
            details={"backup": str(archive or "")},
        )
    return archive


def refused(name: str, beyond: list[str], since: int, archive: str) -> DataRefusedError:
    """The error for a rollback across a change of the schema that was not asked for."""
    return DataRefusedError(
        f"the newer version has changed the schema of '{name}', which the older one does not know "
        f"({', '.join(beyond[:3])}). The database has {since} faces more than the backup of before",
        hint=f"To restore the backup of before and carry over what was added since: cf rollback "
        f"{name} --restore-backup. It is {archive}",
        details={"change_sets": beyond, "faces_since": since, "backup": archive},
    )


def _forget_newer(name: str) -> None:
    """Take the versions that were left out of the history, so that a rollback is no upgrade."""
    store = running.instances()
    record = store.load(name)
    if record is not None and len(known := history.of(record)) >= 3:
        store.save(history.with_entries(record, [*known[:-3], known[-1]]))
