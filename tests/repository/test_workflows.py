"""The workflows run what people run: existing make targets, with pinned actions and few rights."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.repository.test_makefile import make
from tests.shared import ROOT

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
OTHERS = {
    "docker pull python:3.11-slim-bookworm",
    "sudo apt-get update -qq && "
    "sudo apt-get install -y -qq --no-install-recommends qemu-user prometheus",
}
"""What a runner gets besides; a person has it already, or has it from `.ci/run`."""
PINNED = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
PULL_REQUEST = "Open a pull request with what has moved"


def load(path: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    return document


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def commands() -> list[str]:
    ran = [step["run"] for path in WORKFLOWS for step in steps(path) if "run" in step]
    hooks = load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    return sorted({*ran, *(hook["entry"] for hook in hooks)} - OTHERS)


def test_every_command_is_a_make_target() -> None:
    lines = [one for one in commands() if "\n" not in one]
    assert [one for one in commands() if one not in lines] == [
        step["run"]
        for step in steps(GITHUB / "workflows" / "weekly.yml")
        if step.get("name") == PULL_REQUEST
    ]
    wanted = {"make check", "make test", "make e2e", "make dist", "make lock", "make test-torch"}
    wanted.add("make kubernetes-schemas")
    assert {" ".join(one.split()[:2]) for one in lines} == wanted
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "make"
        dry = make("--dry-run", *arguments)
        assert dry.returncode == 0, dry.stderr
    assert make("--dry-run", "chekc").returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_has_pinned_actions_few_rights_and_an_end(path: Path) -> None:
    document = load(path)
    assert document["permissions"] == {"contents": "read"}
    assert "group" in document["concurrency"]
    for name, job in document["jobs"].items():
        assert job["timeout-minutes"] <= 90
        assert "permissions" not in job or name == "lock"
        uses = [step["uses"] for step in job["steps"] if "uses" in step]
        assert all(PINNED.fullmatch(one) for one in uses), uses
        (checkout,) = (one for one in job["steps"] if "/checkout@" in one.get("uses", ""))
        assert checkout["with"]["persist-credentials"] is (name == "lock")


def test_the_pythons_are_those_that_the_package_names() -> None:
    classifiers = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', _pyproject())
    matrix = load(GITHUB / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert [one["python"] for one in matrix] == classifiers
    assert [one["python"] for one in matrix if "quick" not in one] == classifiers[:1]


def test_hypothesis_is_random_once_a_week() -> None:
    weekly = load(GITHUB / "workflows" / "weekly.yml")
    (schedule,) = weekly[True]["schedule"]  # YAML 1.1 reads `on` as a truth
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
    ran = [step.get("run") for step in weekly["jobs"]["explore"]["steps"]]
    assert 'make test ARGS="--hypothesis-profile=explore"' in ran


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_a_form_has_what_github_wants(name: str) -> None:
    form = load(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form["name"]
    assert form["description"]
    fields = [one for one in form["body"] if one["type"] != "markdown"]
    assert len({one["id"] for one in fields}) == len(fields)
    assert all(one["attributes"]["label"] for one in fields)
    assert any(one["validations"]["required"] for one in fields if "validations" in one)


def _pyproject() -> str:
    return (ROOT / "pyproject.toml").read_text("utf-8")
