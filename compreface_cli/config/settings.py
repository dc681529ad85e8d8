"""Merges the sources of settings (flags, environment, files, defaults); knows each origin."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from compreface_cli.config import paths
from compreface_cli.config.settings_table import (
    BY_KEY,
    CF_VARIABLES,
    OTHER_VARIABLES,
    STACK,
    TABLE,
    TRANSLATED,
    WITHOUT_EFFECT,
    BadValue,
    Setting,
    whole,
)
from compreface_cli.config.textfile import read_text
from compreface_cli.errors import ConfigurationError, UsageError

PROJECT_FILE = "cf.yaml"
__all__ = [
    "PROJECT_FILE",
    "STACK",
    "TRANSLATED",
    "WITHOUT_EFFECT",
    "Settings",
    "Value",
    "resolve",
    "rows",
]

Layer = Literal["flag", "environment", "instance", "project file", "env file", "user file"]


_LAYERS: Sequence[Layer] = (
    "flag",
    "environment",
    "instance",
    "project file",
    "env file",
    "user file",
)
_PATHS = ("tls_cert", "tls_key", "api_keys_file", "database_url_file", "postgres_sslrootcert")

LITERAL = " in single quotes"
"""Ends the origin of a value of an env file in which Compose would replace no `$`."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value that was set, its layer, and its origin in words: `environment CF_PORT`."""

    value: Any
    layer: Layer
    where: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The values that were set, by key. `notes` are to be shown to the user once."""

    values: Mapping[str, Value] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def given(self, key: str) -> Value | None:
        return self.values.get(key)

    def get(self, key: str) -> Any:
        """The value that was set, else the table's default."""
        given = self.values.get(key)
        return BY_KEY[key].default if given is None else given.value

    def under(self, own: Mapping[str, Any], where: str) -> Settings:
        """These settings with the parsed values of an instance, which are stronger than files."""
        strong = {
            key: value
            for key, value in self.values.items()
            if value.layer in ("flag", "environment")
        }
        given = {key: Value(value, "instance", where) for key, value in own.items()}
        return Settings({**self.values, **given, **strong}, self.notes)

    def origin(self, key: str) -> str:
        given = self.values.get(key)
        return "default" if given is None else given.where


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    project_file: Path | None = None,
    user_file: Path | None = None,
) -> Settings:
    """Merge the layers, strongest first: flag, CF_* variable, project file, env_file, user file.

    A flag that is None was not given. The default files are `cf.yaml` in the working folder and
    the user's config.yaml. Raises ConfigurationError, or UsageError for a flag.
    """
    environ = os.environ if environ is None else environ
    project_file = Path(PROJECT_FILE) if project_file is None else project_file
    user_file = paths.user_file() if user_file is None else user_file
    values: dict[str, Value] = {}
    for key, raw in (flags or {}).items():
        if raw is not None:
            name = BY_KEY[key].flag or key
            values[key] = _value(key, raw, "flag", f"flag {name}")
    for row in TABLE:
        if environ.get(row.env):  # an empty variable counts as unset
            origin = f"environment {row.env}"
            values.setdefault(row.key, _value(row.key, environ[row.env], "environment", origin))
    project = _from_yaml(project_file, "project file")
    user = _from_yaml(user_file, "user file")
    notes = _unknown_variables(environ)
    for layer in (project, user):
        for key, value in layer.items():
            values.setdefault(key, value)
        if layer is project and "env_file" in values | user:
            chosen = values.get("env_file") or user["env_file"]
            path = Path(chosen.value).expanduser()
            if chosen.layer in ("project file", "user file"):  # relative to the file that names it
                path = (project_file if chosen.layer == "project file" else user_file).parent / path
            from_env, env_notes = _from_env_file(path, chosen.where)
            notes += env_notes
            for key, value in from_env.items():
                values.setdefault(key, value)
    files = {"project file": project_file, "user file": user_file}
    _read_keys(values, files)
    _read_database(values, files, notes)
    for key in _PATHS:
        if key in values and values[key].value:
            named = values[key]
            values[key] = replace(named, value=str(_path(named, files).absolute()))
    return Settings(values, tuple(notes))


