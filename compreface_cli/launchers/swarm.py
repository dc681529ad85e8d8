"""Runs an instance as a stack of Docker Swarm, which replaces and rolls back tasks by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path

from compreface_cli.cleanup import CleanUp, Report
from compreface_cli.docker import belongings, cli, client, containers, image, stack
from compreface_cli.docker.labels import PROJECT
from compreface_cli.errors import CfError
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState
from compreface_cli.launchers import database, rollout, stack_logs, stack_project
from compreface_cli.launchers.compose import remembered
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S, LaunchInputs
from compreface_cli.launchers.stack_project import CORE, DATABASE
from compreface_cli.plan.plan import Plan
from compreface_cli.project.targets import swarm as target

API = "compreface-api"
_ROLLOUT_S = 900.0  # of all services, one after another
_GONE_S = 120.0  # from `stack rm` to the end of the last container: PostgreSQL has a minute
_REMOVED_S = 15.0
_POLL_S = 0.3


class SwarmLauncher:
    """The Swarm launcher; its services are those of the stack with the project's name."""

    kind: Kind = "swarm"

    def prepare(
        self, plan: Plan, inputs: LaunchInputs, undo: CleanUp, report: Report
    ) -> Deployment:
        if inputs.folder is None:
            raise CfError("the Swarm launcher needs a project folder")
        folder = inputs.folder.absolute()
        before = belongings.volumes(f"{PROJECT}={plan.project}")
        undo.push("the volumes created by this run", lambda: _remove_volumes(plan.project, before))
        read = stack_project.document(folder)
        known = {"user": plan.stack["postgres_user"], "name": plan.stack["postgres_db"]}
        return Deployment(
            launcher="swarm",
            instance=plan.instance,
            engine=inputs.engine,
            ui=inputs.ui,
            data={
                "project": plan.project,
                "folder": str(folder),
                "image": inputs.image,
                "tag": plan.image,
                "core_image": inputs.core_image,
                "in_registry": target.in_registry(plan),
                "services": sorted(read["services"]),
                "digests": stack_project.digests(read),
                "volume": plan.volume if plan.owns_database else None,
                "existing_data": plan.data is not None,
                "database": known if plan.owns_database else None,
                "database_label": target.database_label(plan) if plan.owns_database else "",
                "calculator": remembered(plan),
                "images": plan.stack_images,
            },
        )

    def trial(
        self, deployment: Deployment, report: Report
    ) -> AbstractContextManager[tuple[Endpoint, Callable[[], ServiceState]]]:
        raise CfError("Swarm tries a new engine itself, before it ends an old one")

    def changes(self, deployment: Deployment, *, rendered: str | None = None) -> Mapping[str, str]:
        """Short name of a service -> why a start of the stack changes it.

        `deployment` is the running one; `rendered`: a stack.yaml that is not in its folder yet.
        """
        read = stack_project.document(_folder(deployment), rendered)
        there = {service.name: service for service in stack.services(_project(deployment))}
        before, counts = deployment.data.get("digests") or {}, stack_project.wanted(read)
        causes = {}
        for name, digest in stack_project.digests(read).items():
            service = there.get(name)
            if service is None:
                causes[name] = "its service does not exist"
            elif before.get(name) != digest:
                causes[name] = "its settings have changed"
            elif name in counts and service.wanted != counts[name]:
                causes[name] = f"{counts[name]} tasks are to run instead of {service.wanted}"
        return {containers.short(name): cause for name, cause in causes.items()}

    def start(
        self,
        deployment: Deployment,
        report: Report,
        *,
        replacing: Deployment | None = None,
        limit_s: float | None = None,
        new_volume: bool = False,
    ) -> None:
        """Hand the stack to Swarm and wait until all its tasks run as it is now.

        Raises UnhealthyError for a rollout that Swarm has rolled back or paused.
        """
        project, deadline = _project(deployment), time.monotonic() + (limit_s or _ROLLOUT_S)
        before = {service.name: service for service in stack.services(project)}
        if deployment.data.get("database"):
            stack_project.hold_database(str(deployment.data["database_label"]))
            self._database(deployment, report, before, new_volume=new_volume)
            before = {service.name: service for service in stack.services(project)}
        _deploy(deployment)
        rollout.wait(project, before, report, deadline)
        if replacing is not None and replacing.data.get("calculator") != deployment.data.get(
            "calculator"
        ):
            now = {service.name: service for service in stack.services(project)}
            if API in before and _same_tasks(before[API], now[API]):
                report("  restarting api, which caches the old calculator's coefficients")
                self.roll(deployment, ["api"], report, limit_s=deadline - time.monotonic())
        stack_project.forget_unused(project)

    def _database(
        self,
        deployment: Deployment,
        report: Report,
        before: Mapping[str, stack.Service],
        *,
        new_volume: bool,
    ) -> None:
        """Start the database before its services, and refuse one that they cannot use."""

        def up(service: str) -> None:
            _deploy(deployment, only="" if before else service)
            rollout.until_there(_project(deployment), service)

        database.ready(deployment, up, report, new_volume=new_volume)

    def roll(
        self,
        deployment: Deployment,
        services: Sequence[str],
        report: Report,
        *,
        limit_s: float | None = None,
    ) -> None:
        """Replace the tasks of these services, by their short names, by new ones of the same kind.

        Raises UnhealthyError as `start` does.
        """
        project, deadline = _project(deployment), time.monotonic() + (limit_s or _ROLLOUT_S)
        before = {service.name: service for service in stack.services(project)}
        for service in before.values():
            if service.short in services:
                cli.run(
                    *("service", "update", "--force", "--detach", "--quiet", service.id),
                    doing=f"restart {service.short}",
                )
        rollout.wait(project, before, report, deadline)

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        """Nothing to do: Swarm itself ends what an interrupted rollout left."""

    def resume(self, deployment: Deployment, report: Report) -> None:
        """Nothing to do: the tasks of a service cannot be paused."""

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        project = _project(deployment)
        if stack.services(project):
            cli.run("stack", "rm", project, doing=f"stop {project}", timeout_s=120)
        _wait_until_gone(project, max(_GONE_S, timeout_s))
        stack_project.forget_unused(project)

    def remove(self, deployment: Deployment) -> None:
        """Remove only the image, if a newer one has its name and no container uses it."""
        if deployment.data.get("image"):
            image.drop_nameless(deployment.data["image"])

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        there = {service.name: service for service in stack.services(_project(deployment))}
        names = {node.id: node.name for node in stack.nodes()} if there else {}
        wanted = sorted(
            {*(deployment.data.get("services") or [CORE]), *there},
            key=lambda name: (name != CORE, name),
        )
        return tuple(
            rollout.state(there[name], names)
            if name in there
            else ServiceState(containers.short(name), "missing", "no service")
            for name in wanted
        )

    def logs(
        self,
        deployment: Deployment,
        *,
        tail: int,
        follow: bool,
        service: str | None = None,
        since: datetime | None = None,
    ) -> Iterator[str]:
        known = list(deployment.data["services"])
        chosen = [name for name in known if service in (None, name, containers.short(name))]
        if not chosen:
            names = ", ".join(containers.short(name) for name in known)
            raise CfError(f"there is no service '{service}'", hint=f"It has: {names}.")
        client.get("version")  # the program's error for an absent engine is not a log line
        project = _project(deployment)
        yield from stack_logs.lines(
            project, chosen, tail=tail, follow=follow, since=since, alone=service is not None
        )

    def keeps(self, deployment: Deployment) -> Mapping[str, str]:
        kept = {}
        if _folder(deployment).is_dir():
            kept["project folder"] = deployment.data["folder"]
        volume = str(deployment.data.get("volume") or "")
        if volume and client.find("volumes", volume) is not None:
            kept["volume"] = volume
        return kept


