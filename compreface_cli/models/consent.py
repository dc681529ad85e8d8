"""The terms of weights that the user accepted: which are due before a fetch, and their record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compreface_cli.config import paths
from compreface_cli.errors import FetchError
from compreface_cli.models.files import disk_error, locked, make_folder
from compreface_cli.models.licence import Terms

ALL = "all"  # in place of names: every model


def path() -> Path:
    """The file of this user's record."""
    return paths.state_dir() / "accepted-licences.json"


def read(record: Path) -> dict[str, dict[str, Any]]:
    """What was accepted, by model: `terms`, `when`, `how`; raises FetchError for a damaged file."""
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or not all(isinstance(one, dict) for one in data.values()):
            raise ValueError("it is not a table of models and terms")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FetchError(
            f"the accepted licences in {record} cannot be read: {error}",
            hint="Repair or remove that file; without it, the terms must be accepted again.",
        ) from error
    return data


def due(terms: Mapping[str, Terms], record: Path) -> dict[str, Terms]:
    """Those of these models, by name, whose terms the user must accept before they are fetched.

    Not those that may be used commercially, and not those that were accepted on the same terms.
    """
    asked = {name: each for name, each in terms.items() if each.commercial != "allowed"}
    known = read(record) if asked else {}
    return {
        name: each
        for name, each in asked.items()
        if known.get(name, {}).get("terms") != asdict(each)
    }


def keep(terms: Mapping[str, Terms], how: str, record: Path) -> None:
    """Add to the record that the user accepted the terms of these models; `how`: where."""
    when = datetime.now(UTC).isoformat(timespec="seconds")
    with locked(record, note=lambda text: None):
        known = read(record)
        for name, each in terms.items():
            known[name] = {"terms": asdict(each), "when": when, "how": how}
        make_folder(record.parent)
        part = record.with_suffix(".part")
        try:
            part.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            part.replace(record)
        except OSError as error:
            raise disk_error(error, record) from error
