"""docs/extend.md is true: what each section adds to a copy of the tree works there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compreface_engine.plugins.registry import PLUGINS
from tests.contract.process import MULTIPART, Engine, photograph_form
from tests.shared import ROOT

PAGE = ROOT / "docs" / "extend.md"
FILE = re.compile(r"`([\w./]+/[\w.]+\.(?:py|json))`")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.S | re.M)
COPIED = ("builds", "compreface_cli", "engine", "templates")


@dataclass(frozen=True)
class Tree:
    """A copy of the sources, with a home beside it."""

    root: Path

    def cf(self, *arguments: str) -> str:
        """What `cf` prints; its exit code must be 0."""
        home = self.root / "home"
        done = subprocess.run(
            [sys.executable, "-m", "compreface_cli.cli", *arguments],
            cwd=self.root,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "PYTHONPATH": str(self.root),
                "DOCKER_HOST": f"unix://{home}/no-docker.sock",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def accepts(self, build: str) -> dict[str, Any]:
        """The plan of a build, which `cf` must validate, list and show."""
        name = re.search(r"^name: (.*)$", build, re.M)
        assert name is not None
        (self.root / "builds" / f"{name[1]}.yaml").write_text(build)
        self.cf("validate", f"builds/{name[1]}.yaml")
        listed = json.loads(self.cf("list-builds", "--json"))["builds"]
        assert [row["fault"] for row in listed if row["name"] == name[1]] == [None]
        plan: dict[str, Any] = json.loads(self.cf("show", name[1], "--resolved", "--json"))["plan"]
        return plan

    def scan(self, plugins: str, **variables: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """The engine's status, and its answer about a portrait of one face."""
        portrait = ROOT / "engine" / "compreface_engine" / "probe_faces" / "astronaut.jpg"
        path = f"{self.root / 'engine'}{os.pathsep}{ROOT}"
        with Engine(PYTHONPATH=path, **variables) as engine:
            status = engine.request("GET", "/status").json()
            answer = engine.request(
                "POST",
                f"/find_faces?face_plugins={plugins}&detect_faces=false",
                photograph_form(portrait.read_bytes()),
                {"Content-Type": MULTIPART},
            ).json()
        (face,) = answer["result"]
        return status, face


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    return Tree(tmp_path)


def followed(section: str, tree: Tree) -> dict[str, str]:
    """Adds the section's files and rows to `tree`, each to the file named last before it; returns
    the other blocks by their language."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.S | re.M)
    others = {}
    for block in BLOCK.finditer(text):
        language, content = block.groups()
        path = tree.root / FILE.findall(text[: block.start()])[-1]
        if language == "python":
            assert not path.exists()
            path.write_text(content)
            ruff = [Path(sys.executable).with_name("ruff"), "check", path]
            subprocess.run([*ruff, "--config", ROOT / "pyproject.toml"], check=True, timeout=60)
        elif language == "diff":
            path.write_text(patched(path.read_text("utf-8"), content))
        elif language == "json":
            table = json.loads(path.read_text())
            rows = table["analyzer"] if section == "A plugin" else table
            rows |= json.loads(f"{{{content}}}")
            path.write_text(json.dumps(table))
        else:
            others[language] = content
    return others


def patched(text: str, change: str) -> str:
    """`text` after `change`, whose lines without a plus must stand there once."""
    lines = [(line[:1], line[1:]) for line in change.splitlines(keepends=True)]
    before = "".join(line for mark, line in lines if mark != "+")
    assert text.count(before) == 1, change
    return text.replace(before, "".join(line for mark, line in lines if mark != "-"))


@pytest.mark.slow
def test_a_plugin_is_one_file_and_one_row(tree: Tree) -> None:
    build = followed("A plugin", tree)["yaml"]
    plan = tree.accepts(build)
    assert plan["plugins"] == ["brightness.BrightnessAnalyzer"]
    status, face = tree.scan("brightness", EXTRA_PLUGINS=plan["plugins"][0])
    assert status["available_plugins"]["brightness"] == "brightness.BrightnessAnalyzer"
    assert 50 < face["brightness"] < 200


@pytest.mark.slow
def test_a_runtime_is_one_file_and_one_row(tree: Tree) -> None:
    build = followed("A runtime", tree)["yaml"]
    plan = tree.accepts(build)
    assert (plan["runtime"], plan["wheels"]) == ("evaluator", "cpu")
    assert "evaluator" in tree.cf("build", "--help")
    status, face = tree.scan("calculator", CF_RUNTIME="evaluator")
    assert status["runtimes"]["calculator"]["runtime"] == "evaluator"
    _, expected = tree.scan("calculator")
    assert face["embedding"] == pytest.approx(expected["embedding"], abs=1e-4)


@pytest.mark.slow
def test_a_check_is_one_file_and_a_line_in_each_list(tree: Tree) -> None:
    followed("A check", tree)
    up = ("up", "embedded", "--launcher", "process", "--dry-run", "--json")
    findings = json.loads(tree.cf(*up, "--port", "40000"))["findings"]
    assert [finding["level"] for finding in findings if finding["check"] == "ephemeral"] == ["warn"]
    findings = json.loads(tree.cf(*up, "--port", "20000"))["findings"]
    assert "ephemeral" not in {finding["check"] for finding in findings}


@pytest.mark.slow
def test_a_setting_is_one_row_and_its_use(tree: Tree) -> None:
    followed("A setting", tree)
    (tree.root / "cf.yaml").write_text("site: Berlin\n")
    plan = json.loads(tree.cf("show", "embedded", "--resolved", "--json"))["plan"]
    assert plan["engine_limits"]["CF_SITE"] == "Berlin"
    tree.cf("render", "embedded", "-o", "rendered", "--services", "core")
    assert 'CF_SITE: "Berlin"' in (tree.root / "rendered" / "compose.yaml").read_text()
    status, _ = tree.scan("calculator", CF_SITE="Berlin")
    assert status["build_version"].endswith(" Berlin")


@pytest.mark.slow
def test_a_command_is_one_file_and_one_line(tree: Tree) -> None:
    followed("A command", tree)
    assert "Show where cf keeps its data." in tree.cf("--help")
    document = json.loads(tree.cf("where", "--json"))
    assert document["data"] == str(tree.root / "home" / ".local" / "share" / "compreface-cli")
    assert f"data: {document['data']}\n" in tree.cf("where")


def test_a_plugin_for_any_model_is_described_with_its_input() -> None:
    pages = "".join(page.read_text("utf-8") for page in (ROOT / "docs").glob("*.md"))
    wanted = {f"`{name}@NAME`" for name, row in PLUGINS.items() if row.models is None}
    assert {name for name in wanted if name not in pages} == set()
