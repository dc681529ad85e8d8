"""Runs an instance as a Compose project, by the `docker compose` program."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from compreface_cli import leftovers
from compreface_cli.cleanup import CleanUp, Report, deferred
from compreface_cli.docker import belongings, cli, client, containers, image
from compreface_cli.docker.labels import LABEL_TRIAL, PROJECT
from compreface_cli.errors import CfError, UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint, Kind, ServiceState
from compreface_cli.launchers import compose_project, database, swap
from compreface_cli.launchers.launcher import STOP_TIMEOUT_S, LaunchInputs
from compreface_cli.plan.plan import Plan

CORE, API, DATABASE = "compreface-core", "compreface-api", "compreface-postgres-db"
ENGINE_PORT = 3000  # inside the container
_LOG_LINES = 12
_NGINX_S = 2.0  # nginx was seen to answer 1 to 2 s after the old one's end
_LOOKED_AT_AGAIN_S = 15.0  # interval and timeout of the health checks
MAX_RESTARTS = 3  # of a service other than the engine, until its database is there


class ComposeLauncher:
    """A container is ours when it carries the project's name and was started from its folder."""

    kind: Kind = "compose"

    def prepare(
        self, plan: Plan, inputs: LaunchInputs, undo: CleanUp, report: Report
    ) -> Deployment:
        if inputs.folder is None:
            raise CfError("the Compose launcher needs a project folder")
        folder = inputs.folder.absolute()
        before = belongings.volumes(f"{PROJECT}={plan.project}")
        undo.push(
            "the volumes made by this run", lambda: _remove_volumes(plan.project, keep=before)
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
                "volume": plan.volume if plan.services == "full" else None,
                "database": _database(plan),
                "calculator": remembered(plan),
            },
        )

    @contextmanager
    def trial(
        self, deployment: Deployment, report: Report
    ) -> Iterator[tuple[Endpoint, Callable[[], ServiceState]]]:
        _sweep_trials(deployment.instance)
        _hold_tag(deployment)
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
                    doing="start the new engine beside the running one",
                    on_line=lambda line: None,
                    timeout_s=120,
                )
                started = containers.of_project(project)
                if not started:
                    raise UnhealthyError("the new engine's container is gone right after its start")
                yield (
                    Endpoint("127.0.0.1", _published(started[0]), deployment.engine.key),
                    lambda: _look(project, CORE),
                )
            finally:
                with deferred():
                    _remove_project(project, None, timeout_s=2)

    def obstacle(
        self, before: Deployment, after: Deployment, *, rendered: str | None = None
    ) -> str:
        """Why the two engines cannot stand side by side; `rendered` as in `changes`."""
        if not (before.ui and after.ui):
            return "it runs without the UI, which passes its port on"
        if (_project(before), _folder(before)) != (_project(after), _folder(after)):
            return "it becomes another project"
        with compose_project.command_for(_project(after), _folder(after), rendered) as words:
            return swap.obstacle(compose_project.document(words), CORE)

    @contextmanager
    def beside(self, deployment: Deployment) -> Iterator[swap.Successor]:
        """The engine of `deployment` beside the running one; see `swap.beside`."""
        _hold_tag(deployment)
        with swap.beside(_of_swap(deployment)) as successor:
            yield successor

    def changes(
        self, deployment: Deployment, *, rendered: str | None = None, beside: bool = True
    ) -> Mapping[str, str]:
        """Service in short -> why `start` makes its container anew, or starts it.

        `rendered`: a compose.yaml that does not stand in the project's folder yet. `beside`: the
        engine is replaced beside the running one, which those that depend on it do not notice.
        """
        unnoticed = CORE if beside else ""
        project, folder = _project(deployment), _folder(deployment)
        with compose_project.command_for(project, folder, rendered) as words:
            found = compose_project.changes(project, folder, words, unnoticed=unnoticed)
        return {containers.short(service): why for service, why in found.items()}

    def start_seconds(self, deployment: Deployment) -> Mapping[str, float]:
        """How long each service took to be healthy at its last start, where Docker remembers."""
        found = {
            containers.short(item.service): containers.start_seconds(item)
            for item in containers.of_project(_project(deployment), str(_folder(deployment)))
        }
        known = {name: round(taken, 1) for name, taken in found.items() if taken is not None}
        if "fe" in known:  # its health check waits for the others, who asks it does not
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
        _hold_tag(deployment)
        self.tidy(deployment)
        before = {item.service: item.id for item in containers.of_project(project)}
        if before:
            for name in compose_project.rejoin(project, folder, _words(deployment)):
                report(f"  {name} is back in its network")
        try:
            if deployment.data.get("database"):
                database.ready(
                    deployment,
                    lambda service: _up(deployment, report, service, limit_s=limit_s),
                    report,
                    new_volume=new_volume,
                )
            _up(deployment, report, limit_s=limit_s)
        except CfError as failed:
            raise _with_service(failed, project, str(folder)) from failed
        if replacing is not None and replacing.data.get("calculator") != deployment.data.get(
            "calculator"
        ):
            now = {item.service: item.id for item in containers.of_project(project)}
            if API in now and now[API] == before.get(API):
                report("  restarting api: it keeps the old calculator's coefficients")
                cli.run("restart", now[API], doing="restart api", timeout_s=120)

    def tidy(self, deployment: Deployment, touched: Sequence[str] = ()) -> None:
        _sweep_trials(deployment.instance)
        found = containers.of_project(_project(deployment), str(_folder(deployment)))
        ending = [one.id for one in found if containers.short(one.service) in touched]
        if ending:
            # Each has its own time to end; a stop that Docker is already at is waited for.
            cli.run("stop", *ending, doing="end what was being ended", timeout_s=None)
        engines = _of_swap(deployment)
        if len(engines.engines()) > 1:
            swap.leave_one(engines, compose_project.hashes(_words(deployment)).get(CORE, ""))

    def resume(self, deployment: Deployment, report: Report) -> None:
        found = containers.of_project(_project(deployment), str(_folder(deployment)))
        paused = [item for item in found if item.state == "paused"]
        for item in paused:
            report(f"  {containers.short(item.service)} was paused; it goes on")
            cli.run("unpause", item.id, doing=f"unpause {item.name}")
        # Docker calls what is paused unhealthy, until the next look at it.
        ids, deadline = [item.id for item in paused], time.monotonic() + _LOOKED_AT_AGAIN_S
        while ids and time.monotonic() < deadline:
            if all(item.health != "unhealthy" for item in containers.inspect(*ids)):
                return
            time.sleep(0.5)

    def stop(self, deployment: Deployment, *, timeout_s: float = STOP_TIMEOUT_S) -> None:
        _sweep_trials(deployment.instance)
        _remove_project(_project(deployment), str(_folder(deployment)), timeout_s=timeout_s)

    def remove(self, deployment: Deployment) -> None:
        """Only the image, once it has lost its name to a newer one and serves no container."""
        if deployment.data.get("image"):
            image.drop_nameless(deployment.data["image"])

    def services(self, deployment: Deployment) -> tuple[ServiceState, ...]:
        several: dict[str, list[containers.Container]] = {}
        for item in containers.of_project(_project(deployment), str(_folder(deployment))):
            several.setdefault(item.service, []).append(item)
        found = {service: _of_several(items) for service, items in several.items()}
        wanted: Sequence[str] = deployment.data.get("services") or [CORE]
        names = sorted({*wanted, *found}, key=lambda name: (name != CORE, name))
        return tuple(
            found.get(name) or ServiceState(containers.short(name), "missing", "no container")
            for name in names
        )

    def logs(
        self, deployment: Deployment, *, tail: int, follow: bool, service: str | None = None
    ) -> Iterator[str]:
        chosen = []
        if service is not None:
            chosen = [n for n in deployment.data["services"] if service in (n, containers.short(n))]
            if not chosen:
                known = ", ".join(containers.short(n) for n in deployment.data["services"])
                raise CfError(f"there is no service '{service}'", hint=f"It has: {known}.")
        client.get("version")  # what the program says of an absent engine is no log line
        lines = cli.stream(
            *_words(deployment),
            "logs",
            "--no-color",
            f"--tail={tail}",
            *(["--follow"] if follow else []),
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
        volume = deployment.data.get("volume")
        if volume and volume in belongings.volumes(f"{PROJECT}={_project(deployment)}"):
            kept["volume"] = volume
        return kept


def _of_several(items: Sequence[containers.Container]) -> ServiceState:
    """What a service does: the container that runs, the first made; more than one is told."""
    one = min(items, key=lambda item: (item.state != "running", item.number))
    state = containers.service_state(one)
    if len(items) == 1:
        return state
    more = f"{state.name} has {len(items)} containers, and cf makes one"
    return replace(state, detail=", ".join(filter(None, (state.detail, more))))


def remembered(plan: Plan) -> list[str]:
    """What the api keeps of the engine until it is restarted, and what it comes from."""
    return [
        plan.calculator,
        *(sha for model in plan.models for file in model.files for sha in file.sha256),
        *(str(list(model.similarity)) for model in plan.models if model.similarity),
    ]


def _database(plan: Plan) -> dict[str, str] | None:
    """Who asks the project's own database, and for what; None when the services use another."""
    if plan.services != "full" or plan.stack["postgres_host"] != DATABASE:
        return None
    return {"user": plan.stack["postgres_user"], "name": plan.stack["postgres_db"]}


def _project(deployment: Deployment) -> str:
    return str(deployment.data["project"])


def _folder(deployment: Deployment) -> Path:
    return Path(deployment.data["folder"])


def _hold_tag(deployment: Deployment) -> None:
    """The project names a tag; make it mean the very image this deployment was proven with."""
    proven, tag = deployment.data.get("image"), deployment.data.get("tag")
    if proven and tag:
        cli.run("tag", proven, tag, doing=f"find the image {tag}")


def _words(deployment: Deployment) -> list[str]:
    """`docker compose` for its project."""
    return compose_project.command(_project(deployment), _folder(deployment))


def _of_swap(deployment: Deployment) -> swap.Project:
    return swap.Project(_words(deployment), _project(deployment), CORE, ENGINE_PORT)


def _up(
    deployment: Deployment, report: Report, *services: str, limit_s: float | None = None
) -> None:
    project, folder = _project(deployment), _folder(deployment)
    said: set[str] = set()

    def progress(line: str) -> None:
        if line in said:  # Compose repeats what others wait for
            return
        said.add(line)
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
        timeout_s=limit_s,  # images may have to be pulled; the watch sees what cannot end well
        on_line=progress,
        watch=CrashLoopWatch(project, str(folder)),
    )


