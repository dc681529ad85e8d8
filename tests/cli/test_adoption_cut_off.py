"""Commands on an instance whose adoption or release was cut off are refused, dry runs too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.data import restore
from compreface_cli.deploy import rotation, running
from compreface_cli.errors import ConflictError
from compreface_cli.instance.adopted import Adopted
from compreface_cli.instance.records import Record
from compreface_cli.removal import rm
from compreface_cli.terminal.output import Output
from tests.cli.backups import made_backup

OUT = Output(quiet=True)
COMMANDS: dict[str, Callable[[], Any]] = {
    "secrets rotate": lambda: rotation.rotate("faces", OUT, dry_run=True),
    "down": lambda: rm.down_with_volumes("faces", OUT, timeout_s=1.0, volumes=False, dry_run=True),
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("DATA", "STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))


def saved(state: Any) -> None:
    adopted = Adopted("faces", "/srv/faces", "", "faces_postgres-data", "facenet", "c", state)
    record = Record(
        name="faces",
        build="facenet",
        calculator="c",
        services="full",
        phase="running",
        created="2026-01-01T00:00:00+00:00",
        adopted=adopted.as_dict(),
    )
    running.instances().save(record)


@pytest.mark.parametrize("state", ["comparing", "switching", "releasing"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_half_adopted_instance_is_refused(command: str, state: str) -> None:
    saved(state)
    with pytest.raises(ConflictError) as refused:
        COMMANDS[command]()
    way = "cf release faces" if state == "releasing" else "cf adopt /srv/faces"
    assert f"`{way}`" in refused.value.message


def test_a_dry_restore_names_the_instance_that_is_in_the_way(tmp_path: Path) -> None:
    saved("adopted")
    file = tmp_path / "b.cfbackup"
    file.write_bytes(made_backup())
    with pytest.raises(ConflictError) as refused:
        restore.restore(file, "faces", OUT, dry_run=True)
    assert refused.value.details["instance"] == "faces"
    assert restore.restore(file, None, OUT, dry_run=True).instance == "demo"
