"""The ASGI application: finds the route, lets bodies in, makes an answer of every error."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

from compreface_engine.admission import Busy, CallerLeft, Gate, Permit
from compreface_engine.api import ops, routes
from compreface_engine.api.answers import (
    Answer,
    Receive,
    Scope,
    Send,
    error_answer,
    send_answer,
)
from compreface_engine.api.body import Disconnected, boundary_of, is_json, read_body
from compreface_engine.api.errors import (
    NO_FILE,
    BadRequest,
    BodyTooLarge,
    BodyTooSlow,
    Failed,
    MethodNotAllowed,
    NotFound,
    RequestError,
    Unavailable,
    UnprocessableInput,
)
from compreface_engine.api.params import query_values
from compreface_engine.api.routes import Engine, Upload
from compreface_engine.logs import NAME
from compreface_engine.settings import Settings

Work = Callable[[Permit, Engine, Upload], Answer]

LINGER_S = 2.0
LINGER_BYTES = 1024 * 1024
"""A refused body up to this size is left to the server, which throws it away."""

log = logging.getLogger(NAME)


@dataclass(frozen=True, slots=True)
class Route:
    """What a path does: `read` answers GET and HEAD at once, `work` POST in a worker thread."""

    read: Callable[[], Answer] | None = None
    work: Work | None = None
    takes_json: bool = False

    @property
    def allow(self) -> bytes:
        return b"GET, HEAD, OPTIONS" if self.read else b"OPTIONS, POST"


class App:
    """The engine over ASGI. One instance serves all requests; it keeps no state of any of them."""

    def __init__(self, settings: Settings, engine: Engine, gate: Gate) -> None:
        self._settings = settings
        self._engine = engine
        self._gate = gate
        self._ids = count(1)
        self._id_prefix = os.urandom(4).hex()
        status = routes.status(engine, settings.build_version)
        self._routes: Mapping[str, Route] = {
            "/find_faces": Route(work=routes.find_faces),
            "/find_faces_base64": Route(work=routes.find_faces, takes_json=True),
            "/scan_faces": Route(work=routes.scan_faces),
            "/status": Route(read=lambda: status),
            "/healthcheck": Route(read=lambda: ops.healthcheck(gate)),
            "/live": Route(read=ops.live),
            "/ready": Route(read=lambda: ops.ready(gate)),
            **{path: Route(read=read) for path, read in ops.documents().items()},
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the engine speaks HTTP, not {scope['type']}")
        began = time.perf_counter()
        request_id = f"{self._id_prefix}{next(self._ids):08x}"
        path = scope["path"]
        if path.endswith("/") and len(path) > 1:
            path = path[:-1]
        route = self._routes.get(path)
        method = scope["method"]
        head = Head.of(scope)
        try:
            if route is None:
                raise NotFound
            if route.work is not None and method == "POST":
                answer = await self._compute(route, route.work, head, scope, receive)
            elif route.read is not None and method in ("GET", "HEAD"):
                answer = route.read()
            elif method == "OPTIONS":
                answer = Answer(200, b"", b"text/html; charset=utf-8", ((b"allow", route.allow),))
            else:
                raise MethodNotAllowed
        except (CallerLeft, Disconnected):
            self._log(request_id, scope, path if route else "(unknown)", None, began)
            return
        except RequestError as error:
            answer = error_answer(error)
        except Busy as error:
            answer = error_answer(Unavailable(str(error), error.retry_after))
        except Exception:
            log.exception("a request failed", extra={"request": {"id": request_id}})
            answer = error_answer(Failed(request_id))
        await _send(head, receive, send, answer)
        self._log(request_id, scope, path if route else "(unknown)", answer.status, began)

    async def _compute(
        self, route: Route, work: Work, head: Head, scope: Scope, receive: Receive
    ) -> Answer:
        """The answer of a POST: the cheap refusals, a place, the body, a permit, the work."""
        boundary = None
        if route.takes_json:
            if not is_json(head.content_type):
                raise UnprocessableInput("The body must be JSON, content type application/json")
        else:
            boundary = boundary_of(head.content_type)
            if head.chunked or not head.length:
                raise BadRequest(NO_FILE)
        settings, gate = self._settings, self._gate
        if head.length > settings.max_body_bytes:
            raise BodyTooLarge(
                f"The body has {head.length} bytes, at most {settings.max_body_bytes} are accepted"
            )
        query = query_values(scope["query_string"])
        with gate.admit(head.length) as ticket:
            body = b""
            if not head.chunked:  # As in the original, a chunked body counts as empty.
                body = await read_body(receive, ticket.hold, settings.body_timeout_s)
                head.read = True
            permit = await gate.permit(lambda: _hung_up(receive))
            return await permit.run(work, self._engine, Upload(body, boundary, query))

    def _log(
        self, request_id: str, scope: Scope, path: str, status: int | None, began: float
    ) -> None:
        # Probes come every few seconds and say nothing new: they are logged at debug level.
        level = logging.INFO if scope["method"] == "POST" or status != 200 else logging.DEBUG
        if not log.isEnabledFor(level):
            return
        request = {
            "id": request_id,
            "method": scope["method"],
            "path": path,
            "status": status,
            "ms": round((time.perf_counter() - began) * 1000, 1),
        }
        log.log(level, "answered" if status else "the caller hung up", extra={"request": request})


@dataclass(slots=True)
class Head:
    """What the headers say about the body; `read` once it is completely read."""

    content_type: bytes = b""
    length: int = 0
    chunked: bool = False
    expects: bool = False
    read: bool = False

    @classmethod
    def of(cls, scope: Scope) -> Head:
        head = cls()
        for name, value in scope["headers"]:
            if name == b"content-type":
                head.content_type = value
            elif name == b"content-length":
                head.length = int(value)
            elif name == b"transfer-encoding":
                head.chunked = True
            elif name == b"expect":
                head.expects = True
        return head

    @property
    def unread(self) -> bool:
        return not self.read and (self.chunked or self.length > 0)


async def _send(head: Head, receive: Receive, send: Send, answer: Answer) -> None:
    """Sends `answer`; a large body that was refused unread is drained for a moment, then cut off.

    Closing at once would reset the connection, and the caller might never see the answer.
    """
    keeps = head.length <= LINGER_BYTES and not (head.chunked or head.expects)
    if not head.unread or (keeps and answer.status != BodyTooSlow.status):
        await send_answer(send, answer)
        return
    await send(answer.start(close=True))
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    # Who waits for a "100 Continue" sees the answer anyway; who was too slow had its time.
    if not head.expects and answer.status != BodyTooSlow.status:
        try:
            async with asyncio.timeout(LINGER_S):
                message = await receive()
                while message["type"] == "http.request" and message.get("more_body"):
                    message = await receive()
        except TimeoutError:
            pass
    await send({"type": "http.response.body", "body": b""})


async def _hung_up(receive: Receive) -> None:
    """Returns when the caller is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
