"""Speed and memory of builds relative to the default build, as `make bench` measured them.

The figures are `builds/measured.json`, which `python -m bench builds --write` writes. They hold for
the parts of a build that were measured, under whatever name, and for the machine of the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compreface_cli import plugin_table, resources

FILE = "measured.json"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where and when all figures were measured, in one run."""

    cpu: str
    cores: int
    date: str  # ISO 8601

    def __str__(self) -> str:
        return f"{self.cpu}, {self.cores} cores, {self.date}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a build divided by those of the default build; `how`: what differed from it."""

    speed: float  # scans a second at eight connections, a scan being detection and embeddings
    speed_alone: float  # the same at one connection
    memory: float | None  # resident set size after the scans; None: a plugin's model was not here
    how: str = ""  # as "seeded weights"; "": with its own weights


def parts(build: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a build file's data that its speed and memory depend on."""
    return {
        "detector": build.get("detector"),
        "calculator": build.get("calculator"),
        "plugins": build.get("plugins", list(plugin_table.UI_PLUGINS)),
        "runtime": build.get("runtime", "onnxruntime"),
        "precision": build.get("precision", "auto"),
        "device": build.get("device", "cpu"),
        "limits": build.get("limits") or {},
    }


def machine() -> Machine:
    return Machine(**_document(path())["machine"])


def of(build: Mapping[str, Any]) -> Measured | None:
    """The figures of a build file's data; None if these parts were not measured."""
    wanted = parts(build)
    for row in _document(path())["builds"]:
        if row["parts"] == wanted:
            return Measured(**row["figures"])
    return None


def path() -> Path:
    return resources.builds_dir() / FILE


@cache
def _document(path: Path) -> Mapping[str, Any]:
    document: Mapping[str, Any] = json.loads(path.read_bytes())
    return document
