"""The secrets of an instance: what they are for, which file has them, and since when."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from compreface_cli.deploy import running
from compreface_cli.errors import UsageError
from compreface_cli.instance.records import Record
from compreface_cli.launchers import keys
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import ENV_FILE, TLS_KEY

# As the settings name them.
_DATABASE, _MAIL, _KEYS, _TLS = "postgres_password", "email_password", "api_keys", "tls_key"
_ENGINE = "engine_key"
_IN_ENV = {
    _DATABASE: ("POSTGRES_PASSWORD", "admin and api log in to the database with it"),
    _MAIL: ("EMAIL_PASSWORD", "admin logs in to the mail server with it"),
}


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that an instance has now."""

    name: str
    purpose: str
    file: Path
    unchanged_since: str  # ISO 8601, UTC; of the file, which is written only when it changes
    mode: str  # of the file: "0600"
    value: str = field(repr=False)


def of(name: str | None) -> tuple[Record, list[Secret]]:
    """The instance of that name, or the only one, and its secrets."""
    record = running.pick(name, only_running=False, command="cf secrets list")
    known = running.deployment(record)
    secrets = []
    folder = Path(known.data["folder"])
    if known.launcher != "process":
        values = writer.read_env(folder / ENV_FILE)
        for setting, (variable, purpose) in _IN_ENV.items():
            used = setting != _DATABASE or record.services == "full"
            if used and values.get(variable):
                secrets.append(_secret(setting, purpose, folder / ENV_FILE, values[variable]))
    tls_key = folder / TLS_KEY
    if tls_key.is_file():
        purpose = "the UI's server proves with it that the certificate is its own"
        secrets.append(_secret(_TLS, purpose, tls_key, tls_key.read_text("ascii")))
    accepted = keys.all_of(known)
    if accepted and known.launcher == "swarm":
        purpose = "nginx asks for it at the engine's port; cf sends it by itself"
        secrets.append(_secret(_ENGINE, purpose, keys.file_of(known), accepted[0]))
    elif accepted:
        purpose = f"the engine accepts them: {len(accepted)}"
        secrets.append(_secret(_KEYS, purpose, keys.file_of(known), ",".join(accepted)))
    return record, secrets


def value_of(secrets: list[Secret], name: str, instance: str) -> str:
    """The value of one; raises UsageError with the names for another name."""
    for secret in secrets:
        if secret.name == name:
            return secret.value
    known = ", ".join(secret.name for secret in secrets) or "none"
    raise UsageError(f"'{instance}' has no secret '{name}'", hint=f"It has: {known}.")


def _secret(name: str, purpose: str, file: Path, value: str) -> Secret:
    stat = file.stat()
    since = datetime.fromtimestamp(stat.st_mtime, UTC).isoformat(timespec="seconds")
    return Secret(name, purpose, file, since, f"{stat.st_mode & 0o777:04o}", value)
