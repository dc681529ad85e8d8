"""The server's HTTP/1.1: uvicorn's, with bounds on headers and JSON for what is no HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from compreface_engine.api.answers import CACHE_CONTROL, to_json
from compreface_engine.api.app import App

MAX_HEAD_BYTES = 16 * 1024
HEAD_TIMEOUT_S = 30.0

_MALFORMED = to_json({"message": "400 Bad Request: This is not HTTP/1.1 as the engine reads it"})
_HEAD_TOO_LARGE = to_json(
    {
        "message": "431 Request Header Fields Too Large: "
        f"The request line and headers have more than {MAX_HEAD_BYTES} bytes"
    }
)


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
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._in_head = True
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.parser is None or self.transport.is_closing():
            return
        discarding = self.cycle is not None and self.cycle.response_complete
        if (self._in_head or discarding) and self._head_deadline is None:
            self._watch_head()
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        # Still in the head after all of `data`: everything counted belongs to it.
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse("head", b"431 Request Header Fields Too Large", _HEAD_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        self._forget_head()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head = True
        self._forget_head()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            # The rubbish follows a whole request: that one is answered first, then it is over.
            cycle.keep_alive = False
            return
        self._refuse("malformed", b"400 Bad Request", _MALFORMED)

    def _watch_head(self) -> None:
        self._head_deadline = self.loop.call_later(HEAD_TIMEOUT_S, self.timeout_keep_alive_handler)

    def _forget_head(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _refuse(self, cause: str, status: bytes, body: bytes) -> None:
        if self.transport.is_closing():
            return
        if isinstance(self.config.app, App):
            self.config.app.telemetry.metrics.refused(cause)
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"
            b"%b: %b\r\nconnection: close\r\n\r\n%b" % (status, len(body), *CACHE_CONTROL, body)
        )
        self.transport.close()
