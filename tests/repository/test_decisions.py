"""The decision pages: each has a date and a status, and stands in the index under its title."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from tests.shared import ROOT

FOLDER = ROOT / "docs" / "decisions"
INDEX = FOLDER / "README.md"
PAGES = sorted(set(FOLDER.glob("*.md")) - {INDEX})
ENTRY = re.compile(r"^- \[(.+)\]\((.+\.md)\)$", re.MULTILINE)
STATE = re.compile(
    r"Date: (\d{4}-\d\d-\d\d) · Status: (?:accepted|superseded by \[.+\]\(([a-z0-9-]+\.md)\))"
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_has_a_date_and_a_status(page: Path) -> None:
    title, blank, line, after, *_ = page.read_text("utf-8").splitlines()
    assert title.startswith("# ")
    assert blank == after == ""
    state = STATE.fullmatch(line)
    assert state is not None, f"{page.name}: {line}"
    date.fromisoformat(state[1])
    if state[2]:
        assert (FOLDER / state[2]).is_file()


def test_the_index_names_each_decision_once_with_its_title() -> None:
    entries = [(name, title) for title, name in ENTRY.findall(INDEX.read_text("utf-8"))]
    titles = {page.name: page.read_text("utf-8").splitlines()[0][2:] for page in PAGES}
    assert sorted(entries) == sorted(titles.items())
