"""What the engine counts, for Prometheus: the only module that knows prometheus-client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

# The time each counter was made doubles the series and helps nobody here.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32)
_HOW = ("runtime", "precision", "device", "sha256")


class Lent(Protocol):
    """Memory that is lent, and how much of it is out now; in bytes."""

    size: int

    @property
    def taken(self) -> int: ...


class Room(Protocol):
    """What is read from the gate when somebody asks; nothing is counted for it before."""

    @property
    def waiting(self) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def bytes_held(self) -> int: ...

    @property
    def concurrency(self) -> int: ...

    @property
    def max_queue(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...

    @property
    def budget(self) -> Lent: ...


class Metrics:
    """The counters of one engine, in a registry of their own; every method may be called anywhere.

    Label values are routes, methods, statuses, causes and stages of ours: no text of a caller.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "compreface_requests",
            "Requests answered; status 499: the caller hung up first.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "compreface_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._waited = Histogram(
            "compreface_queue_wait_seconds",
            "What a request waited for a free worker, given or not.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refused = Counter(
            "compreface_refused",
            "Requests refused before any work or for want of memory, by cause.",
            ("cause",),
            registry=self._registry,
        )
        self._stages = Histogram(
            "compreface_stage_seconds",
            "Time of one stage of one request: decode, detect, crop, embed, each analyzer.",
            ("stage",),
            buckets=_STAGE_SECONDS,
            registry=self._registry,
        )
        self._faces = Counter(
            "compreface_faces", "Faces found by the detector.", registry=self._registry
        )
        self._batches = Histogram(
            "compreface_calculator_batch_size",
            "Faces given to the calculator at once.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        self._shared = Histogram(
            "compreface_shared_batch_size",
            "Faces, of whatever requests, in one run of a network that requests share.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        # Looking up a child costs more than counting in it.
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._stage: dict[str, Histogram] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts one answer."""
        key = (route, method, status)
        pair = self._answers.get(key)
        if pair is None:
            pair = self._requests.labels(route, method, str(status)), self._seconds.labels(route)
            self._answers[key] = pair
        pair[0].inc()
        pair[1].observe(seconds)

    def waited(self, seconds: float) -> None:
        """Counts the wait of one request for a worker."""
        self._waited.observe(seconds)

    def refused(self, cause: str) -> None:
        """Counts one request that was not let in."""
        self._refused.labels(cause).inc()

    def observe(self, stage: str, seconds: float, items: int) -> None:
        """Counts one stage; a pipeline's observer."""
        histogram = self._stage.get(stage)
        if histogram is None:
            histogram = self._stage[stage] = self._stages.labels(stage)
        histogram.observe(seconds)
        if stage == "detect":
            self._faces.inc(items)
        elif stage == "embed":
            self._batches.observe(items)
        elif stage == "batch":
            self._shared.observe(items)

    def watch(self, room: Room) -> None:
        """Reads queue, workers and memory from `room` whenever somebody asks."""
        self._registry.register(_Gauges(room))

    def identify(
        self, version: str, plugins: Mapping[str, str], runtimes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Says which engine this is, and of each plugin, by slug, its version and its runtime."""
        self._registry.register(_Identity(version, plugins, runtimes))

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, room: Room) -> None:
        self._room = room

    def collect(self) -> Iterator[Metric]:
        room = self._room
        for name, text, value in (
            ("queue_length", "Requests that wait for a worker.", room.waiting),
            ("queue_limit", "Requests that may wait.", room.max_queue),
            ("running", "Pictures that are computed now.", room.running),
            ("running_limit", "Pictures that may be computed at once.", room.concurrency),
            ("body_bytes", "Bytes of bodies held in memory.", room.bytes_held),
            ("body_bytes_limit", "Bytes of bodies that may be held.", room.max_bytes),
            ("picture_bytes", "Bytes set aside for pictures in work.", room.budget.taken),
            ("picture_bytes_limit", "Bytes that pictures may take.", room.budget.size),
        ):
            yield GaugeMetricFamily(f"compreface_{name}", text, value)


class _Identity(Collector):
    def __init__(
        self, version: str, plugins: Mapping[str, str], runtimes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        engine = InfoMetricFamily("compreface_engine", "This engine.", {"version": version})
        each = InfoMetricFamily(
            "compreface_plugin",
            "Each plugin, and how its network runs here.",
            labels=("plugin", "version", *_HOW),
        )
        for slug, name in plugins.items():
            how = runtimes.get(slug, {})
            each.add_metric((slug, name, *(str(how.get(key, "")) for key in _HOW)), {})
        self._families = engine, each

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
