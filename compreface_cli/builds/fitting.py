"""The builds whose embeddings compare with stored ones."""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli.builds import builds
from compreface_cli.plugin_table import same_calculator


def calculators() -> dict[str, str]:
    """The calculator of every build that can be named, the bundled default first."""
    return {
        each.name: each.data["calculator"]
        for each in builds.listed()
        if isinstance(each.data.get("calculator"), str)
    }


def fitting(calculator: str, known: Mapping[str, str]) -> list[str]:
    """Those of the builds `known`, with their calculators, that compute these embeddings."""
    return [name for name, own in known.items() if same_calculator(own, calculator)]
