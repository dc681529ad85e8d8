"""What is known about the models of the catalogue: origin and licence (`builds` reads the rest)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("catalogue.yaml")


@dataclass(frozen=True, slots=True)
class About:
    """Where a model's weights were published, and on which terms."""

    what: str
    origin: str
    licence: str
    commercial: str  # allowed | unclear | excluded
    reason: str


def with_address(path: Path = PATH) -> frozenset[str]:
    """The models that an address gives; read line by line, as a list of builds is to be quick."""
    found, without, name = set(), set(), ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("  ") and line[2:3] not in (" ", "#", ""):
            name = line.strip().rstrip(":").strip('"')
            found.add(name)
        elif line.endswith("sources: []"):
            without.add(name)
    return frozenset(found - without)


@cache
def entries(path: Path = PATH) -> Mapping[str, Any]:
    """Each entry as it stands there, by model name, in the order of the file."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: Mapping[str, Any] = yaml.load(path.read_bytes(), Loader=loader)["models"]  # noqa: S506
    return found


def about(path: Path = PATH) -> Mapping[str, About]:
    """By model name, in the order of the file."""
    return {name: About(**entry["about"]) for name, entry in entries(path).items()}
