"""The models of a build in a list: which are here, which can be fetched, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compreface_cli import plugin_table
from compreface_cli.builds import builds
from compreface_cli.config import paths
from compreface_cli.errors import CfError
from compreface_cli.models import catalogue
from compreface_cli.models.entry import Model

_IPV4, _IPV6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_REJECTED = 0x200  # RTF_REJECT of linux/route.h: a route that leads nowhere


@dataclass(frozen=True, slots=True)
class Models:
    """The models of a build by name: `here`, `missing` or `damaged`."""

    states: Mapping[str, str]
    to_give: tuple[str, ...]  # those without an address and without a fallback: the user's task
    to_fetch: tuple[str, ...]  # those that an address must give
    download: int | None  # bytes of all files, fetched or not; None: not known


def of(build: builds.Listed, plugins: tuple[str, ...]) -> Models:
    entries = build.data.get("models")
    own = {
        str(entry.get("name")): entry
        for entry in (entries if isinstance(entries, list) else ())
        if isinstance(entry, dict)
    }
    spared = build.data.get("fallbacks")
    replaceable = tuple(spared) if isinstance(spared, dict) else ()
    needed = plugin_table.models_of([one for one in plugins if one not in replaceable])
    states: dict[str, str] = {}
    to_give, to_fetch, sizes = [], [], []
    for name in plugin_table.models_of(plugins):
        states[name], way = _state(build, name, own.get(name))
        sizes.append(_size(own.get(name) or catalogue.entry(name)))
        if name in needed and way == "none":
            to_give.append(name)
        if name in needed and way == "fetch":
            to_fetch.append(name)
    known = [size for size in sizes if size is not None]
    download = sum(known) if len(known) == len(sizes) else None
    return Models(states, tuple(to_give), tuple(to_fetch), download)


def _size(entry: Mapping[str, Any] | None) -> int | None:
    """Bytes of a model's files; None if one of them does not state its own."""
    files = entry.get("files") if entry else None
    sizes = [file.get("bytes") for file in files or () if isinstance(file, dict)]
    known = [size for size in sizes if isinstance(size, int)]
    return sum(known) if known and len(known) == len(sizes) else None


def _state(build: builds.Listed, name: str, own: Mapping[str, Any] | None) -> tuple[str, str]:
    """The state of a model, and where it can come from: `here`, `fetch` or `none`."""
    if own is None and not _may_be_here(name):
        return "missing", "fetch" if catalogue.has_address(name) else "none"
    from compreface_cli.models import store

    try:
        model = _model(build, name, own)
        if model is None:
            return "missing", "none"
        state = store.state(model)
        if not store.obtainable(model):
            return state, "none"
        return state, "here" if state == "here" or store.lies_here(model) else "fetch"
    except CfError:
        return "missing", "none"  # `cf validate` and `cf up` report the fault


def _may_be_here(name: str) -> bool:
    """Whether the store has a folder of that name, or a mirror is set."""
    folders = (paths.models_dir() / name, paths.cache_dir() / "weights" / name)
    return bool(os.environ.get("CF_MODELS_MIRROR")) or any(path.exists() for path in folders)


def _model(build: builds.Listed, name: str, own: Mapping[str, Any] | None) -> Model | None:
    if own is None:
        return catalogue.model(name)
    from compreface_cli.builds.spec import model_from_data

    beside = "" if build.origin == "bundled" else str(build.path.parent)
    return builds.model_of(model_from_data(dict(own), str(build.path)), beside)


def network(ipv4: Path = _IPV4, ipv6: Path = _IPV6) -> bool:
    """Whether this host has a default route, a proxy or an address as mirror; asks nobody."""
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    if any(os.environ.get(name) for name in names):
        return True
    if os.environ.get("CF_MODELS_MIRROR", "").startswith(("http://", "https://")):
        return True
    try:
        rows = [line.split() for line in ipv4.read_text().splitlines()[1:]]
        if any(row[1] == row[7] == "00000000" for row in rows):
            return True
        rows = [line.split() for line in ipv6.read_text().splitlines()]
        return any(
            row[0] == "0" * 32 and row[1] == "00" and not int(row[8], 16) & _REJECTED
            for row in rows
        )
    except (OSError, IndexError, ValueError):
        return True  # not known: `cf up` finds out
