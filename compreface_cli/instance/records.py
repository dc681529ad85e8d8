"""The instances of this user: a JSON record and a lock each."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from compreface_cli import locks
from compreface_cli.config import paths
from compreface_cli.errors import ConfigurationError
from compreface_cli.locks import Holder

SCHEMA = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")

# starting: a run of `cf` is starting it, or was interrupted while it did;
# stopping: the same of `cf down`, or of `cf restart` before it starts anything
Phase: TypeAlias = Literal["starting", "running", "stopping", "stopped"]
_PHASES = get_args(Phase)


@dataclass(frozen=True, slots=True)
class Record:
    """What `cf` knows about an instance; `deployment`, `plan` and `answer` are plain JSON."""

    name: str
    build: str
    calculator: str
    services: str
    phase: Phase
    created: str  # ISO 8601, UTC
    digest: str = ""  # of all inputs of `up`; if it is the same, there is nothing to do
    deployment: Mapping[str, Any] = field(default_factory=dict)
    previous_record: Mapping[str, Any] | None = None  # of what an unfinished run is replacing
    plan: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)  # the engine's known answer
    engine_env: str = ""  # key of the environment that a local process runs in
    start_s: Mapping[str, float] = field(default_factory=dict)  # start time of each service
    touched: Sequence[str] = field(default_factory=list)  # services that are stopped or recreated
    command: str = ""  # the command line of the `cf` that is starting or stopping it
    adopted: Mapping[str, Any] = field(default_factory=dict)  # deploy/adoption.py: of upstream's
    # setting -> image of the stack that `cf upgrade` or `cf rollback` chose; `cf up` keeps it
    images: Mapping[str, str] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = field(default_factory=list)  # instance/history.py
    task: Mapping[str, Any] = field(default_factory=dict)  # what `command` needs to go on
    schema: int = SCHEMA

    @property
    def unfinished(self) -> bool:
        """Whether a run of `cf` works on it, or was interrupted before its last step."""
        return self.phase in ("starting", "stopping")

    @property
    def previous(self) -> Record | None:
        """The record before that run."""
        return Record(**self.previous_record) if self.previous_record else None


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that cannot be read; reported, and otherwise ignored."""

    name: str
    path: Path
    reason: str


def now() -> str:
    """The current time as in records: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Instances:
    """The records below one state folder (`<state>/instances/<name>/instance.json`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def home(self, name: str) -> Path:
        """The folder of an instance: its record, and its launcher's files."""
        if not _NAME.fullmatch(name):
            raise ConfigurationError(
                f"'{name}' is not a valid instance name",
                hint="Use up to 40 lower-case letters, digits and '-'.",
            )
        return self.folder / name

    def load(self, name: str) -> Record | None:
        """The record, or None without one; raises ConfigurationError when it is damaged."""
        path = self.home(name) / "instance.json"
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise paths.refused(error) or self._damaged(name, path, str(error)) from error
        except UnicodeDecodeError as error:
            raise self._damaged(name, path, str(error)) from error
        try:
            return _parse(name, text)
        except ValueError as error:
            raise self._damaged(name, path, str(error)) from error

    @staticmethod
    def _damaged(name: str, path: Path, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"the record of instance '{name}' is damaged: {reason}",
            hint=f"The file is {path}. `cf down {name}` says how to stop what still runs.",
        )

    def all(self) -> tuple[list[Record], list[Damaged]]:
        """All records by name, and those that cannot be read."""
        records: list[Record] = []
        damaged: list[Damaged] = []
        for path in sorted(self.folder.glob("*/instance.json")):
            name = path.parent.name
            try:
                records.append(_parse(name, path.read_text(encoding="utf-8")))
            except (OSError, ValueError) as error:
                damaged.append(Damaged(name, path, str(error)))
        return records, damaged

    def save(self, record: Record) -> None:
        """Write the record whole or not at all."""
        import tempfile  # late: `cf list-builds` reads records

        home = self.home(record.name)
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=home, prefix=".instance-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(record), file, indent=1, default=str)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, home / "instance.json")
        except BaseException as error:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            if isinstance(error, OSError):
                error.filename = error.filename or str(home / "instance.json")
            raise

    def remove(self, name: str) -> None:
        """Remove the record, and the instance's folder with it."""
        import shutil

        shutil.rmtree(self.home(name), ignore_errors=True)

    def holder(self, name: str) -> Holder | None:
        """The `cf` that works on the instance now, if any."""
        return locks.holder(self._lock_path(name))

    @contextmanager
    def lock(self, name: str, command: str) -> Iterator[None]:
        """Lock the instance; raises ConflictError, which names the holder, if another `cf` has."""
        path = self._lock_path(name)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        what, details = f"instance '{name}'", {"instance": name}
        with locks.hold(path, what, command=command, details=details):
            yield

    def _lock_path(self, name: str) -> Path:
        return self.home(name).with_name(f"{name}.lock")


def _parse(name: str, text: str) -> Record:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    if document.get("schema") != SCHEMA:
        raise ValueError(f"it has schema {document.get('schema')!r}, and this cf reads {SCHEMA}")
    if document.get("name") != name:
        raise ValueError(f"it names the instance {document.get('name')!r}")
    known = {item.name for item in fields(Record)}
    try:
        record = Record(**{key: value for key, value in document.items() if key in known})
    except TypeError as error:
        raise ValueError("a field is missing") from error
    if record.phase not in _PHASES or not isinstance(record.deployment, dict):
        raise ValueError("a field has a value that cf never writes")
    return record