def _engine_alone(deployment: Deployment, project: str) -> dict[str, Any]:
    """The engine as a project of its own: any loopback port, no restart, no other service."""
    document = compose_project.document(_words(deployment))
    core = dict(document["services"][CORE])
    for key in ("build", "depends_on", "container_name", "networks"):
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
        f"the new engine ended at once: {state.detail}",
        details={"log": containers.last_lines(container, _LOG_LINES)},
    )


def _look(project: str, service: str) -> ServiceState:
    for container in containers.of_project(project):
        if container.service == service:
            return containers.service_state(container)
    return ServiceState(containers.short(service), "missing", "its container is gone")


class CrashLoopWatch:
    """The error of a service that was seen crash-looping twice in a row; Compose would wait on."""

    def __init__(self, project: str, folder: str) -> None:
        self._where = (project, folder)
        self._suspects: frozenset[str] = frozenset()
        self._ended_before = self._starts()

    def __call__(self) -> CfError | None:
        try:
            found = containers.of_project(*self._where)
        except CfError:
            return None  # the command itself will say what is wrong with Docker
        suspects = {}
        for container in found:
            if self._ended_before.get(container.id) == container.details.get("StartedAt"):
                continue  # not started yet: it waits for what it depends on
            state = containers.service_state(container)
            limit = 0 if container.service == CORE else MAX_RESTARTS
            if state.restarts > limit or state.state == "failed":
                suspects[container.id] = state
        # Once is not enough: a container that is about to be replaced has ended, too.
        for id_, state in suspects.items():
            if id_ in self._suspects:
                return UnhealthyError(
                    f"the service {state.name} does not stay up: {state.detail}",
                    details={"service": state.name},
                )
        self._suspects = frozenset(suspects)
        return None

    def _starts(self) -> dict[str, Any]:
        """When those that do not run now were started last."""
        found = containers.of_project(*self._where)
        ended = [item for item in found if item.state not in ("running", "restarting")]
        return {item.id: item.details.get("StartedAt") for item in ended}


