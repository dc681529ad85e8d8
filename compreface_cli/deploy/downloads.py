"""Says what will be downloaded for the models of a plan, and checks that the disk has room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from compreface_cli.checks.base import size
from compreface_cli.config import paths
from compreface_cli.errors import HardwareError
from compreface_cli.facts import host
from compreface_cli.models.needed import Download
from compreface_cli.plan.plan import Plan
from compreface_cli.runtimes import joined


def needed(plan: Plan) -> tuple[Download, ...]:
    """What the plan's models need that is not on this machine; asks no address."""
    from compreface_cli.models import store

    return store.needed(plan.models)


def words(downloads: Sequence[Download]) -> str:
    """`112 MB from github.com for model a; an unknown size from docker.io/b for models b and c`."""
    by_host: dict[str, list[Download]] = {}
    for each in downloads:
        by_host.setdefault(_host(each), []).append(each)
    parts = []
    for place, group in by_host.items():
        models = dict.fromkeys(model for each in group for model in each.models)
        kind = "model" if len(models) == 1 else "models"
        parts.append(f"{_total(group)} from {place} for {kind} {joined(models, 'and')}")
    known = any(each.bytes is not None for each in downloads)
    said = "; ".join(parts)
    return f"{_total(downloads)} in all: {said}" if len(parts) > 1 and known else said


def rows(downloads: Sequence[Download]) -> list[dict[str, Any]]:
    """The downloads as `--json` lists them."""
    return [
        {
            "from": _host(each),
            "models": list(each.models),
            "files": list(each.files),
            "bytes": each.bytes,
        }
        for each in downloads
    ]


def require_room(downloads: Sequence[Download]) -> None:
    """Raise HardwareError if they are known to need more room than is free on their disk."""
    total = sum(each.bytes or 0 for each in downloads)
    folder = paths.cache_dir()
    free = host.disk(folder).free
    if total > free:
        raise HardwareError(
            f"{size(total)} must be downloaded, but only {size(free)} are free at {folder}",
            hint=paths.room(folder),
            details={"bytes": total, "free": free, "path": str(folder)},
        )


def _total(downloads: Sequence[Download]) -> str:
    known = [each.bytes for each in downloads if each.bytes is not None]
    if not known:
        return "an unknown size"
    return ("at least " if len(known) < len(downloads) else "") + size(sum(known))


def _host(download: Download) -> str:
    """The image's name without its digest, else the host."""
    address = download.source.address
    return address if download.source.kind == "oci" else urlsplit(address).netloc
