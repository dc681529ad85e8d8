"""The server's HTTP/1.1: uvicorn's, with bounds on headers and JSON for what is no HTTP."""

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
LOOK_EVERY_S = 0.1
"""How often a caller that sends no more is looked at, while its answer is computed."""
ASK_EVERY = 20
"""Every so many of these looks, from the second on, it is sent what only a living one bears."""

_FIRST_LINE = re.compile(rb"[!#$%&'*+.^_`|~A-Za-z0-9-]+ (/[^ ?]*)[^ ]* HTTP/1\.[01]\r\n")


class Malformed(RequestError):
    """What came is no HTTP that the engine reads."""

    status = 400
    phrase = "Bad Request"

    def __init__(self) -> None:
        super().__init__("This is not HTTP/1.1 as the engine reads it")


class HeadTooLarge(RequestError):
    """The request line and headers are over the limit."""

    status = 431
    phrase = "Request Header Fields Too Large"

    def __init__(self) -> None:
        super().__init__(f"The request line and headers have more than {MAX_HEAD_BYTES} bytes")


class BoundedProtocol(HttpToolsProtocol):
    """Bounds a request's head in size and time, and the time to throw away a body that was refused.

    A body that is wanted is bounded by the application.
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
        """Bytes that came since the head began, for a head that does not end."""
        self._fields_bytes = 0
        """Bytes of the parts of the head that are read, for a head that comes at once."""
        self._in_head = True
        self._refused = False
        self._data = b""
        self._head_deadline: asyncio.TimerHandle | None = None
        self._answering: RequestResponseCycle | None = None
        self._sends_no_more = False
        self._looks = 0
        self._next_look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()
        self._open_connections.came(self)

    def drop(self) -> None:
        """Closes at once, for another connection."""
        if self._app is not None:
            self._app.telemetry.metrics.refused("connections")
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.left(self)
        self._forget_head()
        if self._next_look is not None:
            self._next_look.cancel()
        super().connection_lost(exc)
        if self._answering is not None and self._answering is not self.cycle:
            self._answering.disconnected = True
            self._answering.message_event.set()

    def eof_received(self) -> bool:  # type: ignore[override]
        """True keeps the connection for the answers to the requests that are completely here."""
        self._sends_no_more = True
        if self.cycle is None or self.cycle.response_complete or self._refused:
            return False
        if self.cycle.more_body:
            if not self.pipeline:
                return False
            self.pipeline.popleft()  # the last one of several, which will never be complete
        else:
            self.cycle.keep_alive = False
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)
        return True

    def _look(self) -> None:
        """Ends the connection of a caller that is gone. Only what it answers to bytes shows that.

        Until its answer begins, the one thing that may be sent to it is an interim response, which
        a caller of HTTP/1.1 has to bear (RFC 9110, 15.2) and every client knows as 100.
        """
        if _is_gone(self.transport):
            self.transport.abort()
            return
        self._looks += 1
        now = self._answering
        if (
            self._looks % ASK_EVERY == 2
            and now is not None
            and not now.response_started
            and now.scope["http_version"] == "1.1"
        ):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._next_look = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        was_last = not self.pipeline
        super().on_response_complete()
        if was_last:
            self._open_connections.idle(self)
            if self._sends_no_more:
                self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self.parser is None or self._refused or self.transport.is_closing():
            return
        discarding = self.cycle is not None and self.cycle.response_complete
        if (self._in_head or discarding) and self._head_deadline is None:
            self._watch_head()
        if self._in_head:
            if not self._head_bytes and (self.cycle is None or self.cycle.response_complete):
                self._open_connections.idle(self)
            self._head_bytes += len(data)
        self._data = data
        super().data_received(data)
        self._data = b""
        # Still in the head after all of `data`: everything counted belongs to it.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("head", HeadTooLarge())

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._fields_bytes += size
        if self._fields_bytes > MAX_HEAD_BYTES:
            raise HeadTooLarge

    def on_headers_complete(self) -> None:
        if self.parser.get_http_version() not in ("1.0", "1.1"):
            raise Malformed
        self._in_head = False
        self._head_bytes = self._fields_bytes = 0
        self._forget_head()
        self._open_connections.in_body(self)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._open_connections.computed(self)
        self._forget_head()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Called while the parser's error is handled: that tells what is wrong."""
        error = sys.exception()
        if isinstance(error, HttpParserCallbackError) and isinstance(
            error.__context__, HeadTooLarge
        ):
            self._refuse("head", error.__context__)
            return
        line = _FIRST_LINE.match(self._data)
        if isinstance(error, HttpParserInvalidMethodError) and line and self._app is not None:
            # The parser knows no such method, but the answer is that of any other wrong one.
            self._refuse("malformed", self._app.wrong_method(line[1].decode()))
            return
        self._refuse("malformed", Malformed())

    def _watch_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.timeout_keep_alive_handler)

    def _forget_head(self) -> None:
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
            # The rubbish follows a whole request: that one is answered first, then it is over.
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
        # Closing with bytes unread would reset the connection before the answer is seen.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)


def _is_gone(transport: asyncio.BaseTransport) -> bool:
    """True once the caller's machine has refused what was sent; a poll for nothing costs 2 us.

    False too where the platform has no poll (Windows).
    """
    wire = transport.get_extra_info("socket")
    if wire is None or wire.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(wire.fileno(), 0)
    return bool(poll.poll(0))
