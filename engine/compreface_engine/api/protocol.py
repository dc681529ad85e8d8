"""uvicorn's HTTP/1.1 protocol with bounds on the head and JSON answers to invalid HTTP."""

from __future__ import annotations

import asyncio
import re
import select
import sys
from typing import Any

from httptools import HttpParserCallbackError, HttpParserInvalidMethodError
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from compreface_engine.api.answers import error_answer
from compreface_engine.api.app import LINGER_S, App
from compreface_engine.api.connections import Connections
from compreface_engine.core.errors import RequestError

MAX_HEAD_BYTES = 16 * 1024
HEAD_TIMEOUT_S = 30.0
PROBE_EVERY_S = 0.1
"""How often a half-closed connection is probed while its answer is computed."""
CONTINUE_EVERY = 20
"""One in so many probes, the second first, sends "100 Continue"."""

_FIRST_LINE = re.compile(rb"[!#$%&'*+.^_`|~A-Za-z0-9-]+ (/[^ ?]*)[^ ]* HTTP/1\.[01]\r\n")


class Malformed(RequestError):
    """The received bytes are not a valid HTTP/1.1 request."""

    status = 400
    phrase = "Bad Request"

    def __init__(self) -> None:
        super().__init__("The request is not valid HTTP/1.1")


class HeadTooLarge(RequestError):
    """The request line and headers exceed MAX_HEAD_BYTES."""

    status = 431
    phrase = "Request Header Fields Too Large"

    def __init__(self) -> None:
        super().__init__(f"The request line and headers have more than {MAX_HEAD_BYTES} bytes")


class BoundedProtocol(HttpToolsProtocol):
    """Bounds the size and time of a request's head, and the time for discarding a refused body.

    Bodies that are read are bounded by the application.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        open_connections: Connections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._open_connections = open_connections
        self._head_bytes = 0
        """Bytes received since the head began: bounds a head that does not end."""
        self._fields_bytes = 0
        """Bytes of the parsed parts of the head: bounds a head that is received at once."""
        self._in_head = True
        self._refused = False
        self._data = b""
        self._head_deadline: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None
        self._half_closed = False
        self._probes = 0
        self._next_probe: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Adds the connection to the open ones and starts the time of its first head."""
        super().connection_made(transport)
        self._start_head_timer()
        self._open_connections.opened(self)

    def drop(self) -> None:
        """Closes at once to make room for another connection."""
        if self._app is not None:
            self._app.telemetry.metrics.refused("connections")
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Removes the connection and tells the request whose answer is computed."""
        self._open_connections.closed(self)
        self._cancel_head_timer()
        if self._next_probe is not None:
            self._next_probe.cancel()
        super().connection_lost(exc)
        if self._answering is not None and self._answering is not self.cycle:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]
        """True keeps the connection open for the answers to complete requests."""
        self._half_closed = True
        if self.cycle is None or self.cycle.response_complete or self._refused:
            return False
        if self.cycle.more_body:
            if not self.pipeline:
                return False
            self.pipeline.popleft()  # the last of several requests, which stays incomplete
        else:
            self.cycle.keep_alive = False
        self._next_probe = self.loop.call_later(PROBE_EVERY_S, self._probe)
        return True

    def _probe(self) -> None:
        """Closes the connection of a client that is gone, which only its reply to bytes shows.

        Before the answer begins, the only bytes allowed are an interim response. HTTP/1.1 requires
        clients to accept one (RFC 9110, 15.2), and every client knows 100.
        """
        if _is_gone(self.transport):
            self.transport.abort()
            return
        self._probes += 1
        cycle = self._answering
        if (
            self._probes % CONTINUE_EVERY == 2
            and cycle is not None
            and not cycle.response_started
            and cycle.scope["http_version"] == "1.1"
        ):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._next_probe = self.loop.call_later(PROBE_EVERY_S, self._probe)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """After the last pipelined answer the connection is idle; a half-closed one is closed."""
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last:
            self._open_connections.idle(self)
            if self._half_closed:
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Counts the bytes of a head and parses them; refuses a head above MAX_HEAD_BYTES."""
        if self.parser is None or self._refused or self.transport.is_closing():
            return
        discarding = self.cycle is not None and self.cycle.response_complete
        if (self._in_head or discarding) and self._head_deadline is None:
            self._start_head_timer()
        if self._in_head:
            if not self._head_bytes and (self.cycle is None or self.cycle.response_complete):
                self._open_connections.idle(self)
            self._head_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""
        # Still in the head after all of `data`, so every counted byte belongs to it.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("head", HeadTooLarge())

    def on_url(self, url: bytes) -> None:
        """Counts the URL. Raises HeadTooLarge."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the header. Raises HeadTooLarge."""
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        """Ends the head. Raises Malformed for another version than HTTP/1.0 and 1.1."""
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise Malformed
        self._in_head = False
        self._head_bytes = self._fields_bytes = 0
        self._cancel_head_timer()
        self._open_connections.in_body(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Ends the request; a new head may follow."""
        self._in_head = True
        self._open_connections.computing(self)
        self._cancel_head_timer()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answers invalid HTTP; called while the parser's error is handled, which has the cause."""
        error = sys.exception()
        if isinstance(error, HttpParserCallbackError) and isinstance(
            error.__context__, HeadTooLarge
        ):
            self._refuse("head", error.__context__)
            return
        line = _FIRST_LINE.match(self._data)
        if isinstance(error, HttpParserInvalidMethodError) and line and self._app is not None:
            # The parser does not know the method; the answer is that for any unsupported one.
            self._refuse("malformed", self._app.unsupported_method(line[1].decode()))
            return
        self._refuse("malformed", Malformed())

    def _start_head_timer(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.timeout_keep_alive_handler)

    def _cancel_head_timer(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    @property
    def _app(self) -> App | None:
        return self.config.app if isinstance(self.config.app, App) else None

    def _refuse(self, cause: str, error: RequestError) -> None:
        if self._refused or self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            # Invalid bytes after a complete request: it is answered, then the connection closes.
            cycle.keep_alive = False
            return
        self._refused = True
        answer = error_answer(error)
        request_id = b""
        if self._app is not None:
            self._app.telemetry.metrics.refused(cause)
            request = self._app.telemetry.begin("(other)", "(unknown)", None, (), works=False)
            request.end(answer.status)
            request_id = request.id.encode()
        fields = b"".join(
            b"%b: %b\r\n" % field for field in answer.start(request_id, close=True)["headers"]
        )
        status = f"HTTP/1.1 {error.status} {error.phrase}\r\n".encode()
        self.transport.write(status + fields + b"\r\n" + answer.body)
        # Closing with unread bytes would reset the connection before the client sees the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def _is_gone(transport: asyncio.BaseTransport) -> bool:
    """True once the client's machine has refused what was sent; a poll takes 2 us.

    Always False where the platform has no poll (Windows).
    """
    connection = transport.get_extra_info("socket")
    if connection is None or connection.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(connection.fileno(), 0)
    return bool(poll.poll(0))
