"""The checks before a start: gathers facts, decides the launcher, raises for failed findings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compreface_cli import checks, facts
from compreface_cli.builds import fitting
from compreface_cli.checks import Finding, calculator, model_files, swarm, volume
from compreface_cli.checks import database as of_database
from compreface_cli.checks.base import CONFIGURATION, fail
from compreface_cli.config import paths
from compreface_cli.deploy import (
    database_elsewhere,
    existing_data,
    ports,
    project_folder,
    running,
    shares,
    unfinished,
)
from compreface_cli.errors import ConfigurationError
from compreface_cli.facts import database
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.models.needed import Download
from compreface_cli.plan.operations import Options
from compreface_cli.plan.plan import KEYS_WAY_OUT, Plan, with_launcher
from compreface_cli.terminal.output import Output
from compreface_cli.topics import Topic

KEYS = Topic(
    "api-keys",
    means="API keys are set for an engine behind the full stack.",
    why="CompreFace's api sends no key to the engine, so that it would be refused.",
    see="`cf config list` shows where `api_keys` is set.",
    ways=(
        "Leave the keys out: beside the full stack the engine is on loopback only.",
        "Start the engine alone: `cf up --services core`.",
    ),
)


@dataclass(frozen=True, slots=True)
class Preflight:
    """The result: `plan` with launcher and ports decided; `findings` of all levels."""

    plan: Plan
    choice: checks.Choice
    facts: facts.Facts
    findings: tuple[Finding, ...]
    downloads: tuple[Download, ...] = ()  # for the models

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warn")


def inspect(
    plan: Plan,
    old: Record | None,
    options: Options,
    out: Output,
    *,
    left: Sequence[Deployment] = (),
    giving_way: frozenset[str] = frozenset(),
    other_data: bool = False,
) -> Preflight:
    """Check the plan on this host; raises PreflightError with all failed findings.

    `old` is the record of the instance. `left`: the deployments that an interrupted run left of it.
    `giving_way`: ids of containers that stop before it starts.
    `other_data`: it will start on another database than the one that is there now.
    """
    if plan.data is not None and not options.dry_run:
        existing_data.obtain_image(plan, out)
    with out.waiting("Checking this machine"):
        before = [running.deployment(old)] if old is not None and old.deployment else []
        own = replace(_own(plan, old, [*before, *left], options), giving_way=giving_way)
        seen, choice = _ask(plan, own)
        if plan.launcher == "auto":
            _say_choice(choice, out)
        settled = with_launcher(plan, choice.kind) if plan.launcher == "auto" else plan
        settled = swarm.published(settled, seen)
        if volume.in_doubt(settled, seen, own):
            seen = replace(
                seen,
                database=into_volume(settled, seen, giving_way),
                calculators=fitting.calculators(),
            )
        seen = replace(seen, elsewhere=database_elsewhere.look(settled, seen))
        findings = checks.preflight(settled, seen, own)
        say([finding for finding in findings if finding.level == "warn"], out)
        asked = before and before[0].launcher != "swarm" and before[0].engine.key
        if asked and not plan.api_keys:
            out.warning(f"instance '{plan.instance}' asked for API keys and will ask for none now.")
        if old is not None:
            findings += calculator.judge(settled, seen, old)
        findings += [*_keys(settled), *model_files.out_of_reach(plan)]
        if not other_data:
            findings += _schema(settled, seen, old)
    checks.raise_for(findings)
    if settled.launcher == "compose":
        project_folder.refuse_broken(settled)
    return Preflight(shares.settled(ports.settled(settled, old)), choice, seen, tuple(findings))


def _ask(plan: Plan, own: checks.OwnedResources) -> tuple[facts.Facts, checks.Choice]:
    """The facts that the checks need, and the launcher; probe containers are removed."""
    folders = [paths.data_dir(), paths.state_dir(), *([paths.cache_dir()] if plan.models else [])]
    if plan.launcher != "process":
        folders.append(paths.project_dir(plan.instance))
    seen = facts.gather(checks.questions(plan, folders))
    return seen, checks.choose(plan, seen, own)


def _own(
    plan: Plan, old: Record | None, deployments: Sequence[Deployment], options: Options
) -> checks.OwnedResources:
    """The resources of the instance itself, which are no conflict."""
    # Containers started from this user's folder of that name are the instance's, even unrecorded.
    folder = str(paths.project_dir(plan.instance))
    pids: frozenset[int] = frozenset()
    for known in deployments:
        if known.launcher == "process":
            pids |= _pids(known)
        else:
            folder = str(known.data["folder"])
    return checks.OwnedResources(
        folder,
        pids,
        calculator=old.calculator if old is not None and old.services == "full" else "",
        postgres_image=str((old.plan.get("stack") or {}).get("postgres_image", "")) if old else "",
        others=other_instances(plan.instance),
        may_build=options.build is not False,
        must_build=options.build is True,
        stack=any(known.launcher == "swarm" for known in deployments),
        bind_mounts=project_folder.unlabelled(Path(folder)),
        database=_works_on(old),
    )


def _works_on(old: Record | None) -> str:
    """The database elsewhere that services of the instance itself are connected to."""
    return database_elsewhere.of_record(old) if old is not None and old.phase != "stopped" else ""


def other_instances(but: str) -> tuple[checks.OtherInstance, ...]:
    """The other instances of this user that run or are being started."""
    others = []
    for record in running.instances().all()[0]:
        if record.name == but or record.phase == "stopped" or not record.deployment:
            continue
        try:
            known = running.deployment(record)
        except ConfigurationError:
            continue  # a damaged record names no ports
        deployments = unfinished.deployments(record) if record.unfinished else [known]
        ends = [end for each in deployments for end in (each.engine, each.ui)]
        taken = frozenset(end.port for end in ends if end is not None)
        if known.launcher == "process":
            others.append(checks.OtherInstance(record.name, taken, pids=_pids(known)))
        else:
            folder = str(known.data.get("folder", ""))
            works_on = database_elsewhere.of_record(record)
            others.append(
                checks.OtherInstance(record.name, taken, folder=folder, database=works_on)
            )
    return tuple(others)


def _pids(process: Deployment) -> frozenset[int]:
    services = running.launcher("process").services(process)
    return frozenset(service.pid for service in services if service.pid is not None)


def into_volume(
    plan: Plan, seen: facts.Facts, giving_way: frozenset[str] = frozenset()
) -> database.DatabaseFacts | None:
    """The contents of the plan's volume, from its running database or at rest; None: neither.

    `giving_way`: ids of containers whose database is the instance's, too.
    """
    if seen.docker is None or not seen.docker.reachable:
        return None
    users = [each for each in seen.docker.containers if plan.volume in each.volumes and each.active]
    own = (
        each
        for each in users
        if (each.project == plan.project or each.id in giving_way) and each.state == "running"
    )
    runs, image = next(own, None), plan.stack["postgres_image"]
    here = seen.docker.image(image)
    if runs is not None:
        contents = database.look(runs.id)
        if here is None or here.id == runs.image:
            return contents
        folder = database.folder_in(runs.id)
        return replace(contents, written_by=folder.written_by, server=database.server_of(image))
    if users or here is None:
        return None
    folder = database.folder_of(plan.volume, image)
    wrote, server = folder.written_by, folder.server
    if folder.error:
        return database.DatabaseFacts(folder.error)
    if wrote and server and wrote != server:
        return database.DatabaseFacts(
            f"PostgreSQL {wrote} wrote it", written_by=wrote, server=server
        )
    if of_database.holds_nothing(folder):
        return database.DatabaseFacts(collections=())
    contents = database.at_rest(plan.volume, image, plan.stack["postgres_db"])
    return replace(contents, written_by=wrote, server=server)


def _schema(plan: Plan, seen: facts.Facts, old: Record | None) -> Iterator[Finding]:
    """The refusal of an admin that is older than the schema of the running database."""
    admin = plan.stack_images.get("compreface-admin", "")
    if seen.elsewhere is not None and seen.elsewhere.contents is not None:
        from compreface_cli.launchers.database import newer_schema

        finding = newer_schema(plan.instance, admin, seen.elsewhere.contents.changes)
        yield from filter(None, (finding,))
        return
    before = (old.deployment.get("data") or {}) if old is not None else {}
    if not admin or (before.get("images") or {}).get("compreface-admin") == admin:
        return  # the start itself asks a database that does not run yet
    from compreface_cli.launchers.database import SERVICE, newer_schema

    listed = seen.docker.containers if seen.docker else ()
    own = (each for each in listed if each.project == plan.project and each.state == "running")
    runs = next((each for each in own if each.service == SERVICE), None)
    if runs is not None:
        finding = newer_schema(plan.instance, admin, database.look(runs.id).changes)
        yield from filter(None, (finding,))


def say(warnings: Sequence[Finding], out: Output) -> None:
    """Print the findings on stderr, each as one warning."""
    for finding in warnings:
        said = f"{finding.message}. {finding.hint}".rstrip(". ") + "."
        out.warning(f"{said} [{finding.id}]")


def _say_choice(choice: checks.Choice, out: Output) -> None:
    left_out = f"; {choice.leaves_out}" if choice.leaves_out else ""
    out.note(f"Launcher: {choice.kind}, because {choice.reason}{left_out}")
    if os.environ.get("CF_DEBUG") and choice.detail:
        out.note(f"  {choice.detail}")


def _keys(plan: Plan) -> Iterator[Finding]:
    if fault := plan.keys_fault():
        yield fail(
            "api keys",
            CONFIGURATION,
            fault,
            KEYS_WAY_OUT,
            topic=KEYS,
        )
