"""Prometheus beside an instance, as the example has it: it finds the engine and its metrics."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import pytest
import yaml

from compreface_cli.project import monitoring
from tests.e2e.conftest import up_core
from tests.e2e.machine import Cf, Docker, free_port
from tests.monitoring.prometheus import PROMETHEUS

BASE = "python:3.11-slim-bookworm"


def ask(port: int, path: str, timeout_s: float = 60) -> Any:
    """The answer of Prometheus once there is one that says something."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/{path}") as answer:
                data = json.load(answer)["data"]
        except OSError:
            data = {}
        if data.get("result") or data.get("groups"):
            return data
        assert time.monotonic() < deadline, f"{path}: {data}"
        time.sleep(0.5)


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
def test_the_example_scrapes_the_engine_with_a_key(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    key = "the-key-of-prometheus"
    cf.environment["CF_API_KEYS"] = f"the-key-of-a-client,{key}"
    up = up_core(instance, free_port())
    cf.ok(*up)
    folder, port = cf.project(instance), free_port()
    example = yaml.safe_load((folder / monitoring.FOLDER / "compose.prometheus.yaml").read_text())
    service = example["services"]["prometheus"]
    assert service["ports"] == ["127.0.0.1:9090:9090"]
    # The image of Prometheus cannot be had here: Debian's program in one that is there.
    service |= {
        "image": BASE,
        "user": "65534",
        "tmpfs": "/prometheus:uid=65534",
        "ports": [f"127.0.0.1:{port}:9090"],
        "entrypoint": [
            "/bin/prometheus",
            "--config.file=/etc/prometheus/prometheus.yml",
            "--storage.tsdb.path=/prometheus",
        ],
    }
    service["volumes"] = [service["volumes"][0], f"{PROMETHEUS}:/bin/prometheus:ro"]
    (folder / "compose.override.yaml").write_text(json.dumps(example), "utf-8")
    with (folder / ".env").open("a", encoding="utf-8") as env:
        env.write(f"METRICS_KEY={key}\n")
    docker("compose", f"--project-directory={folder}", "up", "--detach", "prometheus")

    (engine,) = ask(port, "query?query=up==1")["result"]
    assert engine["metric"]["cf_instance"] == instance
    assert engine["metric"]["cf_build"] == "embedded"
    (group,) = ask(port, "rules")["groups"]
    assert len(group["rules"]) == 7
    assert key not in json.dumps(docker.inspect(f"cf-{instance}-prometheus-1"))

    # It is one of the instance's services, which cf leaves as it is.
    again = json.loads(cf.ok(*up, "--json"))
    assert again["change"] == "already running"
    names = {each["name"] for each in again["services"]}
    assert names == {"core", "prometheus"}
    cf.ok("down", instance)
    left = [name for name in docker.things_of(f"cf-{instance}") if "prometheus-data" not in name]
    assert left == []
