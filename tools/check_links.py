"""Checks that relative links in all Markdown files lead to an existing file and heading.

`make check` runs it. It fetches nothing: links to other hosts are not checked.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parent.parent
_PARSER = MarkdownIt("gfm-like", {"linkify": False})
_HTML_LINK = re.compile(r"""<(?:a|img)\b[^>]*?\b(?:href|src)=["']([^"']+)""", re.IGNORECASE)
_HTML_ANCHOR = re.compile(r"""<[^>]+\b(?:id|name)=["']([^"']+)""", re.IGNORECASE)


def faults(page: Path, root: Path) -> list[str]:
    """The faults of a page's links, each as `page:line: link: reason`."""
    return [
        f"{page.relative_to(root)}:{line}: {link}: {reason}"
        for line, link in _links(page)
        if (reason := _fault(page, link, root))
    ]


def _fault(page: Path, link: str, root: Path) -> str:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return ""
    path = unquote(parts.path)
    base = root if path.startswith("/") else page.parent
    target = (base / path.lstrip("/")).resolve() if path else page
    if not target.is_relative_to(root):
        return "leads out of the repository"
    if not target.exists():
        return "there is no such file"
    anchor = unquote(parts.fragment)
    if anchor and target.suffix == ".md" and anchor not in _anchors(target):
        return "the page has no such heading"
    return ""


def _links(page: Path) -> Iterator[tuple[int, str]]:
    for line, token in _tokens(page):
        link = token.attrGet("href") or token.attrGet("src")
        if link:
            yield line, str(link)
        if token.type in ("html_inline", "html_block"):
            yield from ((line, target) for target in _HTML_LINK.findall(token.content))


@cache
def _anchors(page: Path) -> frozenset[str]:
    """The anchors as GitHub makes them: lower case, hyphens for spaces, no punctuation."""
    anchors: Counter[str] = Counter()
    tokens = _PARSER.parse(page.read_text("utf-8"))
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            text = "".join(
                part.content
                for part in inline.children or ()
                if part.type in ("text", "code_inline")
            )
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            anchors[slug] += 1
    repeated = {f"{slug}-{n}" for slug, count in anchors.items() for n in range(1, count)}
    written = {
        anchor
        for _, token in _tokens(page)
        if token.type in ("html_inline", "html_block")
        for anchor in _HTML_ANCHOR.findall(token.content)
    }
    return frozenset(anchors) | repeated | written


def _tokens(page: Path) -> Iterator[tuple[int, Token]]:
    """Every token, including those in paragraphs, with the line where its block begins."""
    for block in _PARSER.parse(page.read_text("utf-8")):
        line = block.map[0] + 1 if block.map else 0
        yield line, block
        yield from ((line, child) for child in block.children or ())


def pages(root: Path) -> list[Path]:
    """The Markdown files that belong to the repository: tracked, or new and not ignored."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(root / name for name in set(listed.split("\0")) - {""} if (root / name).exists())


def main() -> int:
    wrong = [fault for page in pages(ROOT) for fault in faults(page, ROOT)]
    print("\n".join(wrong) or f"links: {len(pages(ROOT))} Markdown files are in order")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