def _read_keys(values: dict[str, Value], files: Mapping[str, Path]) -> None:
    """Set `api_keys` to the keys in `api_keys_file`: one per line, `#` starts a comment."""
    named = values.get("api_keys_file")
    if named is None:
        return
    if "api_keys" in values:
        other = values["api_keys"].where
        raise ConfigurationError(
            f"api_keys ({other}) and api_keys_file ({named.where}) are both set",
            hint="Keep one of them.",
        )
    path = _path(named, files)
    lines = read_text(path, f"{named.where}: {path}").splitlines()
    keys = " ".join(re.sub(r"(^|\s)#.*", "", line) for line in lines)
    values["api_keys"] = _value("api_keys", keys, named.layer, f"{named.where}, {path}")


def _read_database(values: dict[str, Value], files: Mapping[str, Path], notes: list[str]) -> None:
    """Set the settings of the database to the parts of `database_url`, which goes as a whole.

    They replace those of weaker layers. Raises ConfigurationError for one of an equal or stronger.
    """
    from compreface_cli.config import database_url

    if named := values.get("database_url_file"):
        if "database_url" in values:
            raise ConfigurationError(
                f"database_url ({values['database_url'].where}) and database_url_file "
                f"({named.where}) are both set",
                hint="Keep one of them.",
            )
        path = _path(named, files)
        text = read_text(path, f"{named.where}: {path}").strip()
        values["database_url"] = _value("database_url", text, named.layer, f"{named.where}, {path}")
    if given := values.get("database_url"):
        read = database_url.read(given.value)
        parts = {
            "postgres_host": read.host,
            "postgres_port": read.port,
            "postgres_user": read.user,
            "postgres_db": read.name,
            "postgres_sslmode": read.sslmode,
            "postgres_sslrootcert": read.sslrootcert,
        }
        if read.password is not None:
            parts["postgres_password"] = read.password
            if given.layer == "flag":
                notes.append(
                    "warning: the password in --database can be seen in the list of processes; "
                    "CF_DATABASE_URL and database_url_file keep it out of there"
                )
        for key, part in parts.items():
            other = values.get(key)
            if other and _LAYERS.index(other.layer) <= _LAYERS.index(given.layer):
                raise ConfigurationError(
                    f"database_url ({given.where}) and {key} ({other.where}) are both set, and the "
                    "first contains the second",
                    hint="Keep one of them.",
                )
            values[key] = replace(given, value=part)
    mode, certificate = values.get("postgres_sslmode"), values.get("postgres_sslrootcert")
    fault = database_url.tls_fault(
        mode.value if mode else BY_KEY["postgres_sslmode"].default,
        certificate.value if certificate else "",
    )
    if fault:
        where = " and ".join(dict.fromkeys(each.where for each in (mode, certificate) if each))
        raise ConfigurationError(f"{where}: {fault}")


def _path(named: Value, files: Mapping[str, Path]) -> Path:
    """The path that a setting names, relative to the file of settings that does."""
    path = Path(named.value).expanduser()
    return files[named.layer].parent / path if named.layer in files else path


