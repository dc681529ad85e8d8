"""Telemetry of each request: metrics, spans and a line in the log."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

from compreface_engine.admission import stop_if_disconnected
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.logs import NAME, request_fields
from compreface_engine.metrics import Metrics

if TYPE_CHECKING:
    from compreface_engine.tracing import RequestSpan, Tracing

CLIENT_DISCONNECTED = 499
"""The status of a request in metrics whose client disconnected before the answer."""

log = logging.getLogger(NAME)


class Telemetry:
    """The engine's metrics and, where an endpoint is set, its traces."""

    def __init__(self, metrics: Metrics | None = None, tracing: Tracing | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._tracing = tracing
        self._ids = count(1)
        self._prefix = os.urandom(4).hex()

    @classmethod
    def start(cls, service_name: str, version: str, *, traces: bool) -> Telemetry:
        """The telemetry with or without `traces`.

        Raises ConfigurationError where they cannot be sent.
        """
        if not traces:
            return cls()
        try:
            from compreface_engine.tracing import Tracing
        except ImportError as error:
            raise ConfigurationError(
                f"an OTEL_EXPORTER_OTLP_ endpoint is set, but {error.name} is not installed; "
                "install compreface-engine[otel], or unset the endpoint"
            ) from error
        return cls(tracing=Tracing(service_name, version))

    def observe(self, stage: str, seconds: float, items: int) -> None:
        """Counts one stage; an observer of the pipeline.

        Raises ClientDisconnected where the client of this request has disconnected.
        """
        self.metrics.observe(stage, seconds, items)
        if self._tracing is not None:
            self._tracing.observe(stage, seconds, items)
        if stage != "batch":  # Other requests wait for the result of a shared run.
            stop_if_disconnected()

    def begin(
        self,
        method: str,
        route: str,
        request_id: str | None,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        works: bool,
    ) -> Request:
        """Starts a request's telemetry; a request that `works`, i.e. computes, gets a span."""
        fields = {"id": request_id or f"{self._prefix}{next(self._ids):08x}"}
        span = None
        if works and self._tracing is not None:
            span = self._tracing.begin(method, route, headers)
            fields["trace_id"] = span.trace_id
        request_fields.set(fields)
        return Request(self.metrics, fields["id"], method, route, span)

    def close(self) -> None:
        """Sends the last spans; see `Tracing.close`."""
        if self._tracing is not None:
            self._tracing.close()


class Request:
    """The telemetry of one request while it lasts."""

    __slots__ = ("_began", "_metrics", "_span", "id", "method", "route")

    def __init__(
        self, metrics: Metrics, request_id: str, method: str, route: str, span: RequestSpan | None
    ) -> None:
        self._began = time.perf_counter()
        self._metrics = metrics
        self._span = span
        self.id = request_id
        self.method = method
        self.route = route

    def waited(self, seconds: float) -> None:
        """Notes the seconds that it waited for a worker."""
        self._metrics.waited(seconds)
        self.stage("queue", seconds)

    def stage(self, name: str, seconds: float) -> None:
        """Notes a stage outside the pipeline that took `seconds`."""
        if self._span is not None:
            self._span.stage(name, seconds)

    def end(self, status: int | None) -> None:
        """Ends it with the answer's `status`; None: the client disconnected."""
        seconds = time.perf_counter() - self._began
        self._metrics.answered(self.route, self.method, status or CLIENT_DISCONNECTED, seconds)
        if self._span is not None:
            self._span.end(status, self.id)
        # Successful probes come every few seconds, so they are logged at debug level.
        level = logging.INFO if self.method == "POST" or status != 200 else logging.DEBUG
        if log.isEnabledFor(level):
            request = {
                "method": self.method,
                "path": self.route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            message = "answered" if status else "the client disconnected"
            log.log(level, message, extra={"request": request})
