"""Runs a module of the engine's environment as a child process and reads its JSON output.

The child has a timeout and ends with `cf`. All calls of the engine's and the converter's code go
through here, except the start of the server.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compreface_cli.child_processes import die_with, inherited_environment

# Exit codes of compreface_engine and compreface_convert for models or settings that they refuse.
_REFUSED = (3, 9)
_LAST_LINES = 3


class Failed(Exception):
    """The module ended without a result; the text is its error message, or its last lines."""

    def __init__(self, reason: str, exit_code: int | None = None) -> None:
        super().__init__(reason)
        self.exit_code = exit_code

    @property
    def refused(self) -> bool:
        """Whether the fault is in the models or the configuration, not in the engine's packages."""
        return self.exit_code in _REFUSED


def run(
    python: Path,
    module: str,
    *arguments: str,
    timeout_s: float,
    variables: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The JSON document that `python -m MODULE ARGUMENTS --json` prints.

    Its environment is that of a served engine (child_processes), with `variables`. Raises Failed,
    and TimeoutError after `timeout_s`, when the child is killed.
    """
    try:
        done = subprocess.run(
            [str(python), "-I", "-m", module, *arguments, "--json"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
            env={**inherited_environment(), **(variables or {})},
            check=False,
            preexec_fn=die_with(os.getpid()),
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{module} gave no answer in {timeout_s:g} s") from error
    except OSError as error:
        raise Failed(f"{python} cannot be run: {error}") from error
    try:
        document = json.loads(done.stdout)
        if done.returncode == 0:
            return dict(document)
        reason = str(document["error"]["message"])
    except (ValueError, KeyError, TypeError):
        reason = _last_lines(done)
    raise Failed(reason, done.returncode)


def _last_lines(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"it was killed by {_signal_name(-done.returncode)}"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return (
        " / ".join(lines[-_LAST_LINES:])
        or f"it ended with exit code {done.returncode} and no output"
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