def start_seconds(deployment: Deployment) -> Mapping[str, float]:
    """Seconds until each service was healthy at its last start, of those with a container here."""
    seconds: dict[str, float] = {}
    for container in stack.containers_here(_project(deployment)):
        taken, name = containers.start_seconds(container), containers.short(container.service)
        if taken is not None and name not in seconds:
            seconds[name] = round(taken, 1)
    return seconds


def _deploy(deployment: Deployment, *, only: str = "") -> None:
    data = deployment.data
    stack_project.deploy(
        _project(deployment),
        _folder(deployment),
        deployment.instance,
        core_image=str(data["core_image"]),
        in_registry=bool(data["in_registry"]),
        only=only,
    )


def _same_tasks(before: stack.Service, now: stack.Service) -> bool:
    return {task.id for task in before.running} == {task.id for task in now.running}


def _wait_until_gone(project: str, limit_s: float) -> None:
    """Until no container of the stack runs here and its network is gone: both would be in the way.

    Two databases on one volume destroy it, so that the next start must not come earlier.
    """
    began = time.monotonic()
    deadline, network = began + limit_s, f"{project}_default"
    while True:
        present = stack.containers_here(project)
        # Ended ones are removed by Swarm too, and nothing is wrong if that takes longer.
        late = time.monotonic() > began + _REMOVED_S
        left = [each for each in present if each.active or not late]
        row = None if left else client.find("networks", network)
        if not left and (row is None or row.get("Driver") != "overlay"):
            return
        if time.monotonic() > deadline:
            names = ", ".join(each.name for each in left) or f"the network {network}"
            raise CfError(
                f"the stack {project} is removed, and this is still there: {names}",
                hint=f"docker stack ps {project}",
            )
        time.sleep(_POLL_S)


def _remove_volumes(project: str, keep: Sequence[str]) -> None:
    for name in belongings.volumes(f"{PROJECT}={project}"):
        if name not in keep:
            belongings.remove_volume(name)


def _project(deployment: Deployment) -> str:
    return str(deployment.data["project"])


def _folder(deployment: Deployment) -> Path:
    return Path(deployment.data["folder"])


__all__ = ["CORE", "DATABASE", "SwarmLauncher", "start_seconds"]
