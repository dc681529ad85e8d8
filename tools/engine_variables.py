"""The engine's environment variables: their meanings, defaults and choices."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from compreface_engine.settings import Settings
from compreface_engine.variables import Variables

MEANINGS: Mapping[str, str] = {
    "CF_HOST": "address to listen on",
    "CF_PORT": "port to listen on; 0 takes a free one",
    "FACE_DETECTION_PLUGIN": "detector, one of the [plugins](../your-own-model.md#plugins)",
    "CALCULATION_PLUGIN": "calculator, likewise; a wrong name is answered with all valid ones",
    "EXTRA_PLUGINS": "further plugins, separated by commas or blanks; a lone comma means none",
    "CF_MODELS_DIR": "folder of prepared models",
    "CF_RUNTIME": "library that runs the networks; `auto` measures and takes the fastest",
    "CF_PRECISION": "numbers that the calculator computes with; `auto` takes the faster one",
    "CF_MIN_COSINE": "lowest cosine to fp32 that `auto` accepts",
    "CF_CHOICES_DIR": "folder for measurements of `auto`, created; unset: `.choices` in "
    "`CF_MODELS_DIR`",
    "CF_BATCHING": "`on` computes faces of several requests in one batch; `auto` does so on a GPU",
    "IMG_LENGTH_LIMIT": "longest side in pixels that detection sees; 0 means no limit",
    "GPU_IDX": "index of the NVIDIA GPU (needs the extra `gpu`); -1 means the CPU",
    "CF_MAX_CONCURRENCY": "photographs computed at once; on a GPU twice the cores, at least 8",
    "UWSGI_PROCESSES": "times `UWSGI_THREADS`: `CF_MAX_CONCURRENCY` where that is unset",
    "UWSGI_THREADS": "see `UWSGI_PROCESSES`",
    "CF_THREADS": "threads of all computations together; each gets its share",
    "CF_MAX_QUEUE": "requests that may wait",
    "CF_MAX_QUEUE_BYTES": "memory in bytes for the bodies of all requests",
    "CF_MAX_WAIT_S": "longest wait in seconds for memory and for a free worker, together",
    "CF_RETRY_AFTER": "whether a 503 has `Retry-After`; false for callers that then retry at once, "
    "as CompreFace's `api` does",
    "CF_DRAIN_S": "seconds after SIGTERM in which waiting requests are still served",
    "CF_STUCK_S": "a computation that takes longer, in seconds, ends the engine",
    "CF_MAX_BODY_BYTES": "largest body in bytes",
    "CF_BODY_TIMEOUT_S": "seconds that a body may take to arrive",
    "CF_MAX_PIXELS": "largest picture, width times height, read from its header",
    "CF_MAX_MEMORY_BYTES": "memory of the process in bytes; unset: the least of the cgroup's "
    "limits, `ulimit -v` and what the machine has available",
    "CF_APPLY_EXIF": "rotate photographs as their EXIF orientation says; boxes are then in rotated "
    "pixels",
    "CF_API_KEYS": "accepted API keys, separated by commas or blanks; unset: no key is required",
    "CF_API_KEYS_FILE": "file with the accepted API keys, one a line",
    "CF_RATE_LIMIT": "photographs a second for each client; unset: no limit",
    "CF_RATE_BURST": "photographs at once for each client; unset: one second of `CF_RATE_LIMIT`",
    "LOGGING_LEVEL_NAME": "`debug`, `info`, `warning`, `error` or `critical`",
    "APP_VERSION_STRING": "`build_version` in `/status`; a `BE_VERSION` that differs is named in a "
    "warning",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "where traces go (needs the extra `otel`); unset: no traces",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "the same, for traces alone",
    "OTEL_SDK_DISABLED": "switches traces off",
    "OTEL_EXPORTER_OTLP_HEADERS": "headers sent with traces, `name=value` separated by commas",
    "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "the same, for traces alone",
    "OTEL_TRACES_EXPORTER": "`otlp` or `none`",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "`http/protobuf` only",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "`http/protobuf` only",
    "OTEL_SERVICE_NAME": "name of the service in traces",
}


class Row(NamedTuple):
    """A variable; `default` is "" if there is no default value."""

    name: str
    default: str
    choices: tuple[str, ...]
    meaning: str


class _Recorder(Variables):
    """Variables that record each name that is read, with its default and choices."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__(environ)
        self.recorded: dict[str, tuple[Any, tuple[str, ...]]] = {}

    def _parse(self, name: str, default: Any, parse: Callable[[str], Any]) -> Any:
        self.recorded.setdefault(name, (default, ()))
        return super()._parse(name, default, parse)

    def choice(self, name: str, default: str, allowed: tuple[str, ...]) -> str:
        self.recorded[name] = (default, allowed)
        return super().choice(name, default, allowed)

    def names(self, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
        self.recorded[name] = (default, ())
        return super().names(name, default)

    def keys(self, name: str, file_name: str) -> tuple[str, ...]:
        self.recorded |= {name: (None, ()), file_name: (None, ())}
        return super().keys(name, file_name)


def _recorded(cores: int) -> Mapping[str, tuple[Any, tuple[str, ...]]]:
    recorder = _Recorder({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"})
    Settings.read(recorder, cores=cores)
    return recorder.recorded


def rows() -> Iterator[Row]:
    """A row for each variable that the engine reads, in the order of MEANINGS."""
    recorded, with_more_cores = _recorded(2), _recorded(3)
    if set(recorded) != set(MEANINGS):
        difference = ", ".join(sorted(set(recorded) ^ set(MEANINGS)))
        raise SystemExit(f"the engine and MEANINGS in {__file__} differ in {difference}")
    for name, meaning in MEANINGS.items():
        default, choices = recorded[name]
        shown = _text(name, default)
        if default != with_more_cores[name][0]:
            shown = "usable cores"
        yield Row(name, shown, choices, meaning)


def _text(name: str, default: Any) -> str:
    if name == "LOGGING_LEVEL_NAME":
        return str(logging.getLevelName(default)).lower()
    if isinstance(default, tuple):
        return ",".join(default)
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in (None, "", "=", 0) else str(default)
