"""The log: JSON lines on stderr, without photographs, embeddings, file names, queries or keys."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, TextIO

NAME = "compreface_engine"

request_fields: ContextVar[dict[str, str] | None] = ContextVar("request_fields", default=None)
"""The fields of the current request in each of its lines: its id, and the trace id if any."""


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object of the fields named here; other fields are dropped."""

    def __init__(self, build_version: str) -> None:
        super().__init__()
        self._build_version = build_version

    def format(self, record: logging.LogRecord) -> str:
        """The JSON text of `record`, without a line end."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "build_version": self._build_version,
        }
        request: dict[str, Any] = {**(request_fields.get() or {}), **getattr(record, "request", {})}
        if request:
            line["request"] = request
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(level: int, build_version: str, stream: TextIO | None = None) -> logging.Logger:
    """Sends the whole process's logging through one JSON handler; returns the engine's logger.

    Libraries log warnings and errors only, whatever `level` is: at debug level Pillow prints parts
    of pictures' metadata, and the multipart parser prints bytes of requests.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines(build_version))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("PIL").setLevel(logging.ERROR)
    logging.captureWarnings(True)
    logger = logging.getLogger(NAME)
    logger.setLevel(level)
    return logger
