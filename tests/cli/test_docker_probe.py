"""The quick question to Docker: an answer, or None and never a long wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker import client
from compreface_cli.docker.probe import Quick, ask
from tests.cli.fake_docker_socket import daemon, http

IMAGES: list[dict[str, Any]] = [
    {"RepoTags": ["a:1", "a:2"], "Labels": {"compreface-cli.build": "embedded"}},
    {"RepoTags": ["b:1"], "Labels": {"compreface-cli.build": "embedded"}},
    {"RepoTags": ["<none>:<none>"], "Labels": {"compreface-cli.build": "old"}},
    {"RepoTags": None, "Labels": None},
]
CONTAINERS: list[dict[str, Any]] = [
    {
        "State": "running",
        "Labels": {"compreface-cli.build": "embedded", "compreface-cli.instance": "one"},
    },
    {
        "State": "exited",
        "Labels": {"compreface-cli.build": "embedded", "compreface-cli.instance": "two"},
    },
    {"State": "running", "Labels": {"compreface-cli.build": "embedded"}},
    {"State": "running", "Labels": None},
]


@pytest.fixture(autouse=True)
def no_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_versions", {})


def told(address: str, timeout_s: float = 30.0) -> Quick | None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_HOST", address)
        return ask(timeout_s)


def whole(target: str) -> bytes:
    return http(IMAGES if target.startswith("/images/") else CONTAINERS)


def test_images_and_running_instances_are_grouped_by_build(tmp_path: Path) -> None:
    with daemon(tmp_path / "s", whole) as (address, asked):
        found = told(address, 30.0)
    assert found == Quick({"embedded": ("a:1", "a:2", "b:1")}, {"embedded": ("one",)})
    assert asked[0] == "/_ping"
    assert len(asked) == 3
    assert all("compreface-cli.build" in target for target in asked[1:])


@pytest.mark.parametrize(
    "reply",
    [
        http({"message": "no"}, "500 Internal Server Error"),
        http(b"not json"),
        http([1, 2]),
        http({"a": 1}),
        b"nothing like http",
    ],
)
def test_an_invalid_answer_is_none(tmp_path: Path, reply: bytes) -> None:
    with daemon(tmp_path / "s", lambda target: reply) as (address, _):
        assert told(address, 30.0) is None


def test_a_daemon_that_hangs_is_none(tmp_path: Path) -> None:
    with daemon(tmp_path / "s", lambda target: b"") as (address, asked):
        assert told(address, 0.05) is None
    assert len(asked) <= 1


def test_no_time_left_is_none(tmp_path: Path) -> None:
    with daemon(tmp_path / "s", whole) as (address, asked):
        assert told(address, 0.0) is None
    assert asked == []


def test_an_answer_without_end_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_BYTES", 1000)
    with daemon(tmp_path / "s", lambda target: b"x" * 5000) as (address, _):
        assert told(address, 30.0) is None


def test_no_daemon_is_none(tmp_path: Path) -> None:
    assert told(f"unix://{tmp_path}/none") is None
