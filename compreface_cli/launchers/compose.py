"""Runs an instance as a Compose project, with the `docker compose` program."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from compreface_cli import leftovers
from compreface_cli.checks.project import CRASH_LOOP
from compreface_cli.cleanup import CleanUp, Report, deferred
from compreface_cli.docker import belongings, cli, client, containers, image
from compreface_cli.docker.labels import LABEL_TRIAL, PROJECT
from compreface_cli.engine.known_answer import ENDED
from compreface_cli.errors import CfError, UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState, State
from compreface_cli.launchers import compose_project, database, database_elsewhere, swap
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S, LaunchInputs
from compreface_cli.plan.plan import Plan

CORE, API, DATABASE = "compreface-core", "compreface-api", "compreface-postgres-db"
ENGINE_PORT = 3000  # inside the container
_LOG_LINES = 12
_NGINX_S = 2.0  # measured: nginx answers 1 to 2 s after the end of the previous one
_HEALTH_CHECK_S = 15.0  # interval and timeout of the health checks
MAX_RESTARTS = 3  # of a service other than the engine, while its database starts


class ComposeLauncher:
    """The Compose launcher; its containers are those with the project's name and folder."""

    kind: Kind = "compose"

    def prepare(
        self, plan: Plan, inputs: LaunchInputs, undo: CleanUp, report: Report
    ) -> Deployment:
        if inputs.folder is None:
            raise CfError("the Compose launcher needs a project folder")
        folder = inputs.folder.absolute()
        before = belongings.volumes(f"{PROJECT}={plan.project}")
        undo.push(
            "the volumes created by this run", lambda: _remove_volumes(plan.project, keep=before)
        )
        words = compose_project.command(plan.project, folder)
        services = compose_project.read(words, "--services").split()
        return Deployment(
            launcher="compose",
            instance=plan.instance,
            engine=inputs.engine,
            ui=inputs.ui,
            data={
                "project": plan.project,
                "folder": str(folder),
                "image": inputs.image,
                "tag": plan.image,
                "services": sorted(services),
                "replicas": plan.replicas // len(plan.gpus),  # of each service
                "apis": plan.api_replicas,
                "volume": plan.volume if plan.owns_database else None,
                "existing_data": plan.data is not None,
                "database": _database(plan),
                "elsewhere": database_elsewhere.parts(plan),
                "calculator": remembered(plan),
                "images": plan.stack_images,
            },
        )

    @contextmanager
    def trial(
        self, deployment: Deployment, report: Report
    ) -> Iterator[tuple[Endpoint, Callable[[], ServiceState]]]:
        _remove_trials(deployment.instance)
        _pin_tag(deployment)
        project = f"{_project(deployment)}-trial-{secrets.token_hex(3)}"
        with leftovers.folder("cf-trial-") as folder:
            try:
                file = folder / "compose.json"
                file.write_text(json.dumps(_engine_alone(deployment, project)), encoding="utf-8")
                cli.run(
                    "compose",
                    f"--project-name={project}",
                    f"--file={file}",
                    "up",
                    "--detach",
                    "--no-build",
                    "--quiet-pull",
                    doing="start the new engine next to the running one",
                    on_line=lambda line: None,
                    timeout_s=120,
                )
                started = containers.of_project(project)
                if not started:
                    raise UnhealthyError(
                        "the new engine's container vanished right after its start", topic=ENDED
                    )
                yield (
                    Endpoint("127.0.0.1", _published(started[0]), deployment.engine.key),
                    lambda: _state_of(project, CORE),
                )
            finally:
                with deferred():
                    _remove_project(project, None, timeout_s=2)

    def obstacle(
        self, before: Deployment, after: Deployment, *, rendered: str | None = None
    ) -> str:
        """Why the two engines cannot run side by side; `rendered` as in `changes`."""
        if not (before.ui and after.ui):
            return "it runs without the UI, so that the engine publishes the port itself"
        if (_project(before), _folder(before)) != (_project(after), _folder(after)):
            return "it becomes another project"
        with compose_project.command_for(_project(after), _folder(after), rendered) as words:
            return swap.obstacle(compose_project.document(words), CORE)

    @contextmanager
    def beside(
        self, deployment: Deployment, supersedes: Sequence[str] | None = None
    ) -> Iterator[swap.Successor]:
        """Run an engine of `deployment` next to those that run; see `swap.beside`."""
        _pin_tag(deployment)
        with swap.beside(_of_swap(deployment), supersedes) as successor:
            yield successor

    def engines(self, deployment: Deployment) -> tuple[list[str], list[str]]:
        """Ids of the project's engines, the oldest first: those of this deployment, and others.

        An engine that does not run is one of the others.
        """
        project = _of_swap(deployment)
        wanted = compose_project.hashes(_words(deployment)).get(CORE, "")
        right: list[str] = []
        others: list[str] = []
        for item in project.engines():
            same = item.config_hash == wanted and item.state == "running"
            same = same and deployment.data.get("image") in (None, item.image)
            (right if same else others).append(item.id)
        return right, others

    def changes(
        self, deployment: Deployment, *, rendered: str | None = None, beside: bool = True
    ) -> Mapping[str, str]:
        """Short name of a service -> why `start` recreates or starts its container.

        `rendered`: a compose.yaml that is not in the project's folder yet. `beside`: the engine is
        replaced without downtime, so that the services that depend on it are not affected.
        """
        unnoticed = CORE if beside else ""
        project, folder = _project(deployment), _folder(deployment)
        with compose_project.command_for(project, folder, rendered) as words:
            causes = compose_project.changes(project, folder, words, unnoticed=unnoticed)
        return {containers.short(service): cause for service, cause in causes.items()}

    def start_seconds(self, deployment: Deployment) -> Mapping[str, float]:
        """Seconds until each service was healthy at its last start, as far as Docker knows."""
        seconds = {
            containers.short(item.service): containers.start_seconds(item)
            for item in containers.of_project(_project(deployment), str(_folder(deployment)))
        }
        known = {name: round(taken, 1) for name, taken in seconds.items() if taken is not None}
        if "fe" in known:  # its health check waits for the other services, its clients do not
            known["fe"] = min(known["fe"], _NGINX_S)
        return known

    def start(
        self,
        deployment: Deployment,
        report: Report,
        *,
        replacing: Deployment | None = None,
        limit_s: float | None = None,
        new_volume: bool = False,
    ) -> None:
        project, folder = _project(deployment), _folder(deployment)
        _pin_tag(deployment)
        self.tidy(deployment)
        before = {item.id for item in containers.of_project(project)}
        if before:
            for name in compose_project.rejoin(project, folder, _words(deployment)):
                report(f"  {name} was reconnected to its network")
        try:
            if deployment.data.get("database"):
                database.ready(
                    deployment,
                    lambda service: _up(deployment, report, service, limit_s=limit_s),
                    report,
                    new_volume=new_volume,
                )
            elif deployment.data.get("elsewhere"):
                database_elsewhere.ready(deployment, report)
            _up(deployment, report, limit_s=limit_s)
        except CfError as failed:
            raise _with_service(failed, project, str(folder)) from failed
        if replacing is not None and replacing.data.get("calculator") != deployment.data.get(
            "calculator"
        ):
            apis = [item.id for item in containers.of_project(project) if item.service == API]
            if kept := [id_ for id_ in apis if id_ in before]:
                report("  restarting api, which caches the old calculator's coefficients")
                cli.run("restart", *kept, doing="restart api", timeout_s=120)

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        _remove_trials(deployment.instance)
        present = containers.of_project(_project(deployment), str(_folder(deployment)))
        ending = [item.id for item in present if containers.short(item.service) in touched]
        if ending:
            # Each has its own stop timeout; this also waits for a stop that is under way.
            cli.run("stop", *ending, doing="finish the stop of the services", timeout_s=None)
        for engine in (item.id for item in present if item.id in touched):
            swap.end(engine)
        engines = _of_swap(deployment)
        if len(engines.engines()) > engines.count:
            swap.leave(engines, compose_project.hashes(_words(deployment)).get(CORE, ""))

    def resume(self, deployment: Deployment, report: Report) -> None:
        present = containers.of_project(_project(deployment), str(_folder(deployment)))
        paused = [item for item in present if item.state == "paused"]
        for item in paused:
            report(f"  {containers.short(item.service)} was paused; resuming it")
            cli.run("unpause", item.id, doing=f"unpause {item.name}")
        # Docker reports a paused container as unhealthy until its next health check.
        ids, deadline = [item.id for item in paused], time.monotonic() + _HEALTH_CHECK_S
        while ids and time.monotonic() < deadline:
            if all(item.health != "unhealthy" for item in containers.inspect(*ids)):
                return
            time.sleep(0.5)

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        _remove_trials(deployment.instance)
        _remove_project(_project(deployment), str(_folder(deployment)), timeout_s=timeout_s)

    def leave_out(self, deployment: Deployment, services: Sequence[str]) -> None:
        """Stop these services and remove their containers; `start` makes them again.

        A stopped container might be started again by a restart of the Docker engine.
        """
        present = containers.of_project(_project(deployment), str(_folder(deployment)))
        ids = [item.id for item in present if containers.short(item.service) in services]
        if ids:
            words = f"stop {' and '.join(services)}"
            stop = f"--time={max(1, round(STOP_TIMEOUT_S))}"
            cli.run("stop", stop, *ids, doing=words, timeout_s=STOP_TIMEOUT_S + 60)
            cli.run("rm", "--force", *ids, doing=words)

    def remove(self, deployment: Deployment) -> None:
        """Remove only the image, if a newer one has its name and no container uses it."""
        if deployment.data.get("image"):
            image.drop_nameless(deployment.data["image"])

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        several: dict[str, list[containers.Container]] = {}
        for item in containers.of_project(_project(deployment), str(_folder(deployment))):
            several.setdefault(item.service, []).append(item)
        count = {API: int(deployment.data.get("apis") or 1)}
        states = {
            service: _of_several(
                items, deployment.replicas if service.startswith(CORE) else count.get(service, 1)
            )
            for service, items in several.items()
        }
        wanted: Sequence[str] = deployment.data.get("services") or [CORE]
        names = sorted({*wanted, *states}, key=lambda name: (name != CORE, name))
        return tuple(
            states.get(name) or ServiceState(containers.short(name), "missing", "no container")
            for name in names
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
        chosen = []
        if service is not None:
            chosen = [n for n in deployment.data["services"] if service in (n, containers.short(n))]
            if not chosen:
                known = ", ".join(containers.short(n) for n in deployment.data["services"])
                raise CfError(f"there is no service '{service}'", hint=f"It has: {known}.")
        client.get("version")  # the program's error for an absent engine is not a log line
        lines = cli.stream(
            *_words(deployment),
            "logs",
            "--no-color",
            f"--tail={tail}",
            *(["--follow"] if follow else []),
            *([f"--since={since.isoformat()}"] if since else []),
            *(["--no-log-prefix"] if service is not None else []),
            *chosen,
            doing=f"read the logs of {deployment.instance}",
        )
        with closing(lines):
            for line in lines:  # Compose clears a line that it never drew
                yield line.removeprefix("\x1b[2K")

    def keeps(self, deployment: Deployment) -> Mapping[str, str]:
        kept = {}
        if _folder(deployment).is_dir():
            kept["project folder"] = deployment.data["folder"]
        volume = str(deployment.data.get("volume") or "")
        if deployment.data.get("existing_data"):
            here = client.find("volumes", volume) is not None
        else:
            here = volume in belongings.volumes(f"{PROJECT}={_project(deployment)}")
        if volume and here:
            kept["volume"] = volume
        return kept


def _of_several(items: Sequence[containers.Container], wanted: int) -> ServiceState:
    """The state of a service of which `wanted` containers should run.

    Of one: that of its oldest running container. Of several: that of the worst, with each of them.
    """
    ordered = sorted(items, key=lambda item: item.number)
    if wanted == 1:
        main = min(ordered, key=lambda item: (item.state != "running", item.number))
        state = containers.service_state(main)
        if len(items) == 1:
            return state
        more = f"{state.name} has {len(items)} containers instead of one"
        return replace(state, detail=", ".join(filter(None, (state.detail, more))))
    replicas = tuple(_replica(item) for item in ordered)
    worst = min(replicas, key=lambda each: (each.state == "running", each.healthy is not False))
    if worst.state != "running" or worst.healthy is False:
        detail = f"{worst.name} {worst.number}" + (f": {worst.detail}" if worst.detail else "")
        return replace(worst, detail=detail, replicas=replicas)
    if len(replicas) == wanted:
        return replace(worst, replicas=replicas)
    detail = f"{len(replicas)} of {wanted} run"
    state_now: State = "missing" if len(replicas) < wanted else "running"
    return replace(worst, state=state_now, detail=detail, replicas=replicas)


def _replica(container: containers.Container) -> ServiceState:
    """The state of one container of several, with its number and its own address."""
    published = container.published(ENGINE_PORT)
    address = Endpoint("127.0.0.1", published.port).url if published else ""
    state = containers.service_state(container)
    return replace(state, number=container.number, address=address)


def remembered(plan: Plan) -> list[str]:
    """The properties of the engine that the api caches until it is restarted, for comparison."""
    return [
        plan.calculator,
        *(sha for model in plan.models for file in model.files for sha in file.sha256),
        *(str(list(model.similarity)) for model in plan.models if model.similarity),
    ]


def _database(plan: Plan) -> dict[str, str] | None:
    """User and name of the project's own database; None if the services use an external one."""
    if not plan.owns_database:
        return None
    return {"user": plan.stack["postgres_user"], "name": plan.stack["postgres_db"]}


def _project(deployment: Deployment) -> str:
    return str(deployment.data["project"])


def _folder(deployment: Deployment) -> Path:
    return Path(deployment.data["folder"])


def _pin_tag(deployment: Deployment) -> None:
    """Set the tag that the project names to the image that this deployment was tested with."""
    tested, tag = deployment.data.get("image"), deployment.data.get("tag")
    if tested and tag and "@" not in tag:  # a digest is of one image for good
        cli.run("tag", tested, tag, doing=f"set the image {tag}")


def _words(deployment: Deployment) -> list[str]:
    """The arguments of `docker` for its project."""
    return compose_project.command(_project(deployment), _folder(deployment))


def _of_swap(deployment: Deployment) -> swap.Project:
    count = deployment.replicas
    return swap.Project(_words(deployment), _project(deployment), CORE, ENGINE_PORT, count)


def _up(
    deployment: Deployment, report: Report, *services: str, limit_s: float | None = None
) -> None:
    project, folder = _project(deployment), _folder(deployment)
    reported: set[str] = set()

    def progress(line: str) -> None:
        if line in reported:  # Compose repeats the state of services that others wait for
            return
        reported.add(line)
        words = line.split()
        if len(words) >= 3 and words[0] == "Container" and words[-1] in ("Started", "Healthy"):
            service = words[1].removeprefix(f"{project}-").rstrip("0123456789").rstrip("-")
            report(f"  {containers.short(service)} {words[-1].lower()}")
        elif len(words) >= 2 and words[-1] in ("Pulling", "Pulled"):
            report(f"  {' '.join(words)}")

    cli.run(
        *_words(deployment),
        "--progress=plain",
        "up",
        "--detach",
        "--no-build",
        *(services or ["--remove-orphans"]),
        doing=f"start {deployment.instance}",
        timeout_s=limit_s,  # without one images may take long; the watch ends a crash loop
        on_line=progress,
        watch=CrashLoopWatch(project, str(folder)),
    )


def _engine_alone(deployment: Deployment, project: str) -> dict[str, Any]:
    """A project with the engine alone, on any loopback port, without restarts."""
    document = compose_project.document(_words(deployment))
    core = dict(document["services"][CORE])
    for key in ("build", "depends_on", "container_name", "networks", "scale"):
        core.pop(key, None)
    core["restart"] = "no"
    core["ports"] = [{"target": ENGINE_PORT, "host_ip": "127.0.0.1", "protocol": "tcp"}]
    core["labels"] = {**core.get("labels", {}), LABEL_TRIAL: deployment.instance}
    used = [
        m["source"] for m in core.get("volumes", []) if m.get("type") == "volume" and m["source"]
    ]
    declared = document.get("volumes") or {}
    return {
        "name": project,
        "services": {CORE: core},
        **{key: document[key] for key in ("secrets", "configs") if key in document},
        **({"volumes": {name: declared[name] for name in used}} if used else {}),
    }


def _published(container: containers.Container) -> int:
    if (published := container.published(ENGINE_PORT)) is not None:
        return published.port
    state = containers.service_state(container)
    raise UnhealthyError(
        f"the new engine ended right after its start: {state.detail}",
        details={"log": containers.last_lines(container, _LOG_LINES)},
        topic=ENDED,
    )


def _state_of(project: str, service: str) -> ServiceState:
    for container in containers.of_project(project):
        if container.service == service:
            return containers.service_state(container)
    return ServiceState(containers.short(service), "missing", "its container is gone")


class CrashLoopWatch:
    """Returns an error for a service in a crash loop, for which Compose would wait forever."""

    def __init__(self, project: str, folder: str) -> None:
        self._where = (project, folder)
        self._suspects: frozenset[str] = frozenset()
        self._ended_before = self._starts()

    def __call__(self) -> CfError | None:
        try:
            present = containers.of_project(*self._where)
        except CfError:
            return None  # the command itself will report the failure of Docker
        suspects = {}
        for container in present:
            if self._ended_before.get(container.id) == container.details.get("StartedAt"):
                continue  # not started yet: it waits for its dependencies
            state = containers.service_state(container)
            limit = 0 if container.service == CORE else MAX_RESTARTS
            if state.restarts > limit or state.state == "failed":
                suspects[container.id] = state
        # Only in two calls in a row: a container that is about to be replaced has ended, too.
        for id_, state in suspects.items():
            if id_ in self._suspects:
                return UnhealthyError(
                    f"the service {state.name} does not keep running: {state.detail}",
                    details={"service": state.name},
                    topic=CRASH_LOOP,
                )
        self._suspects = frozenset(suspects)
        return None

    def _starts(self) -> dict[str, Any]:
        """Id -> last start of the containers that do not run now."""
        present = containers.of_project(*self._where)
        ended = [item for item in present if item.state not in ("running", "restarting")]
        return {item.id: item.details.get("StartedAt") for item in ended}


def _with_service(failed: CfError, project: str, folder: str) -> CfError:
    """The error of a start, with the service that failed, the cause and its last log lines."""
    try:
        present = containers.of_project(project, folder)
    except CfError:  # no Docker engine, no further details
        return failed
    named = failed.details.get("service")
    for container in present:
        state = containers.service_state(container)
        # A service in a crash loop may just be "starting", between two crashes.
        faulty = (
            state.state in ("failed", "restarting") or state.healthy is False or state.restarts > 0
        )
        if state.name != named if named else not faulty:
            continue
        lines = containers.last_lines(container, _LOG_LINES)
        parts = [failed.message]
        if not named:
            parts.append(f"{state.name}: {state.detail or f'its state is {state.state}'}")
        parts += [f"The last lines of {state.name}:", *(f"    {line}" for line in lines)]
        return type(failed)(
            "\n".join(parts),
            hint=failed.hint,
            details={**failed.details, "service": state.name, "cause": state.detail, "log": lines},
            topic=failed.topic,
        )
    return failed


def _remove_volumes(project: str, *, keep: Sequence[str]) -> None:
    for name in belongings.volumes(f"{PROJECT}={project}"):
        if name not in keep:
            belongings.remove_volume(name)


def _remove_project(project: str, folder: str | None, *, timeout_s: float) -> None:
    """Remove containers and networks of the project; the database is stopped last."""
    present = containers.of_project(project, folder)
    database = [item.id for item in present if item.service == DATABASE]
    for batch in ([item.id for item in present if item.id not in database], database):
        if batch:
            cli.run(
                "stop",
                f"--time={max(1, round(timeout_s))}",
                *batch,
                doing=f"stop {project}",
                timeout_s=timeout_s + 60,
                check=False,  # already removed is fine; what remains is reported below
            )
            cli.run("rm", "--force", *batch, doing=f"remove {project}", check=False)
    left = containers.of_project(project, folder)
    if left:
        names = ", ".join(item.name for item in left)
        raise CfError(f"these containers cannot be removed: {names}", hint="docker rm -f NAME")
    filters = {"label": [f"{PROJECT}={project}"]}
    for network in client.get("networks", filters=filters):
        # Docker refuses if another container is connected to it.
        cli.run("network", "rm", network["Id"], doing="remove a network", check=False)


def _remove_trials(instance: str) -> None:
    """Remove what a killed run of `cf` left of earlier trials of this instance."""
    trials = containers.listed(f"{LABEL_TRIAL}={instance}")
    for project in dict.fromkeys(trial.project for trial in trials):
        if project:
            _remove_project(project, None, timeout_s=1)
