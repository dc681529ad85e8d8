"""The cluster, a rendered chart with the images of the tests, and the table of what was seen."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import docker, embedded, misbehaving, stack
from tests.e2e.load import Load, Result
from tests.e2e.machine import REGISTRY, STACK, TAG, Cf, Docker
from tests.kubernetes.ground import STATE, Cluster, Namespace, why_not
from tests.kubernetes.release import Release

__all__ = ["docker", "embedded", "stack"]

CONNECTIONS = 8


@dataclass
class Row:
    """A line of the table: what was done under load, and what became of the requests."""

    done: str
    result: Result
    seconds: float

    def __str__(self) -> str:
        one = self.result
        return (
            f"| {self.done} | {one.sent} | {one.failed} | {one.slowest_s:.1f} "
            f"| {self.seconds:.1f} |{self._away()}"
        )

    def _away(self) -> str:
        """From the start of the first failed request to the end of the last one."""
        failures = self.result.failures
        if not failures:
            return ""
        first = min(each.at_s - each.took_s for each in failures)
        return f" failed for {max(each.at_s for each in failures) - first:.1f} s"


_table: list[Row] = []
_notes: list[str] = []


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The real cluster; tests that need it are skipped by name where it cannot be had."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    one = Cluster()
    one.up()
    try:
        yield one
    finally:
        one.down()


@pytest.fixture(scope="session")
def render(
    cluster: Cluster,
    docker: Docker,
    embedded: dict[str, Any],
    stack: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Renders the embedded build for a target, with images that the node has; gives the folder."""
    cluster.load(embedded["image"], *(f"{REGISTRY}{name}:{TAG}" for name in STACK))

    def rendered(target: str, *more: str, **environment: str) -> Path:
        folder = tmp_path_factory.mktemp(target)
        cf = Cf(folder / "cf")
        cf.environment |= {**stack, **environment}
        cf.ok("render", "embedded", "--target", target, "-o", str(folder / "out"), *more)
        return folder / "out"

    return rendered


@pytest.fixture(scope="session")
def chart(render: Callable[..., Path]) -> Path:
    return render("helm")


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[Namespace]:
    with cluster.namespace() as one:
        yield one


@pytest.fixture(scope="module")
def started(
    cluster: Cluster, chart: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Release]:
    """A release that is up and knows a face, for the tests of one module."""
    folder = tmp_path_factory.mktemp("release")
    shutil.copytree(chart, folder, dirs_exist_ok=True)
    with cluster.namespace() as here:
        one = Release(here, "faces", folder)
        began = time.monotonic()
        one.upgrade()
        _notes.append(f"installed, all pods ready after {time.monotonic() - began:.0f} s")
        one.learn()
        yield one


@pytest.fixture
def release(started: Release) -> Release:
    """The release with one engine, whatever a test before has done."""
    if len(started.engines()) != 1 or not started.answers():
        started.values = {}
        started.upgrade(engine={"replicas": 1, "autoscaling": {"enabled": False}})
        started.engines_are(1)
    return started


@pytest.fixture
def under_load() -> Callable[..., Result]:
    """Does something while people recognise, and gives what became of their requests."""

    def load(
        release: Release, done: str, do: Callable[[Load], object], connections: int = CONNECTIONS
    ) -> Result:
        one = release.recognising(connections)
        one.start()
        try:
            one.answered(2 * connections)
            began = time.monotonic()
            do(one)
            seconds = time.monotonic() - began
            one.answered(2 * connections, timeout_s=180)
        finally:
            result = one.stop()
        _table.append(Row(done, result, seconds))
        return result

    return load


@pytest.fixture(scope="session")
def another_image(cluster: Cluster, docker: Docker, embedded: dict[str, Any]) -> str:
    """The engine's image under another name and with another label, as a new version has."""
    tag = docker.own_name("newer")
    folder = STATE / "newer"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f"FROM {embedded['image']}\nLABEL cf.tests=newer\n")
    docker.build(folder, tag)
    cluster.load(tag)
    return tag


@pytest.fixture(scope="session")
def unready_image(cluster: Cluster, docker: Docker) -> str:
    """An engine that starts and never gets ready."""
    image = misbehaving(docker, "unhealthy")
    cluster.load(image)
    return image


def note(text: str) -> None:
    """A line under the table."""
    _notes.append(text)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.kubernetes)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not _table and not _notes:
        return
    terminalreporter.section("seen on the cluster, under load through the UI's port and the api")
    terminalreporter.line("| what was done | requests | failed | slowest s | seconds |")
    for row in _table:
        terminalreporter.line(str(row))
    for line in _notes:
        terminalreporter.line(line)
