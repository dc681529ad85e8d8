"""Typed and checked look-up of environment variables."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from compreface_engine.core.errors import ConfigurationError

T = TypeVar("T")

WITHOUT_EFFECT: Mapping[str, str | None] = {
    "ML_PORT": "the original's server ignores it too; set CF_PORT",
    "FLASK_ENV": "this engine has no modes: logs are JSON lines and answers are compact",
    "RUN_MODE": None,
    "CUDA": "it chose MXNet's package when the original's image was built; set GPU_IDX",
    "INTEL_OPTIMIZATION": "the original never used it",
    "JOBLIB_MULTIPROCESSING": None,
    "HOME": None,
    **dict.fromkeys(
        (
            *("SCANNERS", "DRY_RUN", "SAVE_IMG", "SAVE_IMG_ON_ERROR"),
            *("IMG_NAMES", "USE_REMOTE", "ML_HOST", "ML_URL"),
        )
    ),
}
"""Variables of the original that have no effect here, and the reason that a warning gives.

None: no warning, since the original's service did not read it either.
"""
_SAME_AS_UNSET = {
    "ML_PORT": ("3000",),
    "FLASK_ENV": ("production",),
    "INTEL_OPTIMIZATION": ("false", "0"),
}
_UWSGI = frozenset({"UWSGI_PROCESSES", "UWSGI_THREADS"})
MIN_KEY_LENGTH = 8
DIGEST = "sha256:"
"""The prefix of a key that is given by its SHA-256 in hex."""
_HEX = re.compile(r"[0-9a-f]{64}")
_COMMENT = re.compile(r"(^|\s)#.*")

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
    "fatal": logging.CRITICAL,
    "notset": logging.DEBUG,
}


class Variables:
    """Typed look-ups in a mapping; remembers the names, to find misspelled ones.

    Each look-up returns its default where the variable is unset or empty, and raises
    ConfigurationError with the variable, its value and the reason where the value is invalid.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: set[str] = set()

    def _parse(self, name: str, default: T, parse: Callable[[str], T]) -> T:
        self._known.add(name)
        value = self._environ.get(name, "").strip()
        if not value:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise ConfigurationError(f"{name}={value}: {error}") from error

    def text(self, name: str, default: str) -> str:
        """The value without blanks around it."""
        return self._parse(name, default, str)

    def integer(self, name: str, default: int, *, low: int, high: int | None = None) -> int:
        """A whole number from `low` to `high`, both included; None: no upper limit."""

        def parse(value: str) -> int:
            try:
                number = int(value)
            except ValueError as error:
                raise ValueError("is not a whole number") from error
            if number < low or (high is not None and number > high):
                limits = f"at least {low}" if high is None else f"between {low} and {high}"
                raise ValueError(f"must be {limits}")
            return number

        return self._parse(name, default, parse)

    def seconds(self, name: str, default: float) -> float:
        """A finite number of seconds above 0."""
        return self.number(name, default, "a number of seconds", "0 seconds")

    def number(self, name: str, default: float, what: str, least: str = "0") -> float:
        """A finite number above 0; errors call it `what` and its lower bound `least`."""

        def parse(value: str) -> float:
            try:
                number = float(value)
            except ValueError as error:
                raise ValueError(f"is not {what}") from error
            if not (0 < number and math.isfinite(number)):
                raise ValueError(f"must be more than {least}")
            return number

        return self._parse(name, default, parse)

    def cosine(self, name: str, default: float) -> float:
        """A number above 0 and at most 1."""

        def parse(value: str) -> float:
            try:
                number = float(value)
            except ValueError as error:
                raise ValueError("is not a number") from error
            if not 0 < number <= 1:
                raise ValueError("must be more than 0 and at most 1")
            return number

        return self._parse(name, default, parse)

    def flag(self, name: str, default: bool) -> bool:
        """True for true, 1, yes and on, False for false, 0, no and off, in any case."""

        def parse(value: str) -> bool:
            word = value.lower()
            if word in ("true", "1", "yes", "on"):
                return True
            if word in ("false", "0", "no", "off"):
                return False
            raise ValueError("must be true or false")

        return self._parse(name, default, parse)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        """One of the words in `allowed`."""

        def parse(value: str) -> str:
            if value not in allowed:
                raise ValueError(f"must be one of {', '.join(allowed)}")
            return value

        return self._parse(name, default, parse)

    def folder(self, name: str) -> Path | None:
        """An existing folder; None where it is unset."""

        def parse(value: str) -> Path | None:
            path = Path(value)
            if not path.is_dir():
                raise ValueError("is not an existing folder")
            return path

        return self._parse(name, None, parse)

    def level(self, name: str, default: int) -> int:
        """A log level by its name, in any case; returns `logging`'s number."""

        def parse(value: str) -> int:
            if value.lower() not in _LEVELS:
                raise ValueError(f"must be one of {', '.join(_LEVELS)}")
            return _LEVELS[value.lower()]

        return self._parse(name, default, parse)

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """Words separated by commas and blanks; a single comma or blank is an empty list."""
        self._known.add(name)
        value = self._environ.get(name, "")
        if not value:
            return default
        return tuple(name for name in re.split(r"[,\s]+", value) if name)

    def keys(self, name: str, file_name: str) -> tuple[str, ...]:
        """API keys from variable `name`, or from the file that variable `file_name` names.

        A file has comments after `#`. Errors show no part of a key.
        """
        self._known |= {name, file_name}
        text = self._environ.get(name, "")
        path = self._environ.get(file_name, "").strip()
        if not text.strip() and not path:
            return ()
        if text.strip() and path:
            raise ConfigurationError(f"{name} and {file_name} are both set; keep one of them")
        return keys_in_file(path, file_name) if path else _keys(text, name, in_file=False)

    def file(self, name: str) -> Path | None:
        """The file that the variable names."""
        self._known.add(name)
        path = self._environ.get(name, "").strip()
        return Path(path) if path else None

    def traces(self) -> bool:
        """Whether traces are sent: a standard OTEL_ endpoint is set and tracing is not disabled."""
        names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
        endpoints = {name: self.text(name, "") for name in names}
        if not any(endpoints.values()) or self.flag("OTEL_SDK_DISABLED", False):
            return False
        for name, endpoint in endpoints.items():
            if endpoint and not re.match(r"https?://[^/\s]", endpoint):
                raise ConfigurationError(f"{name}={endpoint}: must be an http:// or https:// URL")
        for name in ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"):
            # Checked here, since the SDK would print the value, which may be a secret token.
            if not all("=" in part for part in self.text(name, "=").strip(" ,").split(",")):
                raise ConfigurationError(f"{name}: must be name=value pairs separated by commas")
        exporter = self.text("OTEL_TRACES_EXPORTER", "otlp")
        if exporter not in ("otlp", "none"):
            raise ConfigurationError(f"OTEL_TRACES_EXPORTER={exporter}: must be otlp or none")
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            protocol = self.text(name, "http/protobuf")
            if protocol != "http/protobuf":
                raise ConfigurationError(
                    f"{name}={protocol}: must be http/protobuf (the collector's usual port: 4318)"
                )
        return exporter == "otlp"

    def without_effect(self, build_version: str) -> tuple[str, ...]:
        """One warning for each variable that is set and has no effect here."""

        def value(name: str) -> str:
            return self._environ.get(name, "").strip()

        warnings = [
            f"{name} has no effect: {reason}"
            for name, reason in WITHOUT_EFFECT.items()
            if reason and value(name) and value(name).lower() not in _SAME_AS_UNSET.get(name, ())
        ]
        if value("BE_VERSION") and value("BE_VERSION") != build_version:
            warnings.append(f"BE_VERSION differs from APP_VERSION_STRING ({build_version})")
        if value("CF_RATE_BURST") and not value("CF_RATE_LIMIT"):
            warnings.append("CF_RATE_BURST has no effect: CF_RATE_LIMIT is not set")
        warnings += [
            f"{name} has no effect: this engine does not run in uWSGI"
            for name in sorted(self._environ)
            if name.startswith("UWSGI_") and name not in _UWSGI and value(name)
        ]
        return tuple(warnings)

    def unknown(self) -> tuple[str, ...]:
        """One warning for each CF_* variable that was never looked up."""
        return tuple(
            f"{name} is unknown to this engine and has no effect (misspelled?)"
            for name in sorted(self._environ)
            if name.startswith("CF_") and name not in self._known and self._environ[name].strip()
        )


def keys_in_file(path: str | Path, name: str) -> tuple[str, ...]:
    """The API keys in a file, which variable `name` names; raises ConfigurationError."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # Editors may leave a BOM.
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name}={path}: cannot be read: {error}") from error
    return _keys(text, name, in_file=True)


def _keys(text: str, source: str, *, in_file: bool) -> tuple[str, ...]:
    keys: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        content = _COMMENT.sub("", line) if in_file else line
        for key in re.split(r"[,\s]+", content):
            if not key:
                continue
            keys.append(key)
            place = f"the key in line {number}" if in_file else f"key {len(keys)}"
            if key.startswith(DIGEST) and not _HEX.fullmatch(key.removeprefix(DIGEST)):
                raise ConfigurationError(
                    f"{source}: {place} must have 64 lower-case hex digits after {DIGEST}"
                )
            if len(key) < MIN_KEY_LENGTH or not (key.isascii() and key.isprintable()):
                raise ConfigurationError(
                    f"{source}: {place} must have at least {MIN_KEY_LENGTH} characters, "
                    "all of them printable ASCII"
                )
    if not keys:
        raise ConfigurationError(
            f"{source} contains no key; unset it to accept requests without a key"
        )
    return tuple(keys)
