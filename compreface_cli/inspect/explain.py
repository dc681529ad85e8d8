"""`cf explain`: every topic that a finding, an error or a line of a log can name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from importlib import import_module

from compreface_cli import checks
from compreface_cli.errors import UsageError
from compreface_cli.topics import Topic

# Beside the checks: each module that defines a topic for its own errors and warnings.
MODULES = (
    "causes.docker",
    "causes.pip",
    "causes.registry",
    "deploy.licences",
    "deploy.preflight",
    "deploy.reasons",
    "deploy.render_place",
    "deploy.running",
    "engine.known_answer",
    "launchers.database",
    "launchers.rollout",
)
_NEAR = 0.5  # at least so similar, from 0 to 1, is a name that may have been meant


def topics() -> list[Topic]:
    """All topics, ordered by their IDs."""
    known = {topic.id: topic for module in modules() for topic in _of(module)}
    return [known[id_] for id_ in sorted(known)]


def modules() -> list[str]:
    """The modules that define topics, below `compreface_cli`."""
    of_checks = [f"checks.{each.name}" for each in pkgutil.iter_modules(checks.__path__)]
    return [*of_checks, *MODULES]


def chosen(ids: Sequence[str]) -> list[Topic]:
    """The topics of these IDs, in their order; UsageError for an unknown one, with near ones."""
    known = {topic.id: topic for topic in topics()}
    for id_ in ids:
        if id_ not in known:
            near = _near(id_, list(known))
            meant = f"Perhaps: {', '.join(near)}. " if near else ""
            raise UsageError(
                f"there is no finding '{id_}'",
                hint=f"{meant}`cf explain` lists all.",
                details={"near": near},
            )
    return [known[id_] for id_ in ids]


def _near(id_: str, known: Sequence[str]) -> list[str]:
    """Those that contain the word, then those that are written alike; five at most."""
    word = id_.strip("[]`.,").lower()
    within = [each for each in known if word in each] if len(word) > 2 else []
    alike = get_close_matches(word, known, n=5, cutoff=_NEAR)
    return list(dict.fromkeys([*within, *alike]))[:5]


def _of(module: str) -> Iterator[Topic]:
    for value in vars(import_module(f"compreface_cli.{module}")).values():
        if isinstance(value, Topic):
            yield value
