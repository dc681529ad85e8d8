"""The server process: takes the port, serves, and on SIGTERM finishes what runs."""

from __future__ import annotations

import asyncio
import errno
import importlib.util
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import uvicorn

from compreface_engine import limits
from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.api.connections import MOST_BACKLOG, Connections, room
from compreface_engine.api.routes import Engine
from compreface_engine.api.telemetry import Telemetry
from compreface_engine.budget import Budget
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.logs import NAME
from compreface_engine.settings import Settings
from compreface_engine.watchdog import EXIT_STUCK, Heart

KEEP_ALIVE_S = 75
CUT_OFF_S = 2.0
"""After the drain, what still runs is cut off after so long."""
LAST_WORDS_S = 0.5
"""After that, the time in which who is cut off is told so."""
BEAT_S = 1.0
GRACE_S = 10.0
"""Once a worker is stuck, what the others compute gets so long; no picture needs more."""
GRACE_STEP_S = 0.1

log = logging.getLogger(NAME)


class PortTaken(Exception):
    """The address cannot be bound; the text says which and why."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet: callers are refused until the models are loaded.

    Raises PortTaken, and ConfigurationError where `host` is no address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _no_host(host, error) from error
    try:
        if sys.platform != "win32":  # There it would let two processes share a port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _no_host(host, error) from error
        raise PortTaken(_why(host, port, error)) from error
    return bound


def listen(bound: socket.socket, backlog: int = MOST_BACKLOG) -> str:
    """Opens the port; returns its address as a URL. Raises PortTaken."""
    host, port = bound.getsockname()[:2]
    try:
        bound.listen(backlog)
    except OSError as error:
        raise PortTaken(_why(host, port, error)) from error
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _no_host(host: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"CF_HOST={host}: is no address of this machine ({error.strerror or error}); "
        "set 127.0.0.1, or 0.0.0.0 for every address"
    )


def _why(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another process; set CF_PORT to a free one"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} may not be used by this user; set CF_PORT above 1023"
    return f"port {port} on {host} cannot be used: {error.strerror or error}"


class _Server(uvicorn.Server):
    """uvicorn's server with a bounded end: the gate is closed before the tasks are cut off.

    It ends the process by itself once a worker is stuck.
    """

    gate: Gate
    drain_s: float
    stuck_s: float
    heart: Heart
    end: Callable[[], None]
    _silence_s: float
    _beats: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # For the person or program that started us; stdout stays free for results.
        for one in sockets or []:
            print(
                f"compreface-engine: ready at {listen(one, self.config.backlog)}",
                file=sys.stderr,
                flush=True,
            )
        self.gate.described = self._let_hear
        self._let_hear()
        self._beats = asyncio.create_task(self._beat())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # From here on the end is bounded by whoever asked for it.
        if self._beats is not None:
            self._beats.cancel()
        self._silence_s = 0.0
        self._let_hear()
        log.info("stopping: finishing what runs")
        self.gate.stopping = True
        timer = asyncio.get_running_loop().call_later(self.drain_s, self.gate.close)
        try:
            await super().shutdown(sockets)
            if self.server_state.tasks:
                await asyncio.wait(list(self.server_state.tasks), timeout=LAST_WORDS_S)
        finally:
            timer.cancel()

    def _let_hear(self) -> None:
        self.heart.beat(self._silence_s, self.gate.at_work())

    async def _beat(self) -> None:
        """Lets the watcher hear that the loop turns, and ages what is computed, until one is stuck.

        A time in which the process stood still does not count: then a beat comes late.
        """
        every = min(BEAT_S, self.stuck_s / 4)
        last = time.monotonic()
        while not self.gate.stuck:
            await asyncio.sleep(every)
            now = time.monotonic()
            self.gate.age(min(now - last, 2 * every))
            last = now
            self._let_hear()
        await self._give_up()

    async def _give_up(self) -> None:
        """Nothing stops a thread from outside: refuse, finish what other workers do, and end."""
        for one in self.gate.stuck:
            log.critical(
                "a worker has been stuck for %.0f s at %s; the engine ends itself (exit code %d)",
                one.ran_s,
                one.about or "a request",
                EXIT_STUCK,
            )
        self.gate.close()
        for _ in range(math.ceil(GRACE_S / GRACE_STEP_S)):
            await asyncio.sleep(GRACE_STEP_S)
            self._let_hear()
            if self.gate.running == len(self.gate.stuck):
                break
        await asyncio.sleep(LAST_WORDS_S)
        self.end()


def serve(
    settings: Settings,
    engine: Engine,
    bound: socket.socket,
    telemetry: Telemetry,
    heart: Heart | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what runs.

    Raises PortTaken, and ConfigurationError where the memory is too little.

    Who computes beyond the grace is left behind: the process ends at once then, with exit code 0.
    Once a worker is stuck it ends with EXIT_STUCK, when the others have finished or GRACE_S later.
    """
    memory = limits.shares(
        settings.max_memory_bytes,
        bodies=settings.max_queue_bytes,
        body=settings.max_body_bytes,
        workers=settings.max_concurrency,
    )
    log.info(str(memory))
    gate = Gate(
        concurrency=settings.max_concurrency,
        max_queue=settings.max_queue,
        max_bytes=memory.bodies,
        max_wait_s=settings.max_wait_s,
        max_body=settings.max_body_bytes,
        budget=Budget() if memory.pictures is None else Budget(memory.pictures),
        stuck_s=settings.stuck_s,
    )
    gate.start_workers()
    connections, backlog = room()
    log.info("at most %d connections at once, %d more may wait", connections, backlog)
    listen(bound, backlog)
    http: Any = "h11"
    if importlib.util.find_spec("httptools") is not None:
        from compreface_engine.api.protocol import BoundedProtocol

        http = partial(BoundedProtocol, open_connections=Connections(connections))
    config = uvicorn.Config(
        App(settings, engine, gate, telemetry),
        http=http,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=backlog,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.drain_s + CUT_OFF_S),
    )
    server = _Server(config)
    server.gate = gate
    server.drain_s = settings.drain_s
    server.stuck_s = server._silence_s = settings.stuck_s
    server.heart = heart or Heart()

    def end() -> None:
        telemetry.close()
        logging.shutdown()
        os._exit(EXIT_STUCK)

    server.end = end
    try:
        server.run(sockets=[bound])
    finally:
        telemetry.close()
        if server.should_exit and gate.running:
            # Nothing stops a thread from outside, and the interpreter would wait for it.
            log.warning("stopping: left %d computations unfinished", gate.running)
            logging.shutdown()
            os._exit(0)
