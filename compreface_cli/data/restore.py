"""`cf data restore`: makes an instance with the database of a backup, or nothing at all."""

from __future__ import annotations

import os
import secrets
import shlex
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.config import paths, settings
from compreface_cli.config.settings import Settings
from compreface_cli.data import backup_file, backup_source, restore_plan, row_counts
from compreface_cli.data.backup_source import Backup, Unlock
from compreface_cli.data.manifest import Manifest
from compreface_cli.deploy import restoring, running, up
from compreface_cli.docker import cli, client, image, postgres, postgres_new
from compreface_cli.docker.labels import (
    LABEL_CALCULATOR,
    LABEL_INSTANCE,
    LABEL_RESTORE,
    PROJECT,
    VOLUME,
)
from compreface_cli.docker.postgres import Server, Session
from compreface_cli.errors import CfError, ConflictError, DataRefusedError, UsageError
from compreface_cli.facts.places import COMPOSE_VOLUME
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import Plan
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.project.targets.templating import env_text
from compreface_cli.project.writer import read_env
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

_ROWS = "/tmp/cf-rows.sql"  # noqa: S108 - inside the temporary container
_FAILED = "/tmp/cf-failed"  # noqa: S108
# One transaction: whatever ends it early leaves no `commit`. pg_restore writes to a file's name,
# since `-f -` is a file called "-" before PostgreSQL 12.
_LOAD = f"""
{{ echo 'begin;'
  if pg_restore --no-owner --no-privileges --file=/dev/stdout
  then cat {_ROWS}; echo 'commit;'
  else : > {_FAILED}
  fi
}} | psql -X -q -w -v ON_ERROR_STOP=1 >/dev/null && [ ! -e {_FAILED} ]
"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored, or with a dry run would be; `instance` is "" if none was named."""

    manifest: Manifest
    sha256: str
    bytes: int
    instance: str
    plan: Plan | None = None
    record: Record | None = None  # None: a dry run
    build: Path | None = None  # the build file that was kept with it
    differing: Sequence[str] = ()  # settings that it had and that are others here

    @property
    def next_command(self) -> str:
        """The command that starts the restored instance."""
        return running.start_command(self.record) if self.record else ""

    def lines(self, *, started: bool = False) -> list[str]:
        """What is printed about it."""
        known = self.manifest
        faces = ", ".join(f"{count} faces by {who}" for who, count in known.calculators.items())
        version = f"{known.postgres.version // 10000}.{known.postgres.version % 10000}"
        of = f"'{known.instance}'" if known.instance else f"the volume {known.volume}"
        text = [
            f"{of} as of {known.created}: {faces or 'no faces'}",
            f"  build {known.build or 'not known'}, PostgreSQL {version}, cf {known.cf}",
            f"  {sum(known.tables.values())} rows in {len(known.tables)} tables",
        ]
        if self.record is None:
            return ["The backup is whole.", *text]
        text.insert(0, f"'{self.instance}' is restored, and every table has the rows that it had.")
        if self.build:
            text.append(f"Its build is kept in {self.build}")
        if self.differing:
            text.append("It ran with other settings than those of here; to keep them, set:")
            text += [f"  {line}" for line in self.differing]
        if not started:
            text.append(f"Start it: {self.next_command}")
        return text


def restore(
    source: Path | None,
    instance: str | None,
    out: Output,
    *,
    unlock: Unlock = backup_source.plain,
    dry_run: bool = False,
) -> Restored:
    """Restore the backup in the file, or from stdin (None), as a stopped instance.

    `instance`: its name; by default that of the backup. Raises DataRefusedError for a file that is
    no whole backup or too new for the PostgreSQL here, ConflictError if the instance or its volume
    exists. Whatever fails leaves nothing.
    """
    with interruptible(), backup_source.opened(source, out, unlock) as backup:
        name = instance or backup.manifest.instance
        done = Restored(backup.manifest, backup.sums.sha256, backup.sums.bytes, name)
        if dry_run:
            left = bool(instance) and restoring.is_of(running.instances().load(name))
            if instance and not left:
                _refuse_known(name)
            return done
        if not name:
            raise UsageError(
                f"{backup.name} is of the volume {backup.manifest.volume}, not of an instance",
                hint="Name the instance that it becomes: --instance NAME",
            )
        store = running.instances()
        store.home(name)  # a valid name
        command = shlex.join(
            ("cf", "data", "restore", str(source.absolute()) if source else "-", "--instance", name)
        )
        with store.lock(name, command):
            chosen = settings.resolve(restore_plan.flags(backup.manifest, name))
            plan = restore_plan.plan_of(backup, chosen, out)
            _clear(name, out)
            _refuse_existing(name, plan)
            _refuse_newer(backup, plan, out)
            with CleanUp(out.note, out.waiting) as undo:
                record = _made(backup, plan, chosen, command, undo, out)
                build = restore_plan.keep_build(backup, undo)
                undo.commit(f"'{name}' is restored")
        differing = restore_plan.differing(backup.manifest, plan)
        return replace(done, plan=plan, record=record, build=build, differing=differing)


def start(done: Restored, out: Output) -> up.Result:
    """Start the restored instance as `cf up` would; raises as that does, and the data stay."""
    if done.plan is None:
        raise ValueError("a dry run has restored nothing")
    try:
        return up.up(done.plan, Options(), out)
    except CfError:
        out.note(f"'{done.instance}' is restored. Start it later: {done.next_command}")
        raise


