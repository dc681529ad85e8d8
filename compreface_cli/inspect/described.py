"""A build of the list in words: each fact with its origin, for `list-builds --long` and `show`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compreface_cli.builds import imported, measured
from compreface_cli.inspect.list_builds import Row
from compreface_cli.models import catalogue
from compreface_cli.models.sources import Source, parse

WEAK_BELOW = 80  # percent of pairs found: a group of which more are missed is warned of

_NAMES = 3  # images or instances that are named
_OBSTACLES = {
    "file": "its file is refused",
    "GPU": "there is no NVIDIA GPU",
    "CPU": "this processor lacks a flag that its runtime needs",
    "mirror": "CF_MODELS_MIRROR names no folder and no address (`cf doctor` says more)",
    "weights": "it needs your files, since no address is known for {}",
    "network": "a download is needed, and this machine has no default route and no proxy",
}


def facts(row: Row) -> Iterator[tuple[str, str]]:
    """Each fact about a build as a label and a sentence without a line break."""
    yield "good for", ". ".join(filter(None, (row.good_for, row.summary)))
    if row.origin == "imported":
        yield "origin", imported.read(Path(row.path)).words
    if row.origin != "bundled":
        yield "file", f"{row.path} ({row.origin})"
    if row.note:
        yield "note", row.note
    yield "detector", row.detector + (" on an NVIDIA GPU" if row.device == "cuda" else "")
    yield "calculator", f"{row.calculator}, in {row.runtime}"
    yield "plugins", ", ".join(row.plugins) or "none"
    for figure in row.accuracy:
        of = "" if figure.get("of", "recognition") == "recognition" else f", {figure['of']}"
        kind = figure.get("kind", "published")
        yield (
            "accuracy",
            f"{figure.get('set')} {figure.get('value')} %{of}, {kind}: {figure.get('source')}",
        )
    if row.by_group:
        yield "by group", by_group(row)
    yield "speed", speed(row)
    if row.border:
        said = f" ({row.border.set})" if row.border.set else ""
        yield "threshold", f"{row.border.at:.2f}: perhaps one person from here on{said}"
    reason = row.licence.get("reason")
    yield "licence", f"commercial use {row.commercial}" + (f": {reason}" if reason else "")
    yield "download", download(row)
    for name, state in row.models.items():
        yield "model", f"{name} ({state}): {'; '.join(_sources(row, name)) or 'no public address'}"
    if row.upstream:
        yield "upstream", row.upstream
    yield "starts", starts(row)
    yield "image", _several(row.images, "not built")
    yield "runs", _several(row.running, "no")


def _several(names: tuple[str, ...] | None, none: str) -> str:
    """The first names, and how many there are beyond them."""
    if names is None:
        return "not known"
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more or none


def starts(row: Row) -> str:
    """Whether it starts on this host now, and why not."""
    if not row.why_not and row.to_fetch:
        return f"yes, if {', '.join(row.to_fetch)} can be downloaded"
    if not row.why_not:
        return "yes"
    if row.why_not == "licence":
        return f"once you accept the licence of {', '.join(row.unaccepted)}: `cf up` asks"
    return f"no: {_OBSTACLES[row.why_not].format(', '.join(row.to_give))}"


def start(row: Row) -> dict[str, Any]:
    """The same for `--json`."""
    return {
        "now": not row.why_not,
        "why_not": row.why_not or None,
        "licences": list(row.unaccepted),
        "to_fetch": list(row.to_fetch),
    }


def by_group(row: Row) -> str:
    """The figures by group of faces, what they measure and who measured them."""
    groups = catalogue.face_groups()
    figures = [
        f"{name} {value:.0f} % ({groups.sets[name]})" for name, value in row.by_group.items()
    ]
    return f"{', '.join(figures)}: {groups.measure}. Source: {groups.source}"


def weak_groups(row: Row) -> list[str]:
    """The groups of faces of which it misses many pairs, with the percent found; worst first."""
    weak = sorted((value, name) for name, value in row.by_group.items() if value < WEAK_BELOW)
    return [f"{name} {value:.0f} %" for value, name in weak]


def speed(row: Row) -> str:
    """Its speed and memory relative to the default, with the machine."""
    figures = row.measured
    if figures is None:
        return "not measured"
    how = f", with {figures.how}" if figures.how else ""
    held = f"memory {times(figures.memory)}" if figures.memory else "memory not measured"
    return (
        f"{times(figures.speed)} the default's scans a second at eight connections, "
        f"{times(figures.speed_alone)} at one; {held}; measured{how} on {measured.machine()}"
    )


def memory(row: Row) -> str:
    """Its memory over that of the default."""
    ratio = row.measured.memory if row.measured else None
    return "-" if ratio is None else times(ratio)


def times(ratio: float) -> str:
    """A ratio with the digits that matter: `12x`, `1.2x`, `0.8x`, `0.12x`."""
    return f"{ratio:.{0 if ratio >= 9.95 else 1 if ratio >= 0.295 else 2}f}x"


def download(row: Row) -> str:
    """The size of all its models' files, and what is left to download on this machine."""
    whole = size(row.download)
    if not row.models or row.to_download == row.download:
        return whole
    left = "all here" if row.to_download == 0 else f"{size(row.to_download)} are not here yet"
    return f"{whole}; {left}"


def left(row: Row) -> str:
    """What is left to download on this machine, in at most six characters."""
    return "here" if row.models and row.to_download == 0 else size(row.to_download)


def size(count: int | None) -> str:
    """Bytes in at most six characters: `none`, `0.3 MB`, `112 MB`, `1.2 GB`; `?` if not known."""
    if count is None:
        return "?"
    if count == 0:
        return "none"
    megabytes = max(count / 1e6, 0.1)
    if megabytes >= 999.5:
        return f"{megabytes / 1000:.1f} GB"
    return f"{megabytes:.0f} MB" if megabytes >= 9.95 else f"{megabytes:.1f} MB"


def _sources(row: Row, name: str) -> list[str]:
    """The first source of each file of a model; an archive or image once."""
    return list(dict.fromkeys(_container(parse(text)) for text in row.sources.get(name, ())))


def _container(source: Source) -> str:
    """What is downloaded: the file, or the archive or image that it is in."""
    if not source.proven:
        return source.text
    return f"{source.text.partition('@sha256:')[0]}@{source.digest}"
