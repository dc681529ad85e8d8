"""Starts a stack's database before its services, and checks that they can use it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from compreface_cli.checks import Finding, schema, volume
from compreface_cli.checks import database as checks
from compreface_cli.cleanup import Report
from compreface_cli.config import paths
from compreface_cli.docker import cli, client, containers, image, stack
from compreface_cli.docker.containers import Container
from compreface_cli.errors import ConflictError, DataRefusedError, UnhealthyError
from compreface_cli.facts import database as facts
from compreface_cli.instance import history
from compreface_cli.instance.records import Instances
from compreface_cli.instance.state import Deployment
from compreface_cli.topics import Topic

NOT_STARTED = Topic(
    "database-not-started",
    means="The database did not start.",
    why="The services that need it are not started. Its volume is left unchanged.",
    see="`cf logs INSTANCE --service postgres --explain`.",
    ways=(
        "See to what its log says.",
        "A full disk and another version of PostgreSQL are the most frequent causes.",
    ),
)

SERVICE = "compreface-postgres-db"
_ADMIN = "compreface-admin"
_DATA = "/var/lib/postgresql/data"
_POLL_S = 0.2
_STARTS = 3  # a server that has ended so often will not start
_SILENT_S = 3.0
_BUSY_S = 120.0  # the second time: an unknown schema may be too new for the services
_LOCK_WAIT_S = 300.0  # Liquibase itself gives up after five minutes
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")


def ready(
    deployment: Deployment, up: Callable[[str], None], report: Report, *, new_volume: bool = False
) -> None:
    """Return when the database runs and the services can use it; raises a CfError if they cannot.

    `up` starts one service of the project. A volume whose initialisation was interrupted and that
    has no data is created again, unless it is new (`new_volume`); all others stay unchanged.
    """
    database = _Database(deployment, report)
    if database.runs():
        contents = database.wait(anew=None)
    else:
        existed = not new_volume and database.may_be_remade()
        up(SERVICE)
        contents = database.wait(anew=(lambda: up(SERVICE)) if existed else None)
    database.admit(contents)


def place(deployment: Deployment) -> checks.Place | None:
    """Where the database of a deployment runs; None if the project has none."""
    known, project = deployment.data.get("database"), str(deployment.data.get("project"))
    if not known:
        return None
    if deployment.launcher == "swarm":
        container = stack.database_here(project, SERVICE)
        return checks.Place(deployment.instance, container.name) if container else None
    return checks.Place(deployment.instance, f"{project}-{SERVICE}-1")


def newer_schema(instance: str, admin: str, changes: Sequence[str] | None) -> Finding | None:
    """The refusal of an admin image that is older than the schema; None: it may start.

    `changes`: the change sets of the database.
    """
    if not admin or not changes:
        return None
    records, _ = Instances(paths.instances_dir()).all()
    known = history.recorded(records, image.id_of(admin))
    return schema.judge(instance, admin, changes, known)


@dataclass
class _Database:
    """The database of one deployment, in its container."""

    deployment: Deployment
    report: Report

    def __post_init__(self) -> None:
        self.project = str(self.deployment.data["project"])
        self.folder = str(self.deployment.data["folder"])
        self.volume = str(self.deployment.data["volume"])

    def container(self) -> Container | None:
        if self.deployment.launcher == "swarm":
            return stack.database_here(self.project, SERVICE)
        all_ = containers.of_project(self.project, self.folder)
        return next((item for item in all_ if item.service == SERVICE), None)

    def runs(self) -> bool:
        container = self.container()
        return container is not None and container.state == "running"

    def may_be_remade(self) -> bool:
        """Whether the volume is there and the project's own, so that it can be made again."""
        existing = self.deployment.data.get("existing_data")
        if self.deployment.launcher == "swarm":
            return False  # Swarm would start the server again on it meanwhile
        return not existing and client.find("volumes", self.volume) is not None

    def wait(self, *, anew: Callable[[], None] | None) -> facts.DatabaseFacts:
        """The facts of the database once it answers; `anew` starts it on an empty volume."""
        looked = anew is None
        while True:
            container = self.container()
            if container is None:
                raise UnhealthyError(
                    "the database's container vanished right after its start", topic=NOT_STARTED
                )
            state = containers.service_state(container)
            if state.state == "running" and (state.healthy or container.health == "none"):
                break
            ended = state.state in ("failed", "restarting", "stopped") or container.restarts > 0
            if ended and not looked and anew is not None:
                looked = True
                reason = checks.cut(facts.folder_of(self.volume, container.image))
                if reason:
                    self._recreate(container, reason, anew)
                    continue
            over = container.restarts >= _STARTS or container.state in ("exited", "dead")
            if over or state.healthy is False:
                raise UnhealthyError(
                    f"the database does not start: {state.detail or state.state}",
                    details={"service": state.name},
                    topic=NOT_STARTED,
                )
            time.sleep(_POLL_S)
        contents = facts.look(container.id)
        # It answers, but the image may not have finished its initialisation.
        if anew is not None and not looked and (contents.login or contents.error):
            reason = checks.cut(facts.folder_in(container.id), contents)
            if reason:
                self._recreate(container, reason, anew)
                return self.wait(anew=None)
        return contents

    def admit(self, contents: facts.DatabaseFacts) -> None:
        """Raise for a wrong password or calculator; free a lock whose holder is gone."""
        container = self.container()
        if container is None:
            return  # removed meanwhile: Compose will report it
        if contents.silent:
            contents = facts.look(container.id, timeout_s=_BUSY_S)
        if contents.silent:
            raise UnhealthyError(
                f"the database of the volume {self.volume} does not say what it holds: "
                f"{contents.error}. No service was started on it",
                hint="Run the command again when the machine is less busy.",
                topic=checks.UNREAD,
            )
        self._judge(container, contents)
        began, reported = time.monotonic(), False
        while contents.lock is not None and not self._freed(
            container, contents.lock, contents.sessions
        ):
            waited = time.monotonic() - began
            if waited > _LOCK_WAIT_S:
                raise UnhealthyError(
                    f"the database's schema is being changed by {contents.lock.holder}, which does "
                    f"not finish (since {contents.lock.since})",
                    hint="End that program; the next start frees its lock.",
                    topic=checks.LOCK,
                )
            if waited > _SILENT_S and not reported:
                reported = True
                self.report(
                    f"  waiting for {contents.lock.holder}: it changes the database's schema"
                )
            time.sleep(2 * _POLL_S)
            contents = facts.look(container.id)

    def _freed(self, container: Container, lock: facts.Lock, sessions: int | None) -> bool:
        if not _gone(lock, sessions):
            return False
        who = f"by {lock.holder}, which is gone" if lock.holder else "by an unknown program"
        error = facts.free_lock(container.id, lock)
        if error:
            raise UnhealthyError(
                f"the lock of the database's schema is held {who}, and cannot be freed: {error}",
                topic=checks.LOCK,
            )
        self.report(f"  freed the lock of an interrupted schema change: it was held {who}")
        return True

    def _judge(self, container: Container, contents: facts.DatabaseFacts) -> None:
        nothing = bool(contents.login) and checks.holds_nothing(facts.folder_in(container.id))
        refused = checks.login(self.volume, contents, nothing=nothing)
        if refused is not None:
            raise ConflictError(refused.message, hint=refused.hint, topic=refused.topic)
        admin = (self.deployment.data.get("images") or {}).get(_ADMIN, "")
        too_new = newer_schema(self.deployment.instance, admin, contents.changes)
        if too_new is not None:
            raise DataRefusedError(too_new.message, hint=too_new.hint, topic=too_new.topic)
        calculator = str((self.deployment.data.get("calculator") or [""])[0])
        if not calculator:
            return
        if checks.takes(contents, calculator) is False:
            finding = checks.refused(self.volume, contents, calculator)
            raise DataRefusedError(finding.message, hint=finding.hint, topic=finding.topic)
        where = place(self.deployment)
        for finding in checks.collections(where, contents, calculator) if where else ():
            self.report(f"warning: {finding.message}\n{finding.hint}")

    def _recreate(self, container: Container, reason: str, start: Callable[[], None]) -> None:
        """Start again on a new volume of the same name, if no other container uses this one."""
        self._require_sole_use(container)
        self.report(
            f"  the first start on the volume {self.volume} was interrupted ({reason}); it has "
            "no data and is created again"
        )
        cli.run("rm", "--force", container.id, doing="remove the database's container")
        cli.run("volume", "rm", self.volume, doing=f"remove the volume {self.volume}")
        start()

    def _require_sole_use(self, container: Container) -> None:
        """ConflictError unless the volume is the data folder of this container alone."""
        mounted = client.get("containers", container.id, "json")["Mounts"]
        here = [mount.get("Name") for mount in mounted or () if mount.get("Destination") == _DATA]
        users = [user.id for user in containers.listed(volume=self.volume)]
        if here != [self.volume] or users != [container.id]:
            raise ConflictError(
                f"the first start on the volume {self.volume} was interrupted, and other "
                "containers use it too, so that it is not created again",
                hint=f"docker ps -a --filter volume={self.volume} shows them.",
                topic=volume.IN_USE,
            )


def _gone(lock: facts.Lock, sessions: int | None) -> bool:
    """Whether the program that took this lock is gone.

    A holder keeps its connection to the database. If other clients are connected too, and the
    holder's host name is a container's id, it is gone unless that container has been running since
    before it took the lock.
    """
    if sessions == 0:
        return True
    name = lock.holder.partition(" ")[0]
    if not _CONTAINER_ID.fullmatch(name):
        return False  # not a container's id: perhaps a program outside this Docker engine
    row = client.find("containers", name, "json", doing="look up the holder of the lock")
    if row is None or not row["State"]["Running"]:
        return True
    zoned = any(str(variable).startswith("TZ=") for variable in row["Config"].get("Env") or ())
    if zoned or not lock.since:
        return False  # the holder wrote its local time, whose zone is not known
    taken = datetime.fromisoformat(lock.since).replace(tzinfo=UTC)
    return datetime.fromisoformat(str(row["State"]["StartedAt"])) > taken
