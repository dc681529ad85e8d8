"""The engine of this machine, which builds the images that a Swarm gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import cf, docker, embedded, instance, stack

__all__ = ["cf", "docker", "embedded", "instance", "stack"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.docker)
