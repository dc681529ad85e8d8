"""Brings a stack's database to run before the services that need it, and looks whether they may."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from compreface_cli.checks import database as checks
from compreface_cli.cleanup import Report
from compreface_cli.docker import cli, client, containers
from compreface_cli.docker.containers import Container
from compreface_cli.errors import ConflictError, DataRefusedError, UnhealthyError
from compreface_cli.facts import database as facts
from compreface_cli.instance.state import Deployment

SERVICE = "compreface-postgres-db"
_API = "compreface-api"
_DATA = "/var/lib/postgresql/data"
_POLL_S = 0.2
_STARTS = 3  # a server that ended so often does not come up
_SILENT_S = 3.0
_LOCK_WAIT_S = 300.0  # Liquibase itself gives up after five minutes
_CONTAINER_ID = re.compile(r"[0-9a-f]{12}")


def ready(
    deployment: Deployment, up: Callable[[str], None], report: Report, *, new_volume: bool = False
) -> None:
    """The database runs and the services may start on it; raises the CfError of what forbids it.

    `up` starts one service of the project. A volume whose initialisation was cut off, and that
    holds nothing, is made anew, unless it is new (`new_volume`); any other stays as it is.
    """
    work = _Database(deployment, report)
    if work.runs():
        seen = work.wait(anew=None)
    else:
        existed = not new_volume and work.volume_exists()
        up(SERVICE)
        seen = work.wait(anew=(lambda: up(SERVICE)) if existed else None)
    work.admit(seen)


def place(deployment: Deployment) -> checks.Place | None:
    """Where the database of a deployment runs; None when it has none of its own."""
    known, project = deployment.data.get("database"), deployment.data.get("project")
    if not known:
        return None
    names = (f"{project}-{SERVICE}-1", f"{project}-{_API}-1")
    return checks.Place(deployment.instance, *names, known["user"], known["name"])


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
        found = containers.of_project(self.project, self.folder)
        return next((one for one in found if one.service == SERVICE), None)

    def runs(self) -> bool:
        found = self.container()
        return found is not None and found.state == "running"

    def volume_exists(self) -> bool:
        return client.find("volumes", self.volume) is not None

    def wait(self, *, anew: Callable[[], None] | None) -> facts.DatabaseFacts:
        """What it says once it answers; `anew` starts it once more on an empty volume."""
        looked = anew is None
        while True:
            found = self.container()
            if found is None:
                raise UnhealthyError("the database's container is gone right after its start")
            state = containers.service_state(found)
            if state.state == "running" and (state.healthy or found.health == "none"):
                break
            ended = state.state in ("failed", "restarting", "stopped") or found.restarts > 0
            if ended and not looked and anew is not None:
                looked = True
                reason = checks.cut(facts.folder_of(self.volume, found.image))
                if reason:
                    self._anew(found, reason, anew)
                    continue
            over = found.restarts >= _STARTS or found.state in ("exited", "dead")
            if over or state.healthy is False:
                raise UnhealthyError(
                    f"the database does not come up: {state.detail or state.state}",
                    details={"service": state.name},
                )
            time.sleep(_POLL_S)
        seen = facts.look(found.id)
        # It answers, and may yet be without what the image makes last.
        if anew is not None and not looked and (seen.login or seen.error):
            reason = checks.cut(facts.folder_in(found.id), seen)
            if reason:
                self._anew(found, reason, anew)
                return self.wait(anew=None)
        return seen

    def admit(self, seen: facts.DatabaseFacts) -> None:
        """Raise for a password or a calculator that does not fit; free a lock nobody holds."""
        found = self.container()
        if found is None:
            return  # gone meanwhile: Compose will say so
        self._judge(found, seen)
        began, said = time.monotonic(), False
        while seen.lock is not None and not self._freed(found, seen.lock, seen.sessions):
            waited = time.monotonic() - began
            if waited > _LOCK_WAIT_S:
                raise UnhealthyError(
                    f"the database's schema is being changed by {seen.lock.holder}, and that does "
                    f"not end (since {seen.lock.since})",
                    hint="End that program; the next start frees its lock.",
                )
            if waited > _SILENT_S and not said:
                said = True
                self.report(f"  waiting for {seen.lock.holder}: it changes the database's schema")
            time.sleep(2 * _POLL_S)
            seen = facts.look(found.id)

    def _freed(self, found: Container, lock: facts.Lock, sessions: int | None) -> bool:
        if not _gone(lock, sessions):
            return False
        who = f"by {lock.holder}, which is gone" if lock.holder else "by nobody"
        error = facts.free_lock(found.id, lock)
        if error:
            raise UnhealthyError(
                f"the lock for changes of the database's schema is held {who}, and cannot be "
                f"freed: {error}"
            )
        self.report(f"  freed the lock of a schema change that was cut off: it was held {who}")
        return True

    def _judge(self, found: Container, seen: facts.DatabaseFacts) -> None:
        nothing = bool(seen.login) and checks.holds_nothing(facts.folder_in(found.id))
        refused = checks.login(self.volume, seen, nothing=nothing)
        if refused is not None:
            raise ConflictError(refused.message, hint=refused.hint)
        calculator = str((self.deployment.data.get("calculator") or [""])[0])
        if not calculator:
            return
        if checks.takes(seen, calculator) is False:
            finding = checks.refused(self.volume, seen, calculator)
            raise DataRefusedError(finding.message, hint=finding.hint)
        where = place(self.deployment)
        for finding in checks.collections(where, seen, calculator) if where else ():
            self.report(f"warning: {finding.message}\n{finding.hint}")

    def _anew(self, found: Container, reason: str, start: Callable[[], None]) -> None:
        """Begin again on an empty volume of the same name, if this one is nobody else's."""
        self._only_ours(found)
        self.report(
            f"  the first start on the volume {self.volume} was cut off ({reason}); it holds "
            "nothing and is made anew"
        )
        cli.run("rm", "--force", found.id, doing="remove the database's container")
        cli.run("volume", "rm", self.volume, doing=f"remove the volume {self.volume}")
        start()

    def _only_ours(self, found: Container) -> None:
        """ConflictError unless the volume is the data folder of this container alone."""
        mounted = client.get("containers", found.id, "json")["Mounts"]
        here = [one.get("Name") for one in mounted or () if one.get("Destination") == _DATA]
        users = [one.id for one in containers.listed(volume=self.volume)]
        if here != [self.volume] or users != [found.id]:
            raise ConflictError(
                f"the first start on the volume {self.volume} was cut off, and other containers "
                "use it too, so that it is not made anew",
                hint=f"docker ps -a --filter volume={self.volume} shows them.",
            )


def _gone(lock: facts.Lock, sessions: int | None) -> bool:
    """Whether nobody can be at work under this lock any more.

    Its holder keeps a connection to the database. Where others are connected too, a host name that
    is a container's says more: does that container run, and since before it took the lock?
    """
    if sessions == 0:
        return True
    name = lock.holder.partition(" ")[0]
    if not _CONTAINER_ID.fullmatch(name):
        return False  # a host of its own name: perhaps outside this daemon
    row = client.find("containers", name, "json", doing="look who holds the lock")
    if row is None or not row["State"]["Running"]:
        return True
    zoned = any(str(one).startswith("TZ=") for one in row["Config"].get("Env") or ())
    if zoned or not lock.since:
        return False  # the holder writes its local time, which is not known
    taken = datetime.fromisoformat(lock.since).replace(tzinfo=UTC)
    return datetime.fromisoformat(str(row["State"]["StartedAt"])) > taken
