"""The engine of this machine, which builds the images that a Swarm gets, and one instance there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import cf, docker, embedded, stack
from tests.e2e.conftest import instance as instance
from tests.e2e.machine import REGISTRY, STACK, TAG
from tests.swarm.ground import ground
from tests.swarm.stack import Instance, started

__all__ = ["cf", "docker", "embedded", "instance", "stack"]


@pytest.fixture(scope="package")
def running(
    embedded: dict[str, Any], stack: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Instance]:
    """An instance on two nodes with one engine, and with a face that it knows."""
    images = {name: f"{REGISTRY}{name}:{TAG}" for name in STACK}
    folder = tmp_path_factory.mktemp("swarm")
    with ground(2) as swarm, started(swarm, folder, embedded["image"], images) as one:
        yield one
        print("\n| what was done | requests | failed | slowest s | seconds |")
        print("| --- | --- | --- | --- | --- |")
        for row in one.rows:
            print(row)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.docker)
