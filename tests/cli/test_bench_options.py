"""The benchmark takes its weights from where it is told, and draws progress only for a watcher."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench import load


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("value", [None, ""])
def test_without_a_folder_of_weights_the_engine_is_skipped(
    value: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if value is None:
        monkeypatch.delenv("CF_SHARED", raising=False)
    else:
        monkeypatch.setenv("CF_SHARED", value)
    assert bench.main(["facenet"]) == 0
    assert "facenet: skipped, no folder of weights and photographs is named" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("by_flag", [True, False])
def test_a_folder_without_weights_is_named(
    by_flag: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CF_SHARED", str(tmp_path / ("other" if by_flag else "")))
    flags = ["--shared", str(tmp_path)] if by_flag else []
    assert bench.main(["facenet", *flags]) == 0
    assert f"facenet: skipped, {tmp_path} has no weights" in capsys.readouterr().err


def test_progress_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, drawn in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr("sys.stderr", stream)
        load.progress("8 connections")
        assert ("8 connections" in stream.getvalue()) is drawn
        assert ("\r" in stream.getvalue()) is drawn
