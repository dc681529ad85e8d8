"""The README is short, and what it says of a first start is so."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

from compreface_cli import resources
from compreface_cli.checks import docker, memory
from tests.cli.local_cf import LocalCf, free_port
from tests.shared import ROOT

README = (ROOT / "README.md").read_text("utf-8")
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def section(heading: str) -> str:
    """The text below a heading of the README, to the next one."""
    return README.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def commands(text: str) -> list[str]:
    """Its indented lines, without their comments."""
    return [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    ")]


def test_it_has_at_most_900_words() -> None:
    assert len(README.split()) <= 900


@pytest.mark.slow
def test_the_quick_start_runs_and_prints_as_documented(local_cf: LocalCf) -> None:
    quick_start = section("Quick start")
    shutil.copy(resources.portraits_dir() / "astronaut.png", local_cf.root / "photo.jpg")
    shutil.copy(resources.portraits_dir() / "grace_hopper.jpg", local_cf.root / "another.jpg")
    port = str(free_port())
    printed = ""
    for command in commands(quick_start):
        done = local_cf.run(*shlex.split(command)[1:], CF_PORT=port)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    assert (local_cf.root / "boxes.jpg").is_file()
    assert local_cf.processes() == []

    shown = [line for line in quick_start.split("```")[1].splitlines() if line.strip("\n ─.")]
    real = {shape(line): line for line in printed.replace(port, "3000").splitlines()}
    for line in shown:
        assert shape(line) in real, f"not printed: {line}"
        for stated, value in zip(numbers(line), numbers(real[shape(line)]), strict=True):
            tolerance = 1 if stated == int(stated) else 0.02  # another CPU rounds differently
            assert value == pytest.approx(stated, abs=tolerance), line


def shape(line: str) -> str:
    """The line without its numbers and columns."""
    return " ".join(NUMBER.sub("N", line).split())


def numbers(line: str) -> list[float]:
    return [float(each) for each in NUMBER.findall(line)]


def test_make_up_is_the_first_two_commands_of_the_quick_start() -> None:
    made = subprocess.run(
        ["make", "-n", "-o", ".venv/.cli", "up"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    bare = [line.replace(".venv/bin/", "") for line in made.stdout.splitlines()]
    assert bare == commands(section("Quick start"))[:2]


def test_the_prerequisites_are_those_of_the_checks() -> None:
    text = section("Prerequisites")
    engine, compose = (".".join(map(str, v)) for v in (docker.MIN_ENGINE, docker.MIN_COMPOSE))
    assert f"Engine {engine} and Compose {compose} or newer" in text
    assert f"{memory.ENGINE / 1e6:g} MB for the engine" in text
    assert f"{memory.STACK / 1e9:g} GB for the full stack" in text
    versions = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert f"| Python | {versions[0]} to {versions[-1]}" in text
