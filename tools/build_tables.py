"""The tables of builds in README.md and docs/choose-a-build.md, from the facts of the builds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from compreface_cli.builds import measured
from compreface_cli.builds.builds import listed
from compreface_cli.config.settings_table import DEFAULT_BUILD
from compreface_cli.inspect import described
from compreface_cli.inspect.list_builds import ACCURACY_SET, Host, Row, rows
from compreface_cli.models import catalogue, licence

ROOT = Path(__file__).resolve().parent.parent
_BEGIN = "<!-- builds, by `make reference` -->"
_END = "<!-- /builds -->"
_GPU = "-gpu"
_TERMS = {"excluded": "research"}


def pages() -> dict[Path, str]:
    """The whole text of each page with its table as the facts are now."""
    bundled = [row for row in rows(Host(None, gpu=False), listed()) if row.origin == "bundled"]
    bundled.sort(key=lambda row: (row.name != DEFAULT_BUILD, row.name))
    tables = {"README.md": _short(bundled), "docs/choose-a-build.md": _whole(bundled)}
    return {ROOT / name: _with(ROOT / name, table) for name, table in tables.items()}


def _with(page: Path, table: str) -> str:
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise SystemExit(f"{page} has no pair of marks {_BEGIN} and {_END}")
    return f"{before}{_BEGIN}\n{table}\n{_END}{after}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    written = [f"| {' | '.join(line)} |" for line in (head, *lines)]
    return "\n".join((written[0], "|---" * len(head) + "|", *written[1:]))


def _short(builds: Sequence[Row]) -> str:
    """One line for each build for the CPU; `[-gpu]` where there is the same for a GPU."""
    names = {row.name for row in builds}
    lines = [
        (
            f"`{row.name}{f'[{_GPU}]' if row.name + _GPU in names else ''}`",
            row.good_for,
            _accuracy(row, ACCURACY_SET),
            described.times(row.measured.speed) if row.measured else "-",
            described.size(row.download),
            _TERMS.get(row.commercial, row.commercial),
        )
        for row in builds
        if not row.name.endswith(_GPU)
    ]
    return _table(("build", "good for", "LFW %", "speed", "download", "commercial use"), lines)


def _whole(builds: Sequence[Row]) -> str:
    lines = [
        (
            f"`{row.name}`" + (" (default)" if row.name == DEFAULT_BUILD else ""),
            row.good_for,
            _network(row.detector),
            _network(row.calculator),
            _accuracy(row, ACCURACY_SET),
            _accuracy(row, "LFW10"),
            described.times(row.measured.speed) if row.measured else "-",
            described.memory(row),
            described.size(row.download),
            row.commercial,
            _misses(row),
        )
        for row in builds
    ]
    head = (
        *("build", "good for", "detector", "calculator", "LFW %", "LFW10 %", "speed", "memory"),
        *("download", "commercial use", "finds few pairs of"),
    )
    how = [
        f"`{row.name}` with {row.measured.how}"
        for row in builds
        if row.measured and row.measured.how
    ]
    run, groups = [str(measured.machine()), *how], catalogue.face_groups()
    notes = [
        "Speed (scans a second at eight connections, a scan being detection and embeddings) and "
        f"memory are relative to the default, measured on {'; '.join(run)}.",
        f"The last column is the {groups.measure}, where it is below {described.WEAK_BELOW}. "
        f"Source: {groups.source}.",
    ]
    return "\n\n".join((_table(head, lines), *notes))


def _misses(row: Row) -> str:
    weak = ", ".join(described.weak_groups(row))
    return weak or ("" if row.by_group else "not known")


def _accuracy(row: Row, of_set: str) -> str:
    figure = row.figure(of_set)
    return "-" if figure is None else f"{figure:.2f}"


def _network(plugin: str) -> str:
    return ", ".join(licence.of((plugin,))) or re.sub(r".*@", "", plugin)


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
