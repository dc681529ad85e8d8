"""A real Prometheus with the rendered rules, paced for a test: seconds in place of minutes."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from compreface_cli.plan.plan import Plan
from compreface_cli.project import monitoring

PROMETHEUS = shutil.which("prometheus")
# Windows and `for`; the expressions stay as they are.
PACE = {"[15m:15s]": "[40s:1s]", "[15m]": "[40s]", "[5m]": "[10s]", "1m": "2s", "2m": "3s"}
RATE_INTERVAL = "10s"


def paced(rules: str) -> str:
    """The rules with short windows."""
    document = yaml.safe_load(rules)
    for rule in document["groups"][0]["rules"]:
        for window in re.findall(r"\[[^]]*\]", rule["expr"]):
            rule["expr"] = rule["expr"].replace(window, PACE[window])
        rule["for"] = PACE[rule["for"]]
    return yaml.safe_dump(document)


@dataclass
class Alert:
    """When an alert was pending, fired and was gone, in seconds of the monotonic clock."""

    pending: float | None = None
    firing: float | None = None
    resolved: float | None = None
    annotations: dict[str, str] = field(default_factory=dict)


class Prometheus:
    """Debian's Prometheus on loopback; `targets`: the ports of the engines that it scrapes."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        assert PROMETHEUS is not None
        self._folder = folder
        files = monitoring.files(plan, "compose")
        document = yaml.safe_load(str(files["monitoring/prometheus.yml"]))
        document["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (job,) = document["scrape_configs"]
        del job["dns_sd_configs"]
        job["file_sd_configs"] = [{"files": ["targets.json"], "refresh_interval": "1s"}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(document), "utf-8")
        (folder / "alerts.yml").write_text(paced(str(files["monitoring/alerts.yml"])), "utf-8")
        self.scrape()
        self.seen: dict[str, Alert] = {}
        """Of each alert the first time that it fired."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self._port = listener.getsockname()[1]
        self._log = (folder / "log").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [
                PROMETHEUS,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
                "--log.level=warn",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._watch_alerts, daemon=True)

    def __enter__(self) -> Prometheus:
        if not self.wait(self._ready, 30):
            self.__exit__(None, None, None)
            raise AssertionError((self._folder / "log").read_text("utf-8"))
        self._watch.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join(10)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def scrape(self, *ports: int) -> None:
        """Sets the targets, as a discovery would find them."""
        targets = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
        part = self._folder / "targets.part"
        part.write_text(json.dumps(targets), "utf-8")
        part.replace(self._folder / "targets.json")

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API; raises HTTPError for a query that does not parse."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        result: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float | None:
        """The value of an expression that has at most one sample."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if result else None

    def alerts(self) -> Mapping[str, str]:
        """The state of each alert that is pending or firing; with its cause where it has one."""
        now = {}
        for alert in self.get("alerts")["alerts"]:
            labels = alert["labels"]
            name = " ".join(
                [labels["alertname"], *([labels["cause"]] if "cause" in labels else [])]
            )
            now[name] = alert["state"]
            known = self.seen.setdefault(name, Alert())
            known.annotations = alert["annotations"]
        return now

    def firing(self, *names: str) -> bool:
        """Whether these alerts fire."""
        now = self.alerts()
        return all(now.get(name) == "firing" for name in names)

    @staticmethod
    def wait(condition: Any, seconds: float) -> bool:
        """Polls until the condition holds; False if it never did."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if condition():
                return True
            time.sleep(0.2)
        return bool(condition())

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            return True
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=2):
                return True
        except OSError:
            return False

    def _watch_alerts(self) -> None:
        while not self._stopping.wait(0.25):
            try:
                now = self.alerts()
            except OSError:
                continue
            at = time.monotonic()
            for name, alert in self.seen.items():
                state = now.get(name)
                if alert.firing is None:
                    if state is None:
                        alert.pending = None
                    elif alert.pending is None:
                        alert.pending = at
                    if state == "firing":
                        alert.firing = at
                elif state is None and alert.resolved is None:
                    alert.resolved = at
