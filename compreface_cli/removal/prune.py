"""`cf prune`: what `cf` made and nothing uses any more; data and builds stay."""

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
from compreface_cli.removal import consent, rm
from compreface_cli.removal.consent import Thing
from compreface_cli.terminal.output import Output


def prune(out: Output, *, yes: bool = False, dry_run: bool = False) -> tuple[Thing, ...]:
    """Remove images, environments, models and leftovers that no build and no instance uses.

    What goes is said with its size, and asked for; `yes` is the answer given before.
    """
    with interruptible():
        with out.waiting("Looking what nothing uses"):
            found = tuple(_found(out))
        if dry_run or not found:
            return found
        for line in ("To be removed:", *consent.lines(found)):
            out.note(line)
        if not yes:
            typed = out.ask("Remove these? [y/N] ")
            if typed is None:
                raise UsageError(
                    "nothing is removed without an answer",
                    hint="Add --yes. To see first what goes: --dry-run",
                )
            if typed.lower() not in ("y", "yes"):
                raise UsageError("nothing was removed")
        consent.remove(found, out)
    return found


def _found(out: Output) -> Iterator[Thing]:
    records, damaged = running.instances().all()
    wanted, unclear = _plans()
    if damaged:
        out.warning(
            f"the record of '{damaged[0].name}' is damaged: what it uses is not known, so images, "
            f"models and environments stay. `cf rm --instance {damaged[0].name}` removes it"
        )
    else:
        yield from _images(wanted, unclear, records, out)
        yield from _environments(records)
        yield from _models(wanted, unclear, records)
    yield from _instances()
    for prefix in ("cf-build-", "cf-trial-", "cf-plan-"):
        for place in leftovers.sweep(prefix, only_look=True):
            size, remove = consent.size_of(place), partial(leftovers.sweep, prefix)
            yield Thing("leftover", str(place), size, remove, "of a cf that was killed")


def _plans() -> tuple[list[Plan], dict[str, str]]:
    """What each build would be now, and the text of those that cannot be read."""
    chosen = settings.resolve({})
    found, unclear = [], {}
    for one in builds.listed():
        try:
            found.append(plan_of(str(one.name), chosen))
        except CfError:
            unclear[one.name] = one.path.read_text("utf-8", errors="replace")
    return found, unclear


def _images(
    wanted: list[Plan], unclear: dict[str, str], records: list[Record], out: Output
) -> Iterator[Thing]:
    current = {plan.image for plan in wanted}
    try:
        loose = [
            image
            for image in belongings.images()
            if image.build not in unclear and not current.intersection(image.tags)
        ]
        gone, _ = rm.unused_images(loose, records, why="of no build as it is now")
    except DockerError as absent:
        out.note(f"Images were not looked for: {absent.message}")
        return
    yield from gone


def _environments(records: list[Record]) -> Iterator[Thing]:
    """The engine's environments that neither an instance nor the next `up` takes."""
    home = paths.engine_environments_dir()
    used = {venv.inputs("cpu").key(), *(record.engine_env for record in records)}
    for folder in sorted(home.glob("*/")):
        if folder.name not in used:
            others = [path.name for path in home.glob("*/") if path != folder]
            remove = partial(venv.remove_unused, home, others)  # not one that is being made
            size = consent.size_of(folder)
            yield Thing("environment", str(folder), size, remove, "of no instance")


def _models(wanted: list[Plan], unclear: dict[str, str], records: list[Record]) -> Iterator[Thing]:
    """Prepared models and fetched files that no build names."""
    used = {model.name for plan in wanted for model in plan.models}
    used |= {
        str(model.get("name")) for record in records for model in record.plan.get("models", ())
    }
    why = "of no build"
    for kind, home in (
        ("prepared model", paths.models_dir()),
        ("fetched model", paths.cache_dir() / "weights"),
    ):
        for folder in sorted(home.glob("[!.]*/")):
            name = folder.name
            if name not in used and not any(name in text for text in unclear.values()):
                yield consent.path(kind, folder, why=why)


def _instances() -> Iterator[Thing]:
    """Folders of instances that have no record, and no process."""
    store = running.instances()
    for folder in sorted(store.folder.glob("*/")):
        if (folder / "instance.json").exists() or living(folder.name):
            continue
        with suppress(ConflictError), store.lock(folder.name, "cf prune"):
            yield consent.path("leftover", folder, why="of no instance")
