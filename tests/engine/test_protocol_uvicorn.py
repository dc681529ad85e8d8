"""The undocumented names of uvicorn that `api/protocol.py` uses; each must exist."""

from __future__ import annotations

import ast
import asyncio
import inspect
import tomllib
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from compreface_engine.api import protocol
from tests.shared import ROOT

OF_THE_PROTOCOL = {
    "_start_asgi_task", "config", "cycle", "loop", "on_header", "on_headers_complete",
    "on_message_complete", "on_response_complete", "on_url", "parser", "pipeline",
    "send_400_response", "timeout_keep_alive_handler", "transport",
}  # fmt: skip
OF_THE_CYCLE = {
    "disconnected", "keep_alive", "message_event", "more_body", "response_complete",
    "response_started", "scope",
}  # fmt: skip
OF_ASYNCIO = {"connection_made", "connection_lost", "data_received", "eof_received"}


async def _app(scope: Any, receive: Any, send: Any) -> None: ...


async def _a_request() -> HttpToolsProtocol:
    """A protocol that has read the head of a request."""
    http = HttpToolsProtocol(Config(_app, log_config=None), ServerState(), {})
    http.connection_made(asyncio.Transport({"peername": ("127.0.0.1", 1)}))
    http.data_received(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n")
    return http


def test_the_installed_uvicorn_has_each_name() -> None:
    async def names() -> tuple[set[str], set[str]]:
        http = await _a_request()
        assert isinstance(http.cycle, RequestResponseCycle)
        return set(dir(http)), set(dir(http.cycle))

    of_the_protocol, of_the_cycle = asyncio.run(names())
    assert of_the_protocol >= OF_THE_PROTOCOL
    assert of_the_cycle >= OF_THE_CYCLE


def test_no_other_name_is_used() -> None:
    tree = ast.parse(inspect.getsource(protocol.BoundedProtocol))
    parts = [one for one in ast.walk(tree) if isinstance(one, ast.Attribute)]
    inherited = {
        one.attr
        for one in parts
        if (isinstance(one.value, ast.Name) and one.value.id == "self")
        or (isinstance(one.value, ast.Call) and ast.unparse(one.value) == "super()")
    } & set(dir(asyncio.run(_a_request())))
    overridden = vars(protocol.BoundedProtocol).keys() & set(dir(HttpToolsProtocol))
    plain = {name for name in inherited | overridden if not name.startswith("__")}
    assert plain - OF_ASYNCIO == OF_THE_PROTOCOL
    of_a_cycle = {"self.cycle", "self._answering", "cycle", "now"}
    assert {one.attr for one in parts if ast.unparse(one.value) in of_a_cycle} == OF_THE_CYCLE


def test_a_minor_version_that_was_not_read_is_not_installed() -> None:
    project = tomllib.loads((ROOT / "engine" / "pyproject.toml").read_text("utf-8"))["project"]
    (uvicorn,) = (
        need for need in map(Requirement, project["dependencies"]) if need.name == "uvicorn"
    )
    read = metadata.version("uvicorn")
    major, minor, *_ = (int(part) for part in read.split("."))
    assert read in uvicorn.specifier
    assert f"{major}.{minor + 1}" not in uvicorn.specifier
