"""A minimal HTTP server around a function from picture bytes to JSON bytes, as users write it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def serve(scan: Callable[[bytes], bytes], port: int, at_once: int) -> None:
    """`POST /scan_faces` and `GET /status` on loopback, with `at_once` pictures in parallel."""
    turns = asyncio.Semaphore(at_once)

    async def answer(request: Request) -> Response:
        form = await request.form()
        upload: Any = form["file"]
        data = await upload.read()
        async with turns:
            body = await run_in_threadpool(scan, data)
        return Response(body, media_type="application/json")

    async def status(request: Request) -> Response:
        return Response(b'{"status":"OK"}', media_type="application/json")

    routes = [
        Route("/scan_faces", answer, methods=["POST"]),
        Route("/status", status, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)
