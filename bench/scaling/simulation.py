"""A discrete-event simulation of one full stack: nginx, the api, its engines, and their callers.

The model, in the order in which a request meets its parts:

- Callers. Either a stream of photographs that come when they come (`arrivals`; `poisson` makes
  one), or a number of connections of which each sends its next photograph as soon as the last one
  is answered (`connections`).
- The network: one link, first come first served, `link_s` for a photograph.
- nginx: `nginx_cores` servers of one queue, `nginx_s` of processor time a request.
- The api: a request holds one of `api_threads` (Tomcat's 200) from its arrival to its answer, and
  those beyond wait. It computes `api_before_s` before it asks an engine and `api_after_s` after the
  engine has answered, on `api_cores` servers of one queue. The latter grows with the collection.
- Engines: each computes `workers` photographs at once, `service_s` each, drawn from measured
  times, and lets `queue` requests wait for at most `max_wait_s`. What is beyond is refused, which
  the api's callers see as an error.
- The choice of the engine (`choice`). `kept`: as the JVM does it, the api asks over the connection
  that became idle last, of which it keeps `KEPT` for `KEPT_S`; a new one goes to an engine at
  random, as Docker's DNS orders the addresses of one name at random. `random`: a new connection
  for each request. `least`: the engine with the fewest requests, as a balancer counts them.

Not in the model: a processor that the parts share, retries, restarts, and the network's own delay.
All random numbers come from `seed`; equal arguments give equal results.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

KEPT = 5  # idle connections of one address: http.maxConnections of the JVM
KEPT_S = 5.0  # the JVM's time for an idle connection whose server names none
Choice = Literal["kept", "random", "least"]


@dataclass(frozen=True, slots=True)
class Stack:
    """What one stack is made of; all times in seconds."""

    engines: int
    service_s: Sequence[float]
    workers: int = 1
    queue: int = 256
    max_wait_s: float = 50.0
    choice: Choice = "kept"
    api_threads: int = 200
    api_cores: int = 1
    api_before_s: float = 0.0
    api_after_s: float = 0.0
    nginx_cores: int = 1
    nginx_s: float = 0.0
    link_s: float = 0.0


@dataclass(slots=True)
class Result:
    """What became of the requests; rates and times are of those that ended after the warm-up."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    under_way: int = 0
    measured_s: float = 0.0
    times_s: list[float] = field(default_factory=list)
    by_engine: list[int] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.times_s) / self.measured_s

    def quantile(self, share: float) -> float:
        """That share of the answers came within so many seconds; 0 without an answer."""
        ordered = sorted(self.times_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """The times of a Poisson stream, in seconds from its start."""
    chance, at, times = random.Random(seed), 0.0, []
    while (at := at + chance.expovariate(rate)) < seconds:
        times.append(at)
    return times


def simulate(
    stack: Stack,
    *,
    arrivals: Sequence[float] = (),
    connections: int = 0,
    lasts_s: float = 60.0,
    warm_up_s: float = 10.0,
    drain: bool = False,
    seed: int = 1,
) -> Result:
    """Send photographs to the stack for `warm_up_s` and `lasts_s`: a stream or connections.

    With `drain` what is under way at the end is answered too, and counts.
    """
    if bool(arrivals) == (connections > 0):
        raise ValueError("either arrivals or a number of connections")
    ends_s = warm_up_s + lasts_s
    return _Run(stack, arrivals, connections, warm_up_s, ends_s, seed).result(drain=drain)


class _Station:
    """Some servers with one queue, first come first served."""

    def __init__(self, run: _Run, servers: int) -> None:
        self._run, self._idle = run, servers
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def ask(self, takes_s: float, then: Callable[[], None]) -> None:
        if not takes_s:
            then()
        elif self._idle:
            self._idle -= 1
            self._run.after(takes_s, lambda: self._done(then))
        else:
            self._waiting.append((takes_s, then))

    def _done(self, then: Callable[[], None]) -> None:
        if self._waiting:
            takes_s, following = self._waiting.popleft()
            self._run.after(takes_s, lambda: self._done(following))
        else:
            self._idle += 1
        then()


class _Engine:
    """A bounded queue before `workers` computations."""

    def __init__(self, run: _Run, number: int) -> None:
        self._run, self._stack, self.number = run, run.stack, number
        self._idle = run.stack.workers
        self._waiting: deque[list[Any]] = deque()  # [answer], or [None] once that is settled
        self.load = 0

    def ask(self, answer: Callable[[bool], None]) -> None:
        if self._idle:
            self._idle -= 1
            self.load += 1
            self._compute(answer)
        elif self.load - self._stack.workers >= self._stack.queue:
            answer(False)
        else:
            self.load += 1
            place = [answer]
            self._waiting.append(place)
            self._run.after(self._stack.max_wait_s, lambda: self._give_up(place))

    def _compute(self, answer: Callable[[bool], None]) -> None:
        self._run.after(self._run.random.choice(self._stack.service_s), lambda: self._done(answer))

    def _done(self, answer: Callable[[bool], None]) -> None:
        self.load -= 1
        while self._waiting:
            place = self._waiting.popleft()
            following, place[0] = place[0], None
            if following is not None:
                self._compute(following)
                break
        else:
            self._idle += 1
        answer(True)

    def _give_up(self, place: list[Any]) -> None:
        answer = place[0]
        if answer is not None:
            place[0] = None
            self.load -= 1
            answer(False)


class _Run:
    """One simulation: a clock, the events to come, and the stack's parts."""

    def __init__(
        self,
        stack: Stack,
        arrivals: Sequence[float],
        connections: int,
        warm_s: float,
        ends_s: float,
        seed: int,
    ) -> None:
        self.stack, self.random, self.now = stack, random.Random(seed), 0.0
        self._arrivals, self._connections = arrivals, connections
        self._warm_s, self._ends_s = warm_s, ends_s
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count, self._last_s = 0, 0.0
        self._engines = [_Engine(self, number) for number in range(stack.engines)]
        self._link, self._nginx = _Station(self, 1), _Station(self, stack.nginx_cores)
        self._api = _Station(self, stack.api_cores)
        self._threads, self._for_a_thread = stack.api_threads, deque[Callable[[], None]]()
        self._kept: list[tuple[float, _Engine]] = []
        self._result = Result(measured_s=ends_s - warm_s, by_engine=[0] * stack.engines)

    def after(self, delay_s: float, do: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._events, (self.now + delay_s, self._count, do))

    def result(self, *, drain: bool) -> Result:
        for at in self._arrivals:
            if at <= self._ends_s:
                self.after(at, self._send)
        for _ in range(self._connections):
            self.after(0.0, self._send)
        while self._events and (drain or self._events[0][0] <= self._ends_s):
            self.now, _, do = heapq.heappop(self._events)
            do()
        found = self._result
        if drain:
            found.measured_s = max(self._last_s - self._warm_s, 1e-9)
        found.under_way = found.sent - found.answered - found.refused
        return found

    def _send(self) -> None:
        self._result.sent += 1
        began = self.now
        stack = self.stack

        def at_nginx() -> None:
            self._nginx.ask(stack.nginx_s, at_api)

        def at_api() -> None:
            if self._threads:
                self._threads -= 1
                with_a_thread()
            else:
                self._for_a_thread.append(with_a_thread)

        def with_a_thread() -> None:
            self._api.ask(stack.api_before_s, at_engine)

        def at_engine() -> None:
            engine = self._chosen()
            engine.ask(lambda well: from_engine(engine, well))

        def from_engine(engine: _Engine, well: bool) -> None:
            self._keep(engine)
            if well:
                self._result.by_engine[engine.number] += 1
                self._api.ask(stack.api_after_s, lambda: self._ended(began, well=True))
            else:
                self._ended(began, well=False)

        self._link.ask(stack.link_s, at_nginx)

    def _ended(self, began: float, *, well: bool) -> None:
        if self._for_a_thread:
            self._for_a_thread.popleft()()
        else:
            self._threads += 1
        if well:
            self._result.answered += 1
            self._last_s = self.now
            if self.now > self._warm_s:
                self._result.times_s.append(self.now - began)
        else:
            self._result.refused += 1
        if self._connections and self.now < self._ends_s:
            # A refusal takes no time in the model; without a pause the clock would stand still.
            self.after(0.0 if well else 0.05, self._send)

    def _chosen(self) -> _Engine:
        if self.stack.choice == "least":
            least = min(engine.load for engine in self._engines)
            return self.random.choice([each for each in self._engines if each.load == least])
        while self.stack.choice == "kept" and self._kept:
            since, engine = self._kept.pop()
            if self.now - since <= KEPT_S:
                return engine
        return self.random.choice(self._engines)

    def _keep(self, engine: _Engine) -> None:
        if self.stack.choice == "kept" and len(self._kept) < KEPT:
            self._kept.append((self.now, engine))
