"""Messages whose wording is kept in `messages/`; `python -m tests.golden.messages` rewrites them.

A case is a function of an empty folder that raises the error, or returns the text, a user sees.
"""

from __future__ import annotations

import logging
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from tests.golden import convert_messages, engine_messages

FOLDER = Path(__file__).parent / "messages"

Case: TypeAlias = Callable[[Path], object]

SOURCES: Final[Mapping[str, Mapping[str, Case]]] = {
    "convert": convert_messages.CASES,
    "engine": engine_messages.CASES,
}
"""The cases of each golden file, by its name without `.txt`."""


def message(case: Case) -> str:
    """What the case says, its folder written as FOLDER."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            text = str(case(Path(folder)))
        except Exception as error:
            text = str(error)
        return text.replace(folder, "FOLDER")


def written(source: str) -> str:
    """The whole golden file: each case's name, and its message indented below."""
    return "\n".join(
        f"{name}\n{textwrap.indent(message(case), '    ')}\n"
        for name, case in SOURCES[source].items()
    )


def refresh() -> None:
    """Writes all golden files anew."""
    FOLDER.mkdir(exist_ok=True)
    for source in SOURCES:
        (FOLDER / f"{source}.txt").write_text(written(source), "utf-8")


if __name__ == "__main__":
    logging.disable()  # of the failures that are provoked
    refresh()
