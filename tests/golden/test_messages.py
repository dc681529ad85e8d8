"""Every message against its golden file (`python -m tests.golden.messages` rewrites them)."""

from __future__ import annotations

import pytest

from tests.golden.messages import FOLDER, SOURCES, written


@pytest.mark.parametrize("source", SOURCES)
def test_messages_have_the_golden_wording(source: str) -> None:
    assert written(source) == (FOLDER / f"{source}.txt").read_text("utf-8")


def test_each_golden_file_has_its_cases() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(SOURCES)
