"""Every `cf` command and `CF_*` variable that a page names exists, with its options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from compreface_cli.app import make_app
from compreface_cli.config import settings_table as table
from tests.shared import ROOT
from tools.engine_variables import MEANINGS

PAGES = [
    path
    for folder in (".", "engine", "docs", "docs/decisions")
    for path in sorted((ROOT / folder).glob("*.md"))
    if path.name not in ("CHANGELOG.md", "extend.md")  # what was, and what could be
]
CODE = re.compile(r"`([^`]+)`|^ {4,}(.+)$|^(cf .+)$", re.MULTILINE)
ROOT_OPTIONS = {"--help", "--version", "--debug", "--install-completion", "--show-completion"}


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `cf` command on the page, its variables and comments left out."""
    text = re.sub(r"^ *```.*$", "", page.read_text("utf-8"), flags=re.MULTILINE)
    for groups in CODE.findall(text):
        for line in re.split(r"&&|[|;#]|, then", "".join(groups)):
            words = line.replace(".venv/bin/cf", "cf").split()
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                del words[0]
            if words[:1] == ["cf"]:
                yield words[1:]


def fault(words: list[str]) -> str:
    """The first word that `cf` does not know."""
    command: Any = typer.main.get_command(make_app())
    for position, word in enumerate(words):
        if word.startswith("-") and word != "-":  # which is stdin or stdout
            flag = word.partition("=")[0].rstrip(",.")
            known = {each for one in command.params for each in (*one.opts, *one.secondary_opts)}
            if flag not in known | ROOT_OPTIONS:
                return word
        elif hasattr(command, "commands") and re.fullmatch(r"[a-z][a-z-]*", word):
            if word not in command.commands:
                return word
            command = command.commands[word]
        elif position == 0:  # COMMAND, ...
            return ""
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_names_commands_and_options_that_exist(page: Path) -> None:
    wrong = {" ".join(words): fault(words) for words in commands(page)}
    assert not {command: word for command, word in wrong.items() if word}


def test_a_command_or_an_option_that_does_not_exist_is_noticed() -> None:
    assert fault(["upp", "embedded"]) == "upp"
    assert fault(["up", "embedded", "--gpu-indx", "1"]) == "--gpu-indx"
    assert fault(["config", "list", "--json"]) == ""
    assert sum(1 for _ in commands(ROOT / "docs" / "operate.md")) > 30


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_names_variables_that_exist(page: Path) -> None:
    named = set(re.findall(r"\bCF_[A-Z_]*[A-Z]\b", page.read_text("utf-8")))
    known = {row.env for row in table.TABLE} | table.CF_VARIABLES | table.OTHER_VARIABLES
    assert named <= known | set(MEANINGS)
