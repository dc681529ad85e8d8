"""The record of what was pushed where."""

from __future__ import annotations

from pathlib import Path

import pytest

from compreface_cli.config import paths
from compreface_cli.instance import pushes


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def test_each_image_has_one_reference_a_place() -> None:
    assert pushes.reference("sha256:1", "hub.example/faces") == ""
    pushes.record("sha256:1", "hub.example/faces", "hub.example/faces/core@sha256:a")
    pushes.record("sha256:1", "other.example", "other.example/core@sha256:a")
    pushes.record("sha256:1", "hub.example/faces", "hub.example/faces/core@sha256:b")
    assert pushes.reference("sha256:1", "hub.example/faces") == "hub.example/faces/core@sha256:b"
    assert pushes.reference("sha256:1", "other.example") == "other.example/core@sha256:a"
    assert [path.name for path in paths.pushes_file().parent.iterdir()] == ["pushes.json"]


def test_the_oldest_is_forgotten() -> None:
    for number in range(pushes.KEPT + 1):
        pushes.record(f"sha256:{number}", "hub.example", f"hub.example/core@sha256:{number}")
    assert pushes.reference("sha256:0", "hub.example") == ""
    assert pushes.reference("sha256:1", "hub.example") == "hub.example/core@sha256:1"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"hub.example sha256:1": 1}'])
def test_a_damaged_record_is_an_empty_one(text: str) -> None:
    paths.pushes_file().parent.mkdir(parents=True)
    paths.pushes_file().write_text(text)
    assert pushes.reference("sha256:1", "hub.example") == ""
    pushes.record("sha256:1", "hub.example", "hub.example/core@sha256:a")
    assert pushes.reference("sha256:1", "hub.example") == "hub.example/core@sha256:a"