def _with_service(failed: CfError, project: str, folder: str) -> CfError:
    """The error of a start, with the service that failed, its cause and its last words."""
    try:
        found = containers.of_project(project, folder)
    except CfError:  # no engine, no more to tell
        return failed
    named = failed.details.get("service")
    for container in found:
        state = containers.service_state(container)
        # One that restarts again and again is between two ends when it is looked at: "starting".
        sick = (
            state.state in ("failed", "restarting") or state.healthy is False or state.restarts > 0
        )
        if state.name != named if named else not sick:
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
        )
    return failed


def _remove_volumes(project: str, *, keep: Sequence[str]) -> None:
    for name in belongings.volumes(f"{PROJECT}={project}"):
        if name not in keep:
            belongings.remove_volume(name)


def _remove_project(project: str, folder: str | None, *, timeout_s: float) -> None:
    """Remove containers and networks of the project; the database ends last, by its own signal."""
    found = containers.of_project(project, folder)
    database = [item.id for item in found if item.service == DATABASE]
    for batch in ([item.id for item in found if item.id not in database], database):
        if batch:
            cli.run(
                "stop",
                f"--time={max(1, round(timeout_s))}",
                *batch,
                doing=f"stop {project}",
                timeout_s=timeout_s + 60,
                check=False,  # gone already is fine; what stays shows below
            )
            cli.run("rm", "--force", *batch, doing=f"remove {project}", check=False)
    left = containers.of_project(project, folder)
    if left:
        names = ", ".join(item.name for item in left)
        raise CfError(f"these containers cannot be removed: {names}", hint="docker rm -f NAME")
    filters = {"label": [f"{PROJECT}={project}"]}
    for network in client.get("networks", filters=filters):
        # Docker itself refuses when a container of somebody else hangs on it.
        cli.run("network", "rm", network["Id"], doing="remove a network", check=False)


def _sweep_trials(instance: str) -> None:
    """Remove what a killed run of `cf` left of an earlier trial of this instance."""
    trials = containers.listed(f"{LABEL_TRIAL}={instance}")
    for project in dict.fromkeys(trial.project for trial in trials):
        if project:
            _remove_project(project, None, timeout_s=1)
