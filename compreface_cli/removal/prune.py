"""`cf prune`: removes what `cf` made and nothing uses any more; keeps data and build files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial

from compreface_cli import leftovers
from compreface_cli.builds import builds
from compreface_cli.cleanup import interruptible
from compreface_cli.config import paths, settings
from compreface_cli.deploy import running
from compreface_cli.deploy.down import living
from compreface_cli.docker import belongings
from compreface_cli.engine import venv
from compreface_cli.errors import CfError, ConflictError, DockerError, UsageError
from compreface_cli.instance.records import Record
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.removal import models, rm, things
from compreface_cli.removal.things import Thing
from compreface_cli.terminal.output import Output


def prune(
    out: Output, *, yes: bool = False, dry_run: bool = False, only_models: bool = False
) -> tuple[Thing, ...]:
    """Remove images, environments, models and leftovers that no build and no instance uses.

    Lists them with their sizes and asks first, unless `yes` is set. Returns them.
    """
    with interruptible():
        with out.waiting("Looking for what nothing uses"):
            unused = tuple(_unused(out, only_models=only_models))
        if dry_run or not unused:
            return unused
        for line in ("To be removed:", *things.lines(unused)):
            out.note(line)
        if not yes:
            typed = out.ask("Remove these? [y/N] ")
            if typed is None:
                raise UsageError(
                    "removing needs a confirmation",
                    hint="Add --yes. To see what would be removed: --dry-run",
                )
            if typed.lower() not in ("y", "yes"):
                raise UsageError("nothing was removed")
        things.remove(unused, out)
    return unused


def _unused(out: Output, *, only_models: bool) -> Iterator[Thing]:
    records, damaged = running.instances().all()
    current, unreadable = _plans()
    if damaged:
        out.warning(
            f"the record of '{damaged[0].name}' is damaged: what it uses is not known, so images, "
            f"models and environments are kept. `cf rm --instance {damaged[0].name}` removes it"
        )
    elif not only_models:
        yield from _images(current, unreadable, records, out)
        yield from _environments(records)
    users = None if damaged else models.Users(current, records, unreadable)
    yield from models.unused(users)
    if only_models:
        return
    yield from _instances()
    for prefix in ("cf-build-", "cf-trial-", "cf-plan-"):
        for place in leftovers.sweep(prefix, only_look=True):
            size, remove = things.size_of(place), partial(leftovers.sweep, prefix)
            yield Thing("leftover", str(place), size, remove, "of a cf that was killed")


def _plans() -> tuple[list[Plan], dict[str, str]]:
    """The plan of each build, and the text of each build file that has a fault."""
    chosen = settings.resolve({})
    resolved, unreadable = [], {}
    for build in builds.listed():
        try:
            resolved.append(plan_of(str(build.name), chosen))
        except CfError:
            unreadable[build.name] = build.path.read_text("utf-8", errors="replace")
    return resolved, unreadable


def _images(
    current: list[Plan], unreadable: dict[str, str], records: list[Record], out: Output
) -> Iterator[Thing]:
    tags = {plan.image for plan in current}
    try:
        candidates = [
            image
            for image in belongings.images()
            if image.build not in unreadable and not tags.intersection(image.tags)
        ]
        removable, _ = rm.unused_images(candidates, records, why="of no build as it is now")
    except DockerError as error:
        out.note(f"Images were not looked for: {error.message}")
        return
    yield from removable


def _environments(records: list[Record]) -> Iterator[Thing]:
    """The engine's environments that neither an instance nor the next `up` uses."""
    home = paths.engine_environments_dir()
    used = {venv.inputs("cpu").key(), *(record.engine_env for record in records)}
    for folder in sorted(home.glob("*/")):
        if folder.name not in used:
            others = [path.name for path in home.glob("*/") if path != folder]
            remove = partial(venv.remove_unused, home, others)  # keeps one that is being made
            size = things.size_of(folder)
            yield Thing("environment", str(folder), size, remove, "of no instance")


def _instances() -> Iterator[Thing]:
    """Instance folders without a record and without a process."""
    store = running.instances()
    for folder in sorted(store.folder.glob("*/")):
        if (folder / "instance.json").exists() or living(folder.name):
            continue
        with suppress(ConflictError), store.lock(folder.name, "cf prune"):
            yield things.of_path("leftover", folder, why="of no instance")
