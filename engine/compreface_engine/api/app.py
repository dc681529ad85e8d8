"""The ASGI application: routing, access checks, admission, and an answer for every error."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from compreface_engine import __version__
from compreface_engine.admission import Busy, ClientDisconnected, Gate, Permit, Ticket
from compreface_engine.api import ops, routes
from compreface_engine.api.answers import (
    Answer,
    Receive,
    Scope,
    Send,
    error_answer,
)
from compreface_engine.api.body import read_body
from compreface_engine.api.errors import (
    BodyTooLarge,
    BodyTooSlow,
    InternalError,
    MethodNotAllowed,
    NotFound,
    RequestError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
)
from compreface_engine.api.guard import Guard
from compreface_engine.api.head import Head
from compreface_engine.api.routes import Engine
from compreface_engine.api.telemetry import Request, Telemetry
from compreface_engine.api.upload import Encoding, Upload
from compreface_engine.core.errors import MemoryInUse, is_out_of_memory
from compreface_engine.logs import NAME
from compreface_engine.metrics import CONTENT_TYPE
from compreface_engine.settings import Settings

Work = Callable[[Engine, Upload], Answer]

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STOPPED_RETRY_S = 5
LINGER_S = 2.0
LINGER_BYTES = 1024 * 1024
"""A refused body up to this size is left to the server, which reads and discards it."""

log = logging.getLogger(NAME)


@dataclass(frozen=True, slots=True)
class Route:
    """The handlers of a path: `read` answers GET and HEAD at once, `work` POST in a worker thread.

    `open` routes answer without an API key.
    """

    read: Callable[[], Answer] | None = None
    work: Work | None = None
    takes_json: bool = False
    open: bool = False

    @property
    def allow(self) -> bytes:
        """The value of the `Allow` header."""
        return b"GET, HEAD, OPTIONS" if self.read else b"OPTIONS, POST"


class App:
    """The engine as an ASGI application; one instance serves all requests and stores none."""

    def __init__(
        self, settings: Settings, engine: Engine, gate: Gate, telemetry: Telemetry | None = None
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._gate = gate
        self._guard = Guard(settings)
        self.telemetry = telemetry or Telemetry()
        metrics = self.telemetry.metrics
        metrics.watch(gate)
        metrics.identify(__version__, engine.plugins, engine.runtimes)
        status = routes.status(engine, settings.build_version)
        documents = ops.documents(keys=self._guard.requires_key)
        self._routes: Mapping[str, Route] = {
            "/find_faces": Route(work=routes.find_faces),
            "/find_faces_base64": Route(work=routes.find_faces, takes_json=True),
            "/scan_faces": Route(work=routes.scan_faces),
            "/status": Route(read=lambda: status),
            "/metrics": Route(read=lambda: Answer(200, metrics.text(), CONTENT_TYPE)),
            "/healthcheck": Route(read=lambda: ops.healthcheck(gate), open=True),
            "/live": Route(read=lambda: ops.live(gate), open=True),
            "/ready": Route(read=lambda: ops.ready(gate), open=True),
            **{path: Route(read=read, open=True) for path, read in documents.items()},
        }

        for path, route in self._routes.items():
            if route.work is not None:
                metrics.expect(path, "POST")

    @property
    def paths(self) -> list[str]:
        """The paths of all routes, without the optional slash at the end."""
        return list(self._routes)

    def unsupported_method(self, path: str) -> RequestError:
        """The error for a method that no route has, at `path`."""
        route = self._routes.get(path.rstrip("/"))
        return NotFound() if route is None else MethodNotAllowed(route.allow)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one HTTP request; every error becomes an answer."""
        if scope["type"] != "http":
            raise RuntimeError(f"the engine speaks HTTP, not {scope['type']}")
        method, path = scope["method"], scope["path"]
        if path.endswith("/") and len(path) > 1:
            path = path[:-1]
        route = self._routes.get(path)
        head = Head.of(scope["headers"])
        request = self.telemetry.begin(
            # Arbitrary methods and paths of clients stay out of metrics and logs.
            method if method in METHODS else "(other)",
            path if route else "(unknown)",
            head.request_id,
            scope["headers"],
            works=method == "POST" and route is not None and route.work is not None,
        )
        try:
            answer = await self._answer(route, method, head, request, scope, receive)
        except ClientDisconnected:
            request.end(None)
            return
        except RequestError as error:
            answer = error_answer(error)
        except Busy as error:
            self.telemetry.metrics.refused(error.cause)
            answer = error_answer(Unavailable(str(error), self._retry_after(error)))
        except asyncio.CancelledError:
            # Only the server cancels, when the drain is over.
            self.telemetry.metrics.refused("stopping")
            answer = error_answer(Unavailable("the engine is stopping", STOPPED_RETRY_S))
        except Exception as error:
            answer = self._internal_error(error, request)
        with suppress(asyncio.CancelledError):
            await _send(head, receive, send, answer, request.id.encode())
        request.end(answer.status)

    def _retry_after(self, busy: Busy) -> int | None:
        """The seconds of the `Retry-After` header; None where settings switch it off."""
        if busy.cause == "stopping" or self._settings.retry_after:
            return busy.retry_after
        return None

    def _internal_error(self, error: Exception, request: Request) -> Answer:
        if not is_out_of_memory(error):
            log.exception("a request failed")
            return error_answer(InternalError(request.id))
        log.exception("a request ran out of memory")
        busy = self._gate.out_of_memory()
        self.telemetry.metrics.refused(busy.cause)
        return error_answer(Unavailable(str(busy), self._retry_after(busy)))

    async def _answer(
        self,
        route: Route | None,
        method: str,
        head: Head,
        request: Request,
        scope: Scope,
        receive: Receive,
    ) -> Answer:
        if route is None:
            raise NotFound
        works = route.work is not None and method == "POST"
        if not route.open:
            self._check_access(head, scope, costs=works)
        if route.work is not None and works:
            return await self._compute(route, route.work, head, request, scope, receive)
        if route.read is not None and method in ("GET", "HEAD"):
            return route.read()
        if method == "OPTIONS":
            return Answer(200, b"", b"text/html; charset=utf-8", ((b"allow", route.allow),))
        raise MethodNotAllowed(route.allow)

    def _check_access(self, head: Head, scope: Scope, *, costs: bool) -> None:
        client = scope.get("client")
        try:
            self._guard.check(head.keys, client[0] if client else "", costs=costs)
        except Unauthorized:
            self.telemetry.metrics.refused("key")
            raise
        except TooManyRequests:
            self.telemetry.metrics.refused("rate")
            raise

    async def _compute(
        self,
        route: Route,
        work: Work,
        head: Head,
        request: Request,
        scope: Scope,
        receive: Receive,
    ) -> Answer:
        """The answer to a POST: cheap refusals first, then ticket, body, permit, computation."""
        encoding = Encoding.of(head, json=route.takes_json)
        settings, gate = self._settings, self._gate
        if head.length > settings.max_body_bytes:
            raise BodyTooLarge(
                f"The body has {head.length} bytes, at most {settings.max_body_bytes} are accepted"
            )
        with gate.admit() as ticket:
            body = b""
            if not head.chunked:  # As in the original, a chunked body is taken as empty.
                began = time.perf_counter()
                body = await read_body(receive, ticket.hold, settings.body_timeout_s)
                head.body_read = True
                request.stage("body", time.perf_counter() - began - ticket.waited_s)

            def compute(permit: Permit) -> Answer:
                return work(self._engine, encoding.parse(permit, body, scope["query_string"]))

            memory = 0
            while True:
                permit = await self._permit(ticket, memory, request, receive)
                permit.description = f"request {request.id}"
                try:
                    return await self._run(permit, compute, head, receive)
                except MemoryInUse as in_use:
                    memory = in_use.needed

    async def _permit(
        self, ticket: Ticket, memory: int, request: Request, receive: Receive
    ) -> Permit:
        already = ticket.waited_s
        began = time.perf_counter()
        try:
            return await self._gate.permit(
                lambda: _until_disconnected(receive),
                waited_s=already,
                memory=memory,
                number=ticket.number,
            )
        finally:
            seconds = time.perf_counter() - began
            ticket.waited_s += seconds
            request.waited(seconds if memory else already + seconds)

    async def _run(
        self, permit: Permit, compute: Callable[[Permit], Answer], head: Head, receive: Receive
    ) -> Answer:
        watch = asyncio.ensure_future(_note_disconnect(permit, receive)) if head.body_read else None
        try:
            answer = await permit.run(compute)
        finally:
            if watch is not None:
                watch.cancel()
        if watch is not None and watch.done():
            raise ClientDisconnected
        return answer


async def _send(
    head: Head, receive: Receive, send: Send, answer: Answer, request_id: bytes
) -> None:
    """Sends `answer`. A large body that was refused unread is drained for LINGER_S, then cut off.

    Closing at once would reset the connection, and the client might never see the answer.
    """
    keeps = head.length <= LINGER_BYTES and not (head.chunked or head.expects_continue)
    if not head.has_unread_body or (keeps and answer.status != BodyTooSlow.status):
        await send(answer.start(request_id))
        await send({"type": "http.response.body", "body": answer.body})
        return
    await send(answer.start(request_id, close=True))
    await send({"type": "http.response.body", "body": answer.body, "more_body": True})
    # A client that waits for "100 Continue" sees the answer anyway; a slow one had its time.
    if not head.expects_continue and answer.status != BodyTooSlow.status:
        try:
            async with asyncio.timeout(LINGER_S):
                message = await receive()
                while message["type"] == "http.request" and message.get("more_body"):
                    message = await receive()
        except TimeoutError:
            pass
    await send({"type": "http.response.body", "body": b""})


async def _note_disconnect(permit: Permit, receive: Receive) -> None:
    await _until_disconnected(receive)
    permit.wanted = False


async def _until_disconnected(receive: Receive) -> None:
    """Returns when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
