"""The server process: binds the port, serves, and on SIGTERM drains the running requests."""

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
from compreface_engine.api.connections import MAX_BACKLOG, Connections, connection_limits
from compreface_engine.api.routes import Engine
from compreface_engine.api.telemetry import Telemetry
from compreface_engine.budget import Budget
from compreface_engine.core.errors import ConfigurationError
from compreface_engine.logs import NAME
from compreface_engine.settings import Settings
from compreface_engine.watchdog import EXIT_STUCK, Heartbeat

KEEP_ALIVE_S = 75
CUT_OFF_S = 2.0
"""The time after the drain at which requests still running are cancelled."""
FINAL_ANSWERS_S = 0.5
"""The time for sending the answers of cancelled requests."""
BEAT_S = 1.0
GRACE_S = 10.0
"""The time for the other computations to end once a worker is stuck; no picture takes longer."""
GRACE_STEP_S = 0.1

log = logging.getLogger(NAME)


class PortTaken(Exception):
    """The address cannot be bound; the text names it and the reason."""


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen: connections are refused until the models are loaded.

    Raises PortTaken, and ConfigurationError where `host` is not an address of this machine.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        bound = socket.socket(family, kind, protocol)
    except OSError as error:
        raise _not_an_address(host, error) from error
    try:
        if sys.platform != "win32":  # On Windows it would let two processes share a port.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            raise _not_an_address(host, error) from error
        raise PortTaken(_port_error(host, port, error)) from error
    return bound


def listen(bound: socket.socket, backlog: int = MAX_BACKLOG) -> str:
    """Starts listening; returns the address as a URL. Raises PortTaken."""
    host, port = bound.getsockname()[:2]
    try:
        bound.listen(backlog)
    except OSError as error:
        raise PortTaken(_port_error(host, port, error)) from error
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _not_an_address(host: str, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"CF_HOST={host}: is not an address of this machine ({error.strerror or error}); "
        "set 127.0.0.1, or 0.0.0.0 for all addresses"
    )


def _port_error(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken by another process; set CF_PORT to a free one"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not permitted to this user; set CF_PORT above 1023"
    return f"port {port} on {host} cannot be used: {error.strerror or error}"


class _Server(uvicorn.Server):
    """uvicorn's server with a bounded shutdown: the gate closes before requests are cancelled.

    It ends the process once a worker is stuck.
    """

    gate: Gate
    drain_s: float
    stuck_s: float
    heartbeat: Heartbeat
    end: Callable[[], None]
    _silence_limit_s: float
    _beating: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # For whoever started the engine, on stderr like the log.
        for bound in sockets or []:
            print(
                f"compreface-engine: ready at {listen(bound, self.config.backlog)}",
                file=sys.stderr,
                flush=True,
            )
        self.gate.on_described = self._beat
        self._beat()
        self._beating = asyncio.create_task(self._beat_until_stuck())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # From here on the sender of the signal bounds the shutdown, not the watcher.
        if self._beating is not None:
            self._beating.cancel()
        self._silence_limit_s = 0.0
        self._beat()
        log.info("stopping: running requests are finished")
        self.gate.stopping = True
        timer = asyncio.get_running_loop().call_later(self.drain_s, self.gate.close)
        try:
            await super().shutdown(sockets)
            if self.server_state.tasks:
                await asyncio.wait(list(self.server_state.tasks), timeout=FINAL_ANSWERS_S)
        finally:
            timer.cancel()

    def _beat(self) -> None:
        self.heartbeat.beat(self._silence_limit_s, self.gate.describe_running())

    async def _beat_until_stuck(self) -> None:
        """Sends heartbeats and ages the running computations until one of them is stuck.

        After a suspension a beat is late, and the time of the suspension does not count.
        """
        every = min(BEAT_S, self.stuck_s / 4)
        last = time.monotonic()
        while not self.gate.stuck:
            await asyncio.sleep(every)
            now = time.monotonic()
            self.gate.age(min(now - last, 2 * every))
            last = now
            self._beat()
        await self._end_stuck()

    async def _end_stuck(self) -> None:
        """Refuses new requests, waits for the other workers and ends the process.

        A thread that hangs cannot be stopped from outside.
        """
        for permit in self.gate.stuck:
            log.critical(
                "a worker has been stuck for %.0f s at %s; the engine exits with code %d",
                permit.ran_s,
                permit.description or "a request",
                EXIT_STUCK,
            )
        self.gate.close()
        for _ in range(math.ceil(GRACE_S / GRACE_STEP_S)):
            await asyncio.sleep(GRACE_STEP_S)
            self._beat()
            if self.gate.running == len(self.gate.stuck):
                break
        await asyncio.sleep(FINAL_ANSWERS_S)
        self.end()


def serve(
    settings: Settings,
    engine: Engine,
    bound: socket.socket,
    telemetry: Telemetry,
    heartbeat: Heartbeat | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT, then drains the running requests.

    Computations that run beyond the drain are abandoned: the process exits at once with code 0.
    Once a worker is stuck it exits with EXIT_STUCK, after the others have finished or GRACE_S.
    Raises PortTaken, and ConfigurationError where the memory limit is too low.
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
    connections, backlog = connection_limits()
    log.info("at most %d connections at once, %d more in the backlog", connections, backlog)
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
    server.stuck_s = server._silence_limit_s = settings.stuck_s
    server.heartbeat = heartbeat or Heartbeat()

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
            # A thread cannot be stopped from outside, and the interpreter would wait for it.
            log.warning("stopping: %d computations are abandoned", gate.running)
            logging.shutdown()
            os._exit(0)
