"""What is noted of every request: counters, spans and a line in the log."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable
from itertools import count
from typing import TYPE_CHECKING

from compreface_engine.admission import stop_if_left
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.logs import NAME, about_request
from compreface_engine.metrics import Metrics

if TYPE_CHECKING:
    from compreface_engine.tracing import RequestSpan, Tracing

HUNG_UP = 499
"""The status under which a caller that left without an answer is counted."""

log = logging.getLogger(NAME)


class Telemetry:
    """Counters always, traces where they are wanted."""

    def __init__(self, metrics: Metrics | None = None, tracing: Tracing | None = None) -> None:
        self.metrics = metrics or Metrics()
        self._tracing = tracing
        self._ids = count(1)
        self._prefix = os.urandom(4).hex()

    @classmethod
    def start(cls, service_name: str, version: str, *, traces: bool) -> Telemetry:
        """Raises ConfigurationError where `traces` are wanted and cannot be sent."""
        if not traces:
            return cls()
        try:
            from compreface_engine.tracing import Tracing
        except ImportError as error:
            raise ConfigurationError(
                "an OTEL_EXPORTER_OTLP_ endpoint is set, but OpenTelemetry is not installed here "
                f"({error.name} is missing): install compreface-engine[otel], or unset the endpoint"
            ) from error
        return cls(tracing=Tracing(service_name, version))

    def observe(self, stage: str, seconds: float, items: int) -> None:
        """A pipeline's observer. Raises CallerLeft after a stage whose caller has hung up."""
        self.metrics.observe(stage, seconds, items)
        if self._tracing is not None:
            self._tracing.observe(stage, seconds, items)
        if stage != "batch":  # Others wait for a run that is shared.
            stop_if_left()

    def begin(
        self,
        method: str,
        route: str,
        request_id: str | None,
        headers: Iterable[tuple[bytes, bytes]],
        *,
        works: bool,
    ) -> Request:
        """Notes a request from now on; `works`: it computes something, so it may have a span."""
        about = {"id": request_id or f"{self._prefix}{next(self._ids):08x}"}
        span = None
        if works and self._tracing is not None:
            span = self._tracing.begin(method, route, headers)
            about["trace_id"] = span.trace_id
        about_request.set(about)
        return Request(self.metrics, about["id"], method, route, span)

    def close(self) -> None:
        """Sends what is left to send, for a moment."""
        if self._tracing is not None:
            self._tracing.close()


class Request:
    """One request while it lasts."""

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
        """It waited so long for a worker."""
        self._metrics.waited(seconds)
        self.stage("queue", seconds)

    def stage(self, name: str, seconds: float) -> None:
        """A part of it outside the pipeline."""
        if self._span is not None:
            self._span.stage(name, seconds)

    def end(self, status: int | None) -> None:
        """It is answered; None: the caller hung up."""
        seconds = time.perf_counter() - self._began
        self._metrics.answered(self.route, self.method, status or HUNG_UP, seconds)
        if self._span is not None:
            self._span.end(status, self.id)
        # Probes come every few seconds and say nothing new: they are logged at debug level.
        level = logging.INFO if self.method == "POST" or status != 200 else logging.DEBUG
        if log.isEnabledFor(level):
            request = {
                "method": self.method,
                "path": self.route,
                "status": status,
                "ms": round(seconds * 1000, 1),
            }
            log.log(
                level, "answered" if status else "the caller hung up", extra={"request": request}
            )
