"""JSON lines on stderr: never a photograph, an embedding, a file name, a query or an API key."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, TextIO

NAME = "compreface_engine"

about_request: ContextVar[dict[str, str] | None] = ContextVar("about_request", default=None)
"""What every line of a request carries: its id, and its trace where there is one."""


class JsonLines(logging.Formatter):
    """One record, one JSON object; only fields named here, whatever else a record carries."""

    def __init__(self, build_version: str) -> None:
        super().__init__()
        self._build_version = build_version

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "build_version": self._build_version,
        }
        about: dict[str, Any] = {**(about_request.get() or {}), **getattr(record, "request", {})}
        if about:
            line["request"] = about
        if record.exc_info and record.exc_info[0] is not None:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up(level: int, build_version: str, stream: TextIO | None = None) -> logging.Logger:
    """Sends all logging of the process through one JSON handler; returns the engine's own logger.

    Foreign libraries get through with warnings at most: at debug level Pillow prints parts of
    pictures' metadata, and the multipart parser prints bytes of requests.
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
