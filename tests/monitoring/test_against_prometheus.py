"""Real engines under a real Prometheus: every alert fires and resolves, every panel has data."""

from __future__ import annotations

import http.client
import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compreface_cli.project import monitoring
from compreface_cli.resources import portrait
from tests.cli.test_render import plan
from tests.contract.process import MULTIPART, Engine, photograph_form
from tests.engine.costly_pictures import grain, saved
from tests.engine.hanging_engine import BREAKS
from tests.monitoring.prometheus import PROMETHEUS, RATE_INTERVAL, Prometheus

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed"),
]

LOADED = (
    "CompreFaceQueueFull",
    "CompreFaceApiBusy",
    "CompreFaceSlowAnswers",
    "CompreFaceRefusals queue",
)


@contextmanager
def load(port: int, connections: int) -> Iterator[None]:
    """So many connections that send a photograph, and the next once it is answered."""
    stopping = threading.Event()
    form = photograph_form(portrait().read_bytes())

    def send_on() -> None:
        while not stopping.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("POST", "/find_faces", form, {"Content-Type": MULTIPART})
                if connection.getresponse().status != 200:
                    stopping.wait(0.1)
            except (OSError, http.client.HTTPException):
                stopping.wait(0.1)
            finally:
                connection.close()

    threads = [threading.Thread(target=send_on, daemon=True) for _ in range(connections)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(60)


def test_each_alert_fires_and_resolves(tmp_path: Path) -> None:
    # Rules of a full stack with short waits; the engines themselves let requests wait for longer.
    wanted = plan(instance="faces", replicas=2, max_wait_s=10)
    small = {"CF_MAX_CONCURRENCY": "1", "CF_MAX_WAIT_S": "50"}
    photograph = portrait().read_bytes()
    with (
        Engine(**small, CF_MAX_QUEUE="256") as first,
        Engine(**small, CF_MAX_QUEUE="8") as second,
        Prometheus(tmp_path, wanted) as prometheus,
    ):
        port = second.port
        prometheus.scrape(first.port, port)

        def start(port: int, module: str = "compreface_engine", **variables: str) -> Engine:
            return Engine("-m", module, CF_PORT=str(port), **{**small, **variables})

        def restarted(times: int) -> Callable[[], bool]:
            since = f'process_start_time_seconds{{instance="127.0.0.1:{port}"}}'
            return lambda: prometheus.value(f"changes({since}[1m])") == times

        assert prometheus.wait(lambda: prometheus.value("sum(up)") == 2, 20)
        assert prometheus.wait(lambda: not prometheus.alerts(), 20)
        for _ in range(25):
            assert first.find(photograph).status == second.find(photograph).status == 200
        time.sleep(4)
        assert not prometheus.alerts(), "what an instance serves at ease is no alert"
        rules = prometheus.get("rules")["groups"][0]["rules"]
        assert {rule["health"] for rule in rules} == {"ok"}

        with load(first.port, 170), load(port, 20):
            assert prometheus.wait(lambda: prometheus.firing(*LOADED), 60), prometheus.alerts()
            check_dashboard(prometheus)
        assert prometheus.wait(lambda: not prometheus.alerts(), 60), prometheus.alerts()

        second.stop(signal.SIGKILL)
        assert prometheus.wait(lambda: prometheus.firing("CompreFaceEngineGone"), 20)
        with start(port, CF_RATE_LIMIT="1") as again:
            assert prometheus.wait(restarted(1), 20)
            statuses = [again.find(photograph).status for _ in range(30)]
            assert statuses.count(429) > 20
            refused = "CompreFaceRefusals rate"
            assert prometheus.wait(lambda: prometheus.firing(refused), 20), prometheus.alerts()
            again.stop(signal.SIGKILL)
        with start(port) as again:
            assert prometheus.wait(restarted(2), 20)
            again.stop(signal.SIGKILL)
        with start(port, module="tests.engine.hanging_engine") as again:
            assert prometheus.wait(restarted(3), 20)
            assert again.find(saved(grain(BREAKS, 40), "PNG")).status == 500
            both = ("CompreFaceRestarts", "CompreFaceErrors")
            assert prometheus.wait(lambda: prometheus.firing(*both), 20), prometheus.alerts()
            assert prometheus.wait(lambda: not prometheus.alerts(), 60), prometheus.alerts()
            again.stop(signal.SIGKILL)
            first.stop(signal.SIGKILL)
        assert prometheus.wait(lambda: prometheus.firing("CompreFaceNoEngine"), 20)
        with start(port):
            gone = "CompreFaceNoEngine"
            assert prometheus.wait(lambda: gone not in prometheus.alerts(), 20)
            time.sleep(0.5)  # until it is seen

        names = {rule["name"] for rule in rules}
        assert {name.partition(" ")[0] for name in prometheus.seen} == names
        for name, alert in prometheus.seen.items():
            assert "<error" not in json.dumps(alert.annotations), name
            assert "<no value>" not in json.dumps(alert.annotations), name
            assert alert.pending is not None, name
            assert alert.firing is not None, name
            assert alert.resolved is not None, name
            times = [alert.pending, alert.firing, alert.resolved]
            print(name, *(each and round(each - times[0], 1) for each in times))


def check_dashboard(prometheus: Prometheus) -> None:
    """Each expression of the dashboard parses and has data; each metric in it exists."""
    content = monitoring.dashboard().source.read_text("utf-8")
    dashboard = json.loads(content)
    known = set(prometheus.get("label/__name__/values"))
    for metric in set(re.findall(r"\b(?:compreface|process)_[a-z_]+", content)) - {
        "compreface_cli"
    }:
        assert metric in known, metric
    variables = {"$cf_instance": "faces", "$instance": ".*", "$__rate_interval": RATE_INTERVAL}
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in variables.items():
                expression = expression.replace(name, value)
            assert prometheus.query(expression), (panel["title"], expression)
