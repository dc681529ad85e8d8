"""What is known about the models of the catalogue: origin and licence (`builds` reads the rest)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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


def about(path: Path = PATH) -> Mapping[str, About]:
    """By model name, in the order of the file."""
    import yaml

    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: About(**entry["about"]) for name, entry in document["models"].items()}
