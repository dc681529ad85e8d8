"""Traces arrive complete at a collector, and a dead collector delays no request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.process import MULTIPART, Engine, Reply, photograph_form, wait_until
from tests.engine.collector import Collector, Span
from tests.shared import ROOT

pytestmark = pytest.mark.slow

PORTRAIT = (ROOT / "compreface_cli" / "portraits" / "grace_hopper.jpg").read_bytes()
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "100"}


def find(engine: Engine, **headers: str) -> Reply:
    return engine.request(
        "POST",
        "/find_faces?face_plugins=calculator,pose",
        photograph_form(PORTRAIT),
        {"Content-Type": MULTIPART, **{n.replace("_", "-"): v for n, v in headers.items()}},
    )


def by_name(spans: list[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


def test_a_request_is_a_child_of_the_clients_trace_with_a_span_per_stage() -> None:
    with (
        Collector() as collector,
        Engine(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **QUICK) as engine,
    ):
        reply = find(engine, traceparent=f"00-{TRACE}-{PARENT}-01", X_Request_Id="my-request")
        assert reply.status == 200
        assert wait_until(lambda: len(collector.spans) >= 8)
        spans = by_name(collector.spans)
        request = spans.pop("POST /find_faces")
        assert set(spans) == {"body", "queue", "decode", "detect", "crop", "embed", "pose"}
        assert (request.trace_id, request.parent_id) == (TRACE, PARENT)
        for name, span in spans.items():
            assert (span.trace_id, span.parent_id) == (TRACE, request.span_id), name
            assert request.start <= span.start <= span.end <= request.end, name
        assert spans["decode"].end <= spans["detect"].start + 1_000_000
        assert spans["detect"].attributes == {"compreface.items": 1}
        assert request.attributes == {
            "http.request.method": "POST",
            "http.route": "/find_faces",
            "http.response.status_code": 200,
            "compreface.request_id": "my-request",
        }
        assert collector.service["service.name"] == "compreface-engine"
        assert not request.failed
        # Its lines in the log name the trace.
        assert wait_until(lambda: "answered" in engine.log)
        lines = [json.loads(line) for line in engine.log.splitlines() if line.startswith("{")]
        (line,) = [line for line in lines if line["message"] == "answered"]
        assert (line["request"]["trace_id"], line["request"]["id"]) == (TRACE, "my-request")


def test_standard_variables_set_the_service_name_and_the_sampler() -> None:
    with (
        Collector() as collector,
        Engine(
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{collector.url}/v1/traces",
            OTEL_SERVICE_NAME="faces",
            OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=test",
            OTEL_TRACES_SAMPLER="parentbased_always_off",
            **QUICK,
        ) as engine,
    ):
        assert find(engine).status == 200
        assert engine.request("GET", "/healthcheck").status == 200
        assert find(engine, traceparent=f"00-{TRACE}-{PARENT}-01").status == 200
        assert find(engine, traceparent="garbage").status == 200
        assert wait_until(lambda: "POST /find_faces" in by_name(collector.spans))
        assert engine.stop() == 0
        assert {span.trace_id for span in collector.spans} == {TRACE}
        assert collector.service["service.name"] == "faces"
        assert collector.service["deployment.environment.name"] == "test"


def test_the_last_traces_are_sent_at_the_exit() -> None:
    with (
        Collector() as collector,
        Engine(
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_BSP_SCHEDULE_DELAY="600000"
        ) as engine,
    ):
        assert find(engine).status == 200
        assert not collector.spans
        assert engine.stop() == 0
        assert "POST /find_faces" in by_name(collector.spans)


def served_and_ended(engine: Engine) -> None:
    """The engine answers as usual, with more spans than the small queue holds, and stops."""
    boxes = {find(engine).body.partition(b'"embedding"')[0] for _ in range(8)}
    assert len(boxes) == 1
    assert b'"box"' in boxes.pop()
    assert engine.stop() == 0


SMALL = {
    "OTEL_BSP_SCHEDULE_DELAY": "20",
    "OTEL_BSP_MAX_QUEUE_SIZE": "16",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
}


def test_a_stalled_collector_delays_neither_requests_nor_the_exit() -> None:
    with (
        Collector(stalls=True) as collector,
        Engine(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **SMALL) as engine,
    ):
        served_and_ended(engine)
        assert collector.asked.is_set()


def test_a_failing_collector_delays_neither_requests_nor_the_exit() -> None:
    with (
        Collector(status=503) as collector,
        Engine(OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, **SMALL) as engine,
    ):
        served_and_ended(engine)
        assert collector.asked.is_set()


def test_an_absent_collector_delays_neither_requests_nor_the_exit() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
        with Engine(OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", **SMALL) as engine:
            served_and_ended(engine)


def run(folder: Path, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(folder), str(ROOT / "engine")))
    return subprocess.run(
        [sys.executable, "-c", script],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "CF_PORT": "0", **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_an_endpoint_without_the_packages_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")
    start = "import sys; from compreface_engine.__main__ import main; sys.exit(main([]))"
    done = run(tmp_path, start, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4318")
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "compreface-engine[otel]" in done.stderr


def test_variables_that_the_sdk_refuses_stop_the_start(tmp_path: Path) -> None:
    start = "import sys; from compreface_engine.__main__ import main; sys.exit(main([]))"
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}
    done = run(tmp_path, start, **endpoint, OTEL_BSP_MAX_QUEUE_SIZE="1")
    assert done.returncode == 3
    assert done.stderr.startswith("compreface-engine: ")
    assert "OTEL_" in done.stderr
    done = run(tmp_path, start, **endpoint, OTEL_EXPORTER_OTLP_HEADERS="a=b,secret-token")
    assert done.returncode == 3
    assert "OTEL_EXPORTER_OTLP_HEADERS: " in done.stderr
    assert "secret" not in done.stderr


def test_without_an_endpoint_opentelemetry_is_not_imported(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        "import sys\n"
        "from compreface_engine.api.telemetry import Telemetry\n"
        "import compreface_engine.api.server\n"
        "Telemetry.start('a', '1', traces=False)\n"
        "assert not any(name.startswith('opentelemetry') for name in sys.modules)\n",
    )
    assert done.returncode == 0, done.stderr
