"""Has the user accept the terms of weights before they are fetched, once for all of a run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict

from compreface_cli.checks.base import Finding, warn
from compreface_cli.errors import FetchError, UsageError
from compreface_cli.models import consent, licence, store
from compreface_cli.models.entry import Model
from compreface_cli.models.licence import Terms
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output, one_line
from compreface_cli.topics import Topic

_FLAG = "--accept-licence"
_QUESTION = "Accept these terms? [y/N] "

TERMS = Topic(
    "licence-not-accepted",
    means="Weights that the build needs have terms that were not accepted yet on this machine.",
    why="They are fetched only afterwards.",
    see="`cf models list` shows the licence of each model.",
    ways=(
        "`cf up` asks on a terminal; elsewhere give `--accept-licence NAME` or "
        "`--accept-licence all`.",
        "Use a build with weights of other terms: `cf list-builds`.",
    ),
)


def of_plan(plan: Plan, out: Output) -> None:
    """Have the terms of the plan's models accepted; raises as `agree` does."""
    agree(plan.models, terms_of(plan), plan.accept_licence, _origin(plan), out)


def foresee(plan: Plan) -> list[Finding]:
    """A warning of a dry run: the terms that the run itself would ask about."""
    due = _due(plan.models, terms_of(plan), store.fetches)
    left = {name: terms for name, terms in due.items() if not _covers(plan.accept_licence, name)}
    if not left:
        return []
    said = "; ".join(_lines(left))
    return [
        warn(
            "licence",
            f"the terms of weights that would be fetched are not accepted yet: {said}",
            f"`cf up` asks about them on a terminal; elsewhere it needs {_flags(left)}",
            topic=TERMS,
        )
    ]


def terms_of(plan: Plan) -> dict[str, Terms]:
    """The terms of each of the plan's models, by name."""
    plugins = (plan.detector, plan.calculator, *plan.plugins)
    known = licence.of(plugins, plan.licence)
    return {model.name: known[model.name] for model in plan.models}


def agree(
    models: Sequence[Model],
    terms: Mapping[str, Terms],
    accepts: Collection[str],
    origin: str,
    out: Output,
    *,
    fetches: Callable[[Model], bool] = store.fetches,
    done: str = "fetched",
) -> None:
    """Have the terms of those models accepted that would be fetched, and record it.

    `accepts`: the models, or `all`, that the user accepts by the flag or setting `origin`. The
    others are asked about in one question on a terminal. Raises FetchError for terms that are not
    accepted, UsageError if the flag names another model; nothing was fetched then.
    `fetches`: whether a model's weights would be fetched; `done`: the word for it in messages.
    """
    others = [name for name in accepts if name != consent.ALL and name not in terms]
    if others and _is_flag(origin):
        raise UsageError(
            f"{_FLAG}: {', '.join(others)} is not a model of this build",
            hint="Models of this build: " + (", ".join(terms) or "none."),
        )
    due = _due(models, terms, fetches)
    given = {name: each for name, each in due.items() if _covers(accepts, name)}
    left = {name: each for name, each in due.items() if name not in given}
    if given:
        out.note(f"Terms that you accept, before their weights are {done}:")
        for line in _lines(given):
            out.note(f"  {line}")
    if left and not _asked(left, done, out):
        raise FetchError(
            f"the terms of these weights are not accepted, so nothing was {done}:\n"
            + "\n".join(f"  {line}" for line in _lines(left)),
            hint=f"If you accept them: {_flags(due)} (or `{_FLAG} {consent.ALL}`, or the setting "
            "accept_licence). Weights in a mirror folder or beside the build file are not asked "
            "about.",
            details={"licences": {name: asdict(each) for name, each in left.items()}},
        )
    if given:
        consent.keep(given, origin, consent.path())
    if left:
        consent.keep(left, "answered on a terminal", consent.path())


def _asked(left: Mapping[str, Terms], done: str, out: Output) -> bool:
    """Whether the user accepts; False without a terminal."""
    question = [
        f"Weights will be {done} that exclude commercial use, or leave it unclear:",
        *(f"  {line}" for line in _lines(left)),
        _QUESTION,
    ]
    answer = out.ask("\n".join(question))
    return answer is not None and answer.lower() in ("y", "yes")


def _due(
    models: Sequence[Model], terms: Mapping[str, Terms], fetches: Callable[[Model], bool]
) -> dict[str, Terms]:
    due = consent.due(terms, consent.path())
    if not due:
        return {}
    return {m.name: due[m.name] for m in models if m.name in due and fetches(m)}


def _covers(accepts: Collection[str], name: str) -> bool:
    return name in accepts or consent.ALL in accepts


def _flags(names: Collection[str]) -> str:
    return f"{_FLAG} {','.join(names)}"


def _lines(terms: Mapping[str, Terms]) -> Iterator[str]:
    """`a, b: excluded; LICENCE; REASON` for each kind of terms."""
    grouped: dict[Terms, list[str]] = {}
    for name, each in terms.items():
        grouped.setdefault(each, []).append(name)
    for each, names in grouped.items():
        yield one_line(f"{', '.join(names)}: commercial use {each}")


def _origin(plan: Plan) -> str:
    return plan.origins.get("accept_licence", "default")


def _is_flag(origin: str) -> bool:
    return origin.startswith("flag ")
