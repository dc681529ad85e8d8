"""The start of `cf`: quick, nothing heavy imported, shells served."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from compreface_cli import __version__
from compreface_cli.app import COMMANDS, module_of
from tests.shared import ROOT

HEAVY = {"jinja2", "docker", "httpx2", "numpy", "PIL", "requests", "onnxruntime", "cv2"}
FRAMEWORKS = {"tensorflow", "mxnet", "torch", "onnx", "openvino"}
SCRIPT = """
import sys
from compreface_cli.cli import main
try:
    main()
except SystemExit:
    pass
sys.stderr.write("IMPORTED " + " ".join({name.partition(".")[0] for name in sys.modules}))
"""


def run(arguments: Sequence[str], **env: str) -> tuple[str, set[str]]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DOCKER_HOST": "unix:///nowhere", **env},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, set(done.stderr.rpartition("IMPORTED ")[2].split())


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["list-builds"], ["show", "--help"]]
)
def test_nothing_heavy_is_imported(arguments: list[str]) -> None:
    _, imported = run(arguments)
    assert "compreface_cli" in imported
    assert not imported & (HEAVY | FRAMEWORKS)


def test_the_version_needs_neither_typer_nor_rich() -> None:
    out, imported = run(["--version"])
    assert out == f"cf {__version__}\n"
    assert not imported & {"typer", "rich", "yaml", "pydantic", "json"}


def test_help_needs_no_command_and_completion_only_the_one_that_is_typed() -> None:
    _, imported = run(["--help"])
    assert not imported & {"yaml", "rich"}
    out, imported = run([], _CF_COMPLETE="complete_bash", COMP_WORDS="cf li", COMP_CWORD="1")
    assert out.split() == ["list-builds"]
    assert not imported & (HEAVY | FRAMEWORKS | {"yaml"})


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        (
            {"_CF_COMPLETE": "complete_bash", "COMP_WORDS": "cf up --por", "COMP_CWORD": "2"},
            "--port",
        ),
        ({"_CF_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "cf config "}, "path"),
        (
            {
                "_CF_COMPLETE": "complete_fish",
                "_TYPER_COMPLETE_ARGS": "cf sc",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
            },
            "scan",
        ),
    ],
)
def test_a_shell_gets_completions(variables: dict[str, str], found: str) -> None:
    out, _ = run([], **variables)
    assert found in out


def test_every_command_of_the_help_page_is_there() -> None:
    out, _ = run(["--help"])
    for name, line in COMMANDS.items():
        assert f"  {name.replace('_', '-')} " in out
        assert line in out
        module = ROOT / "compreface_cli" / "commands" / module_of(name)
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()