def _unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Warnings about CF_* variables that are not known."""
    settable = {row.env for row in TABLE} | CF_VARIABLES
    known = settable | OTHER_VARIABLES
    notes = []
    for name in sorted(environ):
        if not name.startswith("CF_") or name in known:
            continue
        from difflib import get_close_matches

        # Compared without the prefix, which would make any two of them similar.
        words = {variable.removeprefix("CF_"): variable for variable in sorted(settable)}
        close = get_close_matches(name.removeprefix("CF_"), list(words), n=1, cutoff=0.6)
        suggestion = f"; did you mean {words[close[0]]}?" if close else ""
        notes.append(
            f"warning: environment {name} is not a variable of cf and has no effect{suggestion}"
        )
    return notes


def _value(key: str, raw: Any, layer: Layer, where: str) -> Value:
    try:
        return Value(BY_KEY[key].parse(raw), layer, where)
    except BadValue as error:
        shown = "" if BY_KEY[key].secret else f", not {raw!r}"
        kind = UsageError if layer == "flag" else ConfigurationError
        suggestion = f"; {error.suggestion}" if error.suggestion else ""
        raise kind(f"{where}: {key} {error}{shown}{suggestion}") from error


def _from_yaml(path: Path, layer: Layer) -> dict[str, Value]:
    if not path.exists():
        return {}
    from compreface_cli.config.yamlfile import Fault, did_you_mean, read, refuse

    document = read(path)
    if document.data is None:
        return {}
    if not isinstance(document.data, dict):
        raise refuse([Fault(document.origin, 1, 1, "settings are written as key: value")])
    values: dict[str, Value] = {}
    faults: list[Fault] = []
    renamed = {row.upstream: row.key for row in TABLE if row.upstream and row.upstream != row.key}
    for key, raw in document.data.items():
        line, column = document.position([key])
        if key not in BY_KEY:
            ours = renamed.get(key)
            hint = f"upstream's {key} is named {ours} here" if ours else did_you_mean(key, BY_KEY)
            hint = hint or "`cf config list` shows all settings"
            faults.append(Fault(document.origin, line, column, f"unknown setting {key!r}", hint))
            continue
        if raw is None:
            continue
        try:
            parsed = BY_KEY[key].parse(raw)
            values[key] = Value(parsed, layer, f"{layer} {path}:{line}")
        except BadValue as error:
            hint = error.suggestion or ""
            faults.append(Fault(document.origin, line, column, f"{key} {error}", hint))
    if faults:
        raise refuse(faults)
    return values


def _from_env_file(path: Path, where: str) -> tuple[dict[str, Value], list[str]]:
    """The values of an upstream `.env` file, and notes about keys without effect."""
    rows = _read_env(path, where)
    by_upstream = {row.upstream: row for row in TABLE if row.upstream}
    values: dict[str, Value] = {}
    notes: list[str] = []
    for key, (raw, line, literal) in rows.items():
        if key in WITHOUT_EFFECT:
            notes.append(f"{path}:{line}: {key} has no effect here: {WITHOUT_EFFECT[key]}")
        elif key in TRANSLATED:
            continue
        elif key not in by_upstream:
            notes.append(f"{path}:{line}: {key} is not a key of upstream's .env: it has no effect")
        elif raw:
            row = by_upstream[key]
            place = f"env file {path}:{line}" + (LITERAL if literal else "")
            values[row.key] = _value(row.key, raw, "env file", place)
    pair = [key for key in ("uwsgi_processes", "uwsgi_threads") if rows.get(key, ("",))[0]]
    if pair:
        total, line = 1, rows[pair[0]][1]
        for key in pair:
            number = whole(1, 1024)
            try:
                total *= number(rows[key][0])
            except BadValue as error:
                raise ConfigurationError(f"{path}:{rows[key][1]}: {key} {error}") from error
        where = f"env file {path}:{line} ({' times '.join(pair)})"
        values["max_concurrency"] = _value("max_concurrency", total, "env file", where)
    return values, notes


def _read_env(path: Path, where: str) -> dict[str, tuple[str, int, bool]]:
    """Key -> value, line, and whether it stands in single quotes, in which Compose leaves `$`."""
    text = read_text(path, f"{where}: {path}")
    rows: dict[str, tuple[str, int, bool]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        key, equals, value = stripped.removeprefix("export ").partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.strip()):
            raise ConfigurationError(f"{path}:{number}: expected KEY=value")
        rows[key.strip()] = (_unquote(value.strip()), number, value.strip().startswith("'"))
    return rows


def _unquote(value: str) -> str:
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return re.sub(r"\s+#.*$", "", value)


def rows(settings: Settings) -> Sequence[dict[str, Any]]:
    """Every setting with its value, origin and other names, for `cf config list`."""
    return [
        {
            "key": row.key,
            "value": _shown(row, settings.get(row.key)),
            "origin": settings.origin(row.key),
            "env": row.env,
            "flag": row.flag,
            "upstream": row.upstream,
            "help": row.help,
        }
        for row in TABLE
    ]


def _shown(row: Setting, value: Any) -> Any:
    if row.secret and value:
        return "********"
    return list(value) if isinstance(value, tuple) else value
