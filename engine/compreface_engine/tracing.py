"""Traces over OTLP; the only module that imports OpenTelemetry.

It is imported only where an endpoint is set. The SDK reads the standard OTEL_* variables itself
(endpoint, headers, timeout, sampler, batches, resource); `settings` decides whether to trace.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from compreface_engine.core.errors import ConfigurationError

FLUSH_TIMEOUT_S = 2.0
"""The time for sending the last spans; an endpoint that does not answer must not delay the exit."""

_current: ContextVar[RequestSpan | None] = ContextVar("span", default=None)


class Tracing:
    """Records a span for each request and for its stages; a thread of the SDK sends them.

    The SDK's queue is bounded: spans that a slow endpoint does not accept in time are dropped.
    """

    def __init__(self, service_name: str, version: str) -> None:
        """Raises ConfigurationError where the SDK refuses one of its own variables."""
        resource = Resource.create({"service.name": service_name, "service.version": version})
        # Neither global nor closed by the interpreter's exit: `close` shuts it down.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        try:
            sender = BatchSpanProcessor(OTLPSpanExporter())
        except ValueError as error:
            raise ConfigurationError(
                f"traces cannot be sent with these OTEL_ variables: {error}"
            ) from error
        self._provider.add_span_processor(sender)
        self._tracer = self._provider.get_tracer("compreface_engine")
        self._parents = TraceContextTextMapPropagator()

    def begin(self, method: str, route: str, headers: Iterable[tuple[bytes, bytes]]) -> RequestSpan:
        """Starts a request's span, as a child of the client's where `headers` name one (W3C)."""
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in headers
            if name in (b"traceparent", b"tracestate")
        }
        span = self._tracer.start_span(
            f"{method} {route}",
            context=self._parents.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "http.route": route},
        )
        request = RequestSpan(self._tracer, span)
        _current.set(request)
        return request

    def observe(self, stage: str, seconds: float, items: int) -> None:
        """Records a stage of this request that has just ended; an observer of the pipeline."""
        request = _current.get()
        if request is not None:
            request.stage(stage, seconds, items)

    def close(self) -> None:
        """Sends the last spans, within FLUSH_TIMEOUT_S."""
        sender = Thread(target=self._provider.shutdown, name="last-traces", daemon=True)
        sender.start()
        sender.join(FLUSH_TIMEOUT_S)


class RequestSpan:
    """One request's span, used by the event loop and then by a worker thread."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return f"{self._span.get_span_context().trace_id:032x}"

    def stage(self, name: str, seconds: float, items: int | None = None) -> None:
        """Records a child span that has just ended and took `seconds`."""
        if not self._span.is_recording():
            return
        ended = time.time_ns()
        part = self._tracer.start_span(
            name,
            context=set_span_in_context(self._span),
            start_time=ended - int(seconds * 1e9),
            attributes=None if items is None else {"compreface.items": items},
        )
        part.end(ended)

    def end(self, status: int | None, request_id: str) -> None:
        """Ends the span; `status` is None where the client disconnected."""
        self._span.set_attribute("compreface.request_id", request_id)
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if status is None or status >= 500:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
