"""The link checker of `make check`: what it takes, what it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared import ROOT
from tools.check_links import faults, pages

PAGE = """# A page

See [this](#a-page), [that](other.md#two-words-and-code-1), ![a picture](picture.png), [out](https://example.org/gone).

`[code](gone.md)` is no link.
"""
OTHER = "# Other\n\n## Two *words*, and `code`\n\n## Two words and code\n\n<a id='mark'></a>\n"


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "other.md").write_text(OTHER)
    (tmp_path / "picture.png").write_bytes(b"")
    page = tmp_path / "docs.md"
    page.write_text(PAGE)
    return page


def test_good_links_pass(page: Path, tmp_path: Path) -> None:
    assert faults(page, tmp_path) == []


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("[x](gone.md)", "there is no such file"),
        ("![x](gone.png)", "there is no such file"),
        ("<img src='gone.png'>", "there is no such file"),
        ("[x](other.md#two-words)", "the page has no such heading"),
        ("[x](#b-page)", "the page has no such heading"),
        ("[x][1]\n\n[1]: /gone.md", "there is no such file"),
        ("[x](../outside.md)", "leads out of the repository"),
    ],
)
def test_a_broken_link_is_named_with_its_line(
    page: Path, tmp_path: Path, link: str, reason: str
) -> None:
    page.write_text(f"{PAGE}\n{link}\n[good](other.md#mark)\n")
    (fault,) = faults(page, tmp_path)
    assert fault.startswith("docs.md:7: ")
    assert fault.endswith(reason)


def test_the_pages_of_the_repository_are_found() -> None:
    assert {ROOT / "README.md", ROOT / "docs" / "decisions" / "README.md"} <= set(pages(ROOT))
