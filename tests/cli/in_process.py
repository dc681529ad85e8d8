"""`cf` called within the test's own process: exit code, both streams, and the JSON document."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from compreface_cli import cli


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        assert document["schema_version"] == 1
        return document


Cf: TypeAlias = Callable[..., Done]


def in_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cf:
    """A `cf` that stands in this folder, with a home below it and no Docker."""
    monkeypatch.chdir(folder)
    for name in ("data", "state", "config", "cache"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(folder / "home" / name))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/no-docker.sock")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CF_DEBUG", "CF_BUILD", "CF_MODELS_MIRROR"):
        monkeypatch.delenv(name, raising=False)

    def cf(*arguments: str) -> Done:
        monkeypatch.setattr("sys.argv", ["cf", *arguments])
        before = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            signal.signal(signal.SIGTERM, before)
        out, err = capsys.readouterr()
        return Done(code, out, err)

    return cf
