"""The changelog has the form of Keep a Changelog 1.1, with one line for each entry."""

from __future__ import annotations

import re

from tests.shared import ROOT

HEADINGS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
RELEASE = re.compile(r"## \[(?:Unreleased|\d+\.\d+\.\d+\S*)\](?: - \d{4}-\d\d-\d\d)?")


def test_every_line_has_its_place() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text("utf-8").splitlines()
    start = lines.index("## [Unreleased]")
    headings: list[str] = []
    for number, line in enumerate(lines[start:], start + 1):
        if line.startswith("## "):
            assert RELEASE.fullmatch(line), f"{number}: {line}"
            headings = []
        elif line.startswith("### "):
            headings.append(line.removeprefix("### "))
            assert headings == sorted(set(headings), key=HEADINGS.index), f"{number}: {line}"
        elif line.startswith("- "):
            assert headings, f"{number}: an entry under no heading"
            assert line.endswith("."), f"{number}: {line}"
        elif line and not line.startswith("#### "):
            assert not headings, f"{number}: an entry is one line"
