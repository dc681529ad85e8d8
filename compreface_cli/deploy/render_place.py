"""Checks the folder of `cf render`: not another instance's, not with another calculator's data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compreface_cli import facts
from compreface_cli.checks import OwnedResources, raise_for, volume
from compreface_cli.checks.base import CONFLICT, DATA, Finding, fail
from compreface_cli.config import paths
from compreface_cli.deploy import preflight, running
from compreface_cli.plan.plan import Plan
from compreface_cli.project import writer
from compreface_cli.terminal.output import Output
from compreface_cli.topics import Topic

NAME = "folder"

ANOTHER_INSTANCE = Topic(
    "folder-other-instance",
    means="The folder holds the rendered project of another instance.",
    why="Its containers would be recreated under another name, with another, empty volume.",
    see="`grep ^name: FOLDER/compose.yaml`.",
    ways=(
        "Render into another folder.",
        "Render the same instance anew: `--instance NAME`.",
    ),
)

OTHER_CALCULATOR = Topic(
    "folder-other-calculator",
    means="The folder was rendered for another calculator than the build computes.",
    why="The database that runs from it, here or on another machine, may hold embeddings "
    "that cannot be compared.",
    see="`grep -i calculator FOLDER/compose.yaml`.",
    ways=(
        "Render into another folder, as another instance: `--instance NAME`.",
        "Remove the folder first if nothing was stored yet.",
    ),
)


def refuse(plan: Plan, folder: Path, out: Output, *, on_docker: bool = True) -> None:
    """Raise PreflightError for what must not be mixed; warn of a password that is not known.

    `on_docker`: the project's volume is one of Docker, so that this machine's matter.
    """
    held = writer.rendered_for(folder)
    raise_for(list(_another_instance(plan, folder, held)))
    if plan.services != "full":
        return
    if not on_docker:
        if held.calculator not in ("", plan.calculator):
            raise_for([_another_calculator(plan, folder, held.calculator)])
        return
    seen = facts.gather(facts.Questions())
    known = held.calculator or _recorded(plan)
    own = OwnedResources(str(folder.absolute()), calculator=known)
    if volume.in_doubt(plan, seen, own):
        seen = replace(seen, database=preflight.into_volume(plan, seen))
    judged = list(volume.check(plan, seen, own))
    refused = [finding for finding in judged if finding.code == DATA]
    if not judged and held.calculator not in ("", plan.calculator):
        refused.append(_another_calculator(plan, folder, held.calculator))
    raise_for(refused)
    warn_of_password(plan, folder, seen, out)


def warn_of_password(plan: Plan, folder: Path, seen: facts.Facts, out: Output) -> None:
    """Say that the volume is there and its password is not, if that is so."""
    volumes = seen.docker.volumes if seen.docker else ()
    here = any((each.name, each.project) == (plan.volume, plan.project) for each in volumes)
    known = writer.rendered_for(folder).password or "postgres_password" in plan.secrets
    if plan.services == "full" and here and not known:
        _say_password(plan, out)


def _another_instance(plan: Plan, folder: Path, held: writer.RenderedFor) -> list[Finding]:
    """A fail if the folder is another instance's, whose containers would get another volume."""
    place = folder.resolve()
    home = paths.project_dir(plan.instance).resolve()
    theirs = held.instance
    if place != home and place.parent == home.parent:
        theirs = place.name
    if theirs in ("", plan.instance):
        return []
    return [
        fail(
            NAME,
            CONFLICT,
            f"{folder} is the project of the instance '{theirs}', and this one is "
            f"'{plan.instance}': its containers would get another volume",
            f"Render into another folder, or the same instance anew: --instance {theirs}",
            topic=ANOTHER_INSTANCE,
        )
    ]


def _another_calculator(plan: Plan, folder: Path, calculator: str) -> Finding:
    """The fail for a folder without a volume on this machine; it may be on another one."""
    return fail(
        NAME,
        DATA,
        f"{folder} was rendered for {calculator}; this build computes embeddings of "
        f"{plan.calculator}, which do not compare with them",
        "Render into another folder, as another instance (--instance NAME). If nothing was stored "
        f"yet, remove the folder first: rm -r {folder}",
        topic=OTHER_CALCULATOR,
    )


def _recorded(plan: Plan) -> str:
    record = running.instances().load(plan.instance)
    return record.calculator if record is not None and record.services == "full" else ""


def _say_password(plan: Plan, out: Output) -> None:
    env = paths.project_dir(plan.instance) / ".env"
    where = f"; it stands in {env}" if env.is_file() else ""
    out.warning(
        f"the volume {plan.volume} exists already, and its database keeps the password it was made "
        f"with: give that one (CF_POSTGRES_PASSWORD=...){where}. The folder has a new one."
    )