def _clear(name: str, out: Output) -> None:
    """Remove what an earlier restore to that name has left, which was cut off."""
    record = running.instances().load(name)
    if record is not None and restoring.is_of(record):
        out.note(f"An earlier `{record.command}` was cut off; removing what it left")
        restoring.drop(record)


def _refuse_known(name: str) -> None:
    if running.record_of(name) is not None:
        raise ConflictError(
            f"there is an instance '{name}'",
            hint=f"Choose another name: --instance {name}-restored",
            details={"instance": name},
        )


def _refuse_existing(name: str, plan: Plan) -> None:
    _refuse_known(name)
    other = f"Choose another name: --instance {name}-restored"
    details = {"instance": name, "volume": plan.volume}
    if client.find("volumes", plan.volume, doing="look up the volume") is not None:
        raise ConflictError(
            f"the volume {plan.volume} exists, and a backup is restored into a new one only",
            hint=other,
            details=details,
        )


def _refuse_newer(backup: Backup, plan: Plan, out: Output) -> None:
    name = plan.stack["postgres_image"]
    image.obtain(name, report=out.note, waiting=out.waiting)
    here, there = postgres_new.major_of(name), backup.manifest.postgres.version // 10000
    if there > here:
        raise DataRefusedError(
            f"{backup.name} is of PostgreSQL {there}, and {name} has {here}: a dump cannot go back",
            hint="Name an image with that version or a later one: CF_POSTGRES_IMAGE=IMAGE",
            details={"backup": there, "image": here},
        )


def _made(
    backup: Backup, plan: Plan, chosen: Settings, command: str, undo: CleanUp, out: Output
) -> Record:
    """Make volume, password and record, and load the dump; the undo removes all of them."""
    name, identity, folder = plan.instance, uuid.uuid4().hex, paths.project_dir(plan.instance)
    known = backup.manifest.calculators
    calculator = (
        backup.manifest.calculator or max(known, key=lambda key: known[key], default="")
    ) or plan.calculator
    stopped = _record(plan, calculator, backup.manifest)
    begun = restoring.begun(stopped, identity, folder_made=not folder.exists(), command=command)
    undo.push(f"the restored instance '{name}'", lambda: restoring.drop(begun))
    running.instances().save(begun)
    password = _password(folder, name, chosen)
    labels = {
        PROJECT: plan.project,
        VOLUME: COMPOSE_VOLUME,
        LABEL_INSTANCE: name,
        LABEL_CALCULATOR: calculator,
        LABEL_RESTORE: identity,
    }
    cli.run(
        *("volume", "create", *(f"--label={key}={value}" for key, value in labels.items())),
        plan.volume,
        doing=f"create the volume {plan.volume}",
    )
    stack = plan.stack
    with postgres_new.initialised(
        plan.volume,
        stack["postgres_image"],
        user=stack["postgres_user"],
        database=stack["postgres_db"],
        password=password,
    ) as server:
        load(backup, server, out)
        with Session(server, statement_s=None) as session:
            if row_counts.read(session) != backup.manifest.tables:
                raise _incomplete(backup.name)
    running.instances().save(stopped)
    return stopped


def _incomplete(name: str) -> CfError:
    return CfError(f"{name} was not restored: its rows are not all there")


def load(backup: Backup, server: Server, out: Output) -> None:
    doing = f"restore {backup.name}"
    with postgres.fed(server, "sh", "-c", f"cat > {_ROWS}", doing=doing) as stream:
        stream.write(row_counts.refusing(backup.manifest.tables).encode())
    total = float(backup.sums.dump_bytes)
    with (
        Heartbeat(out).progress(f"restoring {backup.name}", total) as advance,
        backup.dump() as dump,
    ):
        with postgres.fed(server, "sh", "-c", _LOAD, doing=doing) as stream:
            for piece in dump:
                stream.write(piece)
                advance(len(piece))


def _record(plan: Plan, calculator: str, manifest: Manifest) -> Record:
    """The record of the stopped instance; where it will answer is decided by its first start."""
    nowhere = Endpoint("", 0)
    data = {
        "project": plan.project,
        "folder": str(paths.project_dir(plan.instance)),
        "services": [],
        "volume": plan.volume,
        "database": {"user": plan.stack["postgres_user"], "name": plan.stack["postgres_db"]},
    }
    return Record(
        name=plan.instance,
        build=manifest.build or plan.build,
        calculator=calculator,
        services="full",
        phase="stopped",
        created=now(),
        deployment=Deployment("compose", plan.instance, nowhere, nowhere, data).as_dict(),
        plan=plan.as_dict(),
    )


def _password(folder: Path, name: str, chosen: Settings) -> str:
    """The database's password, in the project's `.env` as `cf up` will read it."""
    file = folder / ENV_FILE
    kept = read_env(file)
    password = kept.get("POSTGRES_PASSWORD") or chosen.get("postgres_password")
    password = str(password or secrets.token_urlsafe(24))
    if kept.get("POSTGRES_PASSWORD"):
        return password
    text = env_text(name, {**kept, "POSTGRES_PASSWORD": password})
    backup_file.private(folder)
    with _replacing(file) as part:
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
    return password


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise backup_file.failed(error, path) from error
    finally:
        part.unlink(missing_ok=True)
