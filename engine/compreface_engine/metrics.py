"""Metrics for Prometheus; the only module that imports prometheus-client."""

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

# The creation time of each counter would double the number of series.
disable_created_metrics()  # type: ignore[no-untyped-call]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode()
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_BATCHES = (1, 2, 4, 8, 16, 32)
# Prometheus sees no increase in a series that begins with its first value, so what alerts ask for
# begins at 0: all causes of refusals, and of the routes that compute the statuses that count.
_CAUSES = (
    "queue",
    "memory",
    "pictures",
    "out_of_memory",
    "wait",
    "stopping",
    "key",
    "rate",
    "malformed",
    "head",
    "connections",
)
_STATUSES = (200, 429, 500, 503)
_RUNTIME_LABELS = ("runtime", "precision", "device", "sha256")


class MemoryBudget(Protocol):
    """A budget of `size` bytes of which `used` are acquired."""

    size: int

    @property
    def used(self) -> int: ...


class GateState(Protocol):
    """The gauges of the gate, read on each scrape; see `admission.Gate`."""

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
    def budget(self) -> MemoryBudget: ...


class Metrics:
    """The metrics of one engine, in a registry of their own. All methods are thread-safe.

    Label values are the engine's own routes, methods, statuses, causes and stages, never text of a
    client.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "compreface_requests",
            "Requests answered; status 499: the client disconnected first.",
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
            "Time a request waited for a free worker, whether it got one or not.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refused = Counter(
            "compreface_refused",
            "Requests refused before any computation or for want of memory, by cause.",
            ("cause",),
            registry=self._registry,
        )
        for cause in _CAUSES:
            self._refused.labels(cause)
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
            "Faces of all requests in one run of a network that requests share.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        # Looking up a labelled child costs more than incrementing it.
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._stage: dict[str, Histogram] = {}

    def expect(self, route: str, method: str) -> None:
        """Begins the counters of a route that computes at 0."""
        for status in _STATUSES:
            self._requests.labels(route, method, str(status))
        self._seconds.labels(route)

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
        """Counts one refused request."""
        self._refused.labels(cause).inc()

    def observe(self, stage: str, seconds: float, items: int) -> None:
        """Counts one stage; an observer of the pipeline."""
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

    def watch(self, gate: GateState) -> None:
        """Adds the gauges of `gate`: queue, workers and memory."""
        self._registry.register(_Gauges(gate))

    def identify(
        self, version: str, plugins: Mapping[str, str], runtimes: Mapping[str, Mapping[str, Any]]
    ) -> None:
        """Adds the engine's version, and by slug each plugin's version and runtime."""
        self._registry.register(_Identity(version, plugins, runtimes))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Gauges(Collector):
    def __init__(self, gate: GateState) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        gate = self._gate
        for name, text, value in (
            ("queue_length", "Requests that wait for a worker.", gate.waiting),
            ("queue_limit", "Requests that may wait.", gate.max_queue),
            ("running", "Pictures that are computed now.", gate.running),
            ("running_limit", "Pictures that may be computed at once.", gate.concurrency),
            ("body_bytes", "Bytes of request bodies in memory.", gate.bytes_held),
            ("body_bytes_limit", "Bytes of request bodies that may be in memory.", gate.max_bytes),
            ("picture_bytes", "Bytes reserved for the pictures in work.", gate.budget.used),
            ("picture_bytes_limit", "Bytes that pictures may reserve.", gate.budget.size),
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
            labels=("plugin", "version", *_RUNTIME_LABELS),
        )
        for slug, name in plugins.items():
            runtime = runtimes.get(slug, {})
            labels = (str(runtime.get(key, "")) for key in _RUNTIME_LABELS)
            each.add_metric((slug, name, *labels), {})
        self._families = engine, each

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
