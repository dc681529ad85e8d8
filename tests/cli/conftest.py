"""A `cf` with empty folders for the tests that run it, and the engine's environment they share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from compreface_cli.engine.venv import EngineEnv
from tests.cli.local_cf import LocalCf, shared_environment


@pytest.fixture(scope="session")
def engine_environment() -> EngineEnv:
    """Made once; kept for the next run of the tests."""
    return shared_environment()


@pytest.fixture
def local_cf(tmp_path: Path, engine_environment: EngineEnv) -> Iterator[LocalCf]:
    """`cf` in an empty home; what it started is ended after the test."""
    cf = LocalCf(tmp_path, engine_environment)
    try:
        yield cf
    finally:
        cf.sweep()
