"""The metrics of a mixed session, without any text of clients."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from compreface_engine.admission import Gate
from compreface_engine.api.app import App
from compreface_engine.metrics import Metrics
from compreface_engine.settings import Settings
from tests.contract.process import MULTIPART, Engine, photograph_form
from tests.engine.fakes import Caller, FakePipeline
from tests.shared import ROOT

PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()


def samples(text: bytes) -> dict[str, float]:
    """Every sample as `name{label="value",...}`, parsed by the reference parser."""
    values = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            values[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return values


class Service:
    """One application over a fake pipeline, all requests in one loop."""

    def __init__(self, **variables: str) -> None:
        settings = Settings.from_env(variables, cores=1)
        self.pipeline = FakePipeline()
        self.gate = Gate(
            concurrency=settings.max_concurrency,
            max_queue=settings.max_queue,
            max_bytes=settings.max_queue_bytes,
            max_wait_s=settings.max_wait_s,
            max_body=settings.max_body_bytes,
        )
        self.app = App(settings, self.pipeline, self.gate)

    def find(self, picture: bytes, **more: Any) -> Caller:
        headers = {"Content-Type": MULTIPART}
        return Caller(
            self.app, "POST", "/find_faces", headers=headers, body=photograph_form(picture), **more
        )

    async def metrics(self) -> dict[str, float]:
        reply = await Caller(self.app, "GET", "/metrics").run()
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return samples(reply.body)


def answered(values: dict[str, float], route: str, method: str, status: int) -> float:
    key = f'compreface_requests_total{{method="{method}",route="{route}",status="{status}"}}'
    return values.get(key, 0)


def test_requests_are_counted_by_route_method_and_status() -> None:
    async def session() -> dict[str, float]:
        service = Service()
        for picture in (b"1", b"2", b"!", b"0", b"X"):
            await service.find(picture).run()
        for method, path in (
            ("GET", "/healthcheck/"),
            ("PUT", "/status"),
            ("BREW", "/status"),
            ("GET", "/secret-path"),
        ):
            await Caller(service.app, method, path).run()
        return await service.metrics()

    values = asyncio.run(session())
    assert answered(values, "/find_faces", "POST", 200) == 2
    assert answered(values, "/find_faces", "POST", 400) == 2
    assert answered(values, "/find_faces", "POST", 500) == 1
    assert answered(values, "/healthcheck", "GET", 200) == 1
    assert answered(values, "/status", "PUT", 405) == 1
    assert answered(values, "/status", "(other)", 405) == 1
    assert answered(values, "(unknown)", "GET", 404) == 1
    assert values['compreface_request_seconds_count{route="/find_faces"}'] == 5
    assert values["compreface_queue_wait_seconds_count"] == 5
    assert not any("secret" in name for name in values)


def test_a_disconnect_during_the_computation_counts_as_499_and_ends_it() -> None:
    async def session() -> dict[str, float]:
        service = Service(CF_MAX_CONCURRENCY="1")
        staged = service.pipeline
        scan = staged.scan

        def in_stages(*args: Any, **kwargs: Any) -> Any:
            faces = scan(*args, **kwargs)
            service.app.telemetry.observe("batch", 0.1, 1)
            stages.append("detect")
            service.app.telemetry.observe("detect", 0.1, 1)
            stages.append("embed")
            return faces

        staged.scan = in_stages  # type: ignore[method-assign]
        staged.go.clear()
        caller = service.find(b"1")
        call = asyncio.ensure_future(caller.run())
        while not staged.scans:
            await asyncio.sleep(0.001)
        caller.leave()
        await asyncio.sleep(0.05)
        assert service.gate.running == 1
        assert service.gate.bytes_held > 0, "the thread still holds the body"
        staged.go.set()
        await call
        await service.find(b"1").run()
        return await service.metrics()

    stages: list[str] = []
    values = asyncio.run(session())
    assert stages == ["detect", "detect", "embed"]
    assert answered(values, "/find_faces", "POST", 499) == 1
    assert answered(values, "/find_faces", "POST", 200) == 1
    assert values["compreface_running"] == values["compreface_body_bytes"] == 0


def test_gauges_show_queue_workers_and_refusals() -> None:
    async def session() -> tuple[dict[str, float], dict[str, float]]:
        service = Service(CF_MAX_CONCURRENCY="1", CF_MAX_QUEUE="2")
        service.pipeline.go.clear()
        callers = [service.find(b"1") for _ in range(4)]
        calls = []
        for number, caller in enumerate(callers):
            calls.append(asyncio.ensure_future(caller.run()))
            while service.gate.running + service.gate.waiting < min(number + 1, 3):
                await asyncio.sleep(0.001)
        await calls[3]
        during = await service.metrics()
        callers[2].leave()
        await calls[2]
        service.pipeline.go.set()
        await asyncio.gather(*calls)
        return during, await service.metrics()

    during, after = asyncio.run(session())
    assert during["compreface_running"] == during["compreface_running_limit"] == 1
    assert during["compreface_queue_length"] == during["compreface_queue_limit"] == 2
    assert during["compreface_body_bytes"] == 3 * len(photograph_form(b"1"))
    assert during['compreface_refused_total{cause="queue"}'] == 1
    assert after["compreface_running"] == after["compreface_queue_length"] == 0
    assert after["compreface_body_bytes"] == 0
    assert answered(after, "/find_faces", "POST", 200) == 2
    assert answered(after, "/find_faces", "POST", 499) == 1, "who hung up is counted too"
    assert answered(after, "/find_faces", "POST", 503) == 1


def test_timeouts_memory_and_stopping_are_separate_causes() -> None:
    async def session() -> dict[str, float]:
        service = Service(
            CF_MAX_CONCURRENCY="2",
            CF_MAX_WAIT_S="0.01",
            CF_MAX_QUEUE_BYTES="1800",
            CF_MAX_BODY_BYTES="800",
        )
        service.pipeline.go.clear()
        large = [asyncio.ensure_future(service.find(b"1" * 600).run()) for _ in range(2)]
        while service.gate.running < 2:
            await asyncio.sleep(0.001)
        await service.find(b"1").run()
        await service.find(b"1" * 600).run()
        service.gate.close()
        await service.find(b"1").run()
        service.pipeline.go.set()
        await asyncio.gather(*large)
        return await service.metrics()

    values = asyncio.run(session())
    for cause in ("wait", "memory", "stopping"):
        assert values[f'compreface_refused_total{{cause="{cause}"}}'] == 1, cause


def test_counters_of_alerts_begin_at_zero() -> None:
    """Prometheus would not see the increase of a series that begins with its first value."""
    values = asyncio.run(Service().metrics())
    for route in ("/find_faces", "/find_faces_base64", "/scan_faces"):
        for status in (200, 429, 500, 503):
            name = f'{{method="POST",route="{route}",status="{status}"}}'
            assert values[f"compreface_requests_total{name}"] == 0
        assert values[f'compreface_request_seconds_count{{route="{route}"}}'] == 0
    causes = {name for name in values if name.startswith("compreface_refused_total")}
    sources = (ROOT / "engine" / "compreface_engine").rglob("*.py")
    told = re.findall(
        r'(?:refused\(|_refuse\(|_busy\(|Busy\(|^_[A-Z]+ = )"([a-z_]+)"',
        "\n".join(path.read_text("utf-8") for path in sources),
        re.MULTILINE,
    )
    assert causes == {f'compreface_refused_total{{cause="{cause}"}}' for cause in told}


def test_plugins_are_listed_with_version_and_runtime() -> None:
    values = asyncio.run(Service().metrics())
    assert (
        values[
            'compreface_plugin_info{device="",plugin="calculator",precision="",'
            'runtime="fake",sha256="",version="fake.Calculator"}'
        ]
        == 1
    )
    assert any(name.startswith("compreface_engine_info{version=") for name in values)
    assert values["process_resident_memory_bytes"] > 1_000_000
    assert values["process_cpu_seconds_total"] > 0


def test_two_engines_in_one_process_have_separate_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.observe("detect", 0.01, 3)
    assert samples(first.text())["compreface_faces_total"] == 3
    assert samples(second.text())["compreface_faces_total"] == 0


def test_shared_batches_have_their_own_histogram() -> None:
    metrics = Metrics()
    metrics.observe("batch", 0.01, 5)
    metrics.observe("embed", 0.02, 2)
    values = samples(metrics.text())
    assert values["compreface_shared_batch_size_sum"] == 5
    assert values["compreface_calculator_batch_size_sum"] == 2


def test_concurrent_increments_are_all_counted() -> None:
    metrics = Metrics()

    def count(_: int) -> None:
        for _ in range(500):
            metrics.observe("detect", 0.02, 2)
            metrics.observe("embed", 0.02, 2)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    values = samples(metrics.text())
    assert values["compreface_faces_total"] == 8 * 500 * 2
    assert values['compreface_stage_seconds_count{stage="embed"}'] == 8 * 500
    assert values['compreface_calculator_batch_size_bucket{le="1.0"}'] == 0
    assert values['compreface_calculator_batch_size_bucket{le="2.0"}'] == 8 * 500


def test_each_library_has_one_owner_module() -> None:
    owners = {"prometheus_client": "metrics.py", "opentelemetry": "tracing.py"}
    for path in (ROOT / "engine" / "compreface_engine").rglob("*.py"):
        for library, owner in owners.items():
            if path.name != owner:
                assert f"import {library}" not in path.read_text("utf-8"), path
                assert f"from {library}" not in path.read_text("utf-8"), path


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        yield engine


@pytest.mark.slow
def test_a_running_engine_times_every_stage_and_counts_no_warm_up(engine: Engine) -> None:
    before = samples(engine.request("GET", "/metrics").body)
    assert before["compreface_faces_total"] == 0
    assert not any("stage=" in name for name in before)
    plugins = "face_plugins=calculator,landmarks,pose"
    assert engine.find(PORTRAIT, plugins).status == 200
    assert engine.find(PORTRAIT).status == 200
    values = samples(engine.request("GET", "/metrics").body)
    runs = {"decode": 2, "detect": 2, "crop": 1, "embed": 1, "landmarks": 1, "pose": 1}
    for stage, count in runs.items():
        assert values[f'compreface_stage_seconds_count{{stage="{stage}"}}'] == count, stage
    assert values['compreface_stage_seconds_sum{stage="detect"}'] > 0.001
    assert values["compreface_faces_total"] == 2
    assert values["compreface_calculator_batch_size_sum"] == 1
    how = engine.request("GET", "/status").json()["runtimes"]["calculator"]
    (about,) = [name for name in values if 'plugin="calculator"' in name]
    assert f'sha256="{how["sha256"]}"' in about
    assert len(how["sha256"]) == 64


@pytest.mark.slow
def test_invalid_http_is_counted_as_refused(engine: Engine) -> None:
    import socket

    for data in (b"HELLO\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000):
        with socket.create_connection(("127.0.0.1", engine.port), timeout=30) as wire:
            wire.sendall(data)
            wire.recv(65536)
    values = samples(engine.request("GET", "/metrics").body)
    assert values['compreface_refused_total{cause="malformed"}'] == 1
    assert values['compreface_refused_total{cause="head"}'] == 1
