"""Fetches the files of a plan's models before anything is made, and takes the fallbacks."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from compreface_cli import plugin_table
from compreface_cli.deploy import downloads, licences
from compreface_cli.errors import UnreachableError
from compreface_cli.models import reach
from compreface_cli.models.accepted import Accepted
from compreface_cli.models.needed import Download
from compreface_cli.plan import fallbacks
from compreface_cli.plan.fallbacks import Replaced
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import joined
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

_DIGEST = re.compile(r"@sha256:[0-9a-f]{64}")


def fetched(
    plan: Plan, out: Output, accept_hash: Accepted | None = None
) -> tuple[Plan, tuple[Download, ...]]:
    """The plan once all files of its models are here, only to be prepared; and what was fetched.

    Says first how large the downloads are, and has the terms of the weights accepted. A plugin
    whose model no source delivers is replaced by its fallback, with a warning. Raises
    UnreachableError for another model, HardwareError where the disk is too small, and as
    `licences.agree` and `store.fetch` do.
    """
    if not plan.models:
        return plan, ()
    from compreface_cli.docker import image_files
    from compreface_cli.models import store

    needed: list[Download] = []
    note = once(out.note)
    while True:  # a fallback may need a model as well
        plan = _taken(plan, _nowhere(plan), out)
        hashes = accepted_hashes(plan, accept_hash or {})
        optional = fallbacks.optional(plan)
        # First what must be there: without it, the rest would be fetched in vain.
        models = sorted(plan.models, key=lambda model: model.name in optional)
        try:
            store.foresee(models, hashes, note=note)
            needed += _announced(plan, out)
            licences.of_plan(_with_own_terms(plan), out)
            missing = store.fetch(
                models, Heartbeat(out).progress,
                note=note, accept_hash=hashes, optional=optional, local=image_files.opened,
            )  # fmt: skip
        except UnreachableError as error:
            raise _out_of_reach(error, plan) from error
        if not missing:
            return plan, tuple(needed)
        plan = _taken(plan, {name: _reason(error) for name, error in missing.items()}, out)


def _reason(error: UnreachableError) -> str:
    """Why no source delivers, without the name of the file, which means little to a user."""
    if "unreached" in error.details:
        return reach.brief(error)
    reasons = error.details.get("attempts") or error.details.get("reasons")
    return _brief("; ".join(reasons) if reasons else error.message)


def _brief(text: str) -> str:
    """The reasons without the digests of images, each once: two images of a registry fail alike."""
    kept: list[str] = []
    for reason in _DIGEST.sub("", text).split("; "):
        if not any(each.endswith(reason) for each in kept):
            kept.append(reason)
    return "; ".join(kept)


def once(note: Callable[[str], None]) -> Callable[[str], None]:
    """`note` for texts that it has not had yet."""
    had: set[str] = set()

    def new(text: str) -> None:
        if text not in had:
            had.add(text)
            note(text)

    return new


def foreseen(plan: Plan, out: Output) -> tuple[Plan, tuple[Download, ...]]:
    """The same for a dry run, which asks no address: what is known to be missing, and the sizes."""
    if not plan.models:
        return plan, ()
    plan = _taken(plan, _nowhere(plan), out)
    return plan, _announced(plan, out)


def accepted_hashes(plan: Plan, given: Accepted) -> Accepted:
    """Those hashes without the ones for models that fallbacks have replaced."""
    gone = _gone(plan)
    return {name: hashes for name, hashes in given.items() if name not in gone}


def _gone(plan: Plan) -> set[str]:
    return {each.model for each in plan.replaced} - {model.name for model in plan.models}


def _with_own_terms(plan: Plan) -> Plan:
    """The plan that accepts no licence of a model which a fallback has replaced."""
    gone = _gone(plan)
    accepts = tuple(name for name in plan.accept_licence if name not in gone)
    return replace(plan, accept_licence=accepts)


def _nowhere(plan: Plan) -> dict[str, str]:
    """The optional models that are not here and have no address, and that as the reason."""
    from compreface_cli.models import store

    why = "it is not on this machine, and no address is known for it"
    optional = fallbacks.optional(plan)
    absent = [m.name for m in plan.models if m.name in optional and not store.obtainable(m)]
    return dict.fromkeys(absent, why)


def _announced(plan: Plan, out: Output) -> tuple[Download, ...]:
    needed = downloads.needed(plan)
    if needed:
        out.note(f"To be downloaded: {downloads.words(needed)}")
        downloads.require_room(needed)
    return needed


def _taken(plan: Plan, missing: Mapping[str, str], out: Output) -> Plan:
    """The plan with the fallbacks of these models, each reported with its reason."""
    if not missing:
        return plan
    made = fallbacks.without(plan, missing)
    for warning in warnings(made.replaced[len(plan.replaced) :], plan):
        out.warning(warning)
    return made


def warnings(replaced: Iterable[Replaced], plan: Plan) -> list[str]:
    """For each reason, what answers for which plugins, and how to get their models."""
    by_reason: dict[str, list[Replaced]] = {}
    for each in replaced:
        by_reason.setdefault(each.reason, []).append(each)
    return [
        f"{fallbacks.words(plugins)}, since {_models(plugins)} missing here: {reason}. "
        f"`cf up {_named(plan)}` tries again. {_way(plan)}"
        for reason, plugins in by_reason.items()
    ]


def _models(plugins: Iterable[Replaced]) -> str:
    names = list(dict.fromkeys(each.model for each in plugins))
    return f"models {joined(names, 'and')} are" if len(names) > 1 else f"model {names[0]} is"


def _out_of_reach(error: UnreachableError, plan: Plan) -> UnreachableError:
    """The error with the plugins that need the model, and the way without a network here."""
    model = str(error.details.get("model", ""))
    plugins = [
        plugin
        for plugin in (plan.detector, plan.calculator, *plan.plugins)
        if plugin_table.model_of(plugin) == model
    ]
    reason = _brief(error.message.removeprefix(f"model {model}: "))
    if reason.startswith(f"model {model} "):
        reason = reason.replace(f"model {model}", "it", 1)
    return UnreachableError(
        f"{joined(plugins, 'and')} cannot run without model {model}: {reason}",
        hint="\n".join(filter(None, (error.hint, _way(plan)))),
        details={**error.details, "model": model, "plugins": plugins},
    )


def _way(plan: Plan) -> str:
    return (
        f"Without a network here: `cf models pull {_named(plan)} -o DIR` on another machine, then "
        "CF_MODELS_MIRROR=DIR here."
    )


def _named(plan: Plan) -> str:
    """The build as commands take it: its name, or the path of its file."""
    return shlex.quote(plan.origins.get("build", plan.build))
