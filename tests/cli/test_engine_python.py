"""A module of the engine's Python answers with a document, or the error says why it did not."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

from compreface_cli import engine_python
from compreface_cli.engine_python import Failed


def run(folder: Path, script: str, timeout_s: float = 20) -> dict[str, Any]:
    """`compreface_engine check`, with a script in the place of the interpreter."""
    python = folder / "python"
    python.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{script}\n")
    python.chmod(0o755)
    variables = {"CF_MODELS_DIR": "/models"}
    return engine_python.run(
        python, "compreface_engine", "check", timeout_s=timeout_s, variables=variables
    )


def failure(folder: Path, script: str) -> Failed:
    with pytest.raises(Failed) as caught:
        run(folder, script)
    return caught.value


def test_the_module_runs_isolated_and_gets_no_setting_of_the_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CF_PORT", "PYTHONPATH", "GPU_IDX", "EXTRA_PLUGINS"):
        monkeypatch.setenv(name, "of this shell")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    said = run(tmp_path, "print(json.dumps({'given': sys.argv[1:], 'env': dict(os.environ)}))")
    assert said["given"] == ["-I", "-m", "compreface_engine", "check", "--json"]
    assert "of this shell" not in said["env"].values()
    assert said["env"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert said["env"]["CF_MODELS_DIR"] == "/models"


@pytest.mark.parametrize(("code", "refused"), [(1, False), (3, True), (9, True)])
def test_the_reason_is_the_modules_error_message(tmp_path: Path, code: int, refused: bool) -> None:
    document = '{"error": {"message": "no such plugin"}}'
    error = failure(tmp_path, f"print('{document}'); sys.exit({code})")
    assert (str(error), error.refused) == ("no such plugin", refused)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit('one\\ntwo\\n\\nthree\\nfour')", "two / three / four"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("os.kill(os.getpid(), 40)", "signal 40"),
        ("print('no document')", "exit code 0"),
        ("print('[1]')", "exit code 0"),
        ("sys.exit(7)", "exit code 7"),
    ],
)
def test_a_module_that_ends_without_a_document_is_a_failure_of_the_engine(
    tmp_path: Path, script: str, reason: str
) -> None:
    error = failure(tmp_path, script)
    assert reason in str(error)
    assert not error.refused


def test_a_missing_interpreter_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="gone"):
        engine_python.run(tmp_path / "gone", "compreface_engine", "check", timeout_s=5)


def test_a_module_that_does_not_end_is_killed(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="compreface_engine"):
        run(tmp_path, "time.sleep(60)", timeout_s=0.5)
    assert time.monotonic() - began < 30
