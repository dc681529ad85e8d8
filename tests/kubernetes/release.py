"""A release of the chart with every service, and a face that it knows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.load import Load
from tests.e2e.machine import PORTRAITS, get, post_photograph, sign_up
from tests.kubernetes.ground import Namespace, wait_until

GRACE = PORTRAITS / "grace_hopper.jpg"
TABLES = ("subject", "embedding", "img", "app", "model", '"user"')
SERVICES = 5
_ROUTES = ("/admin/status", "/api/v1/consistence/status", "/core/status")
# The node has two cores, which four engines and the other services share.
SMALL = {
    "engine": {"resources": {"requests": {"cpu": "200m", "memory": "128Mi"}}},
    "admin": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
    "api": {"resources": {"requests": {"cpu": "50m", "memory": "64Mi"}}},
    "fe": {"service": {"type": "NodePort"}},
    "database": {"volume": {"size": "1Gi"}},
}


@dataclass
class Release:
    """`values` are those of the user, beside the chart's own."""

    namespace: Namespace
    name: str
    folder: Path
    values: dict[str, Any] = field(default_factory=dict)
    key: str = ""
    _port: int = 0

    def upgrade(self, *more: str, timeout_s: int = 240, force: bool = True, **values: Any) -> str:
        """`helm upgrade --install` with these values from now on; it waits for the pods.

        Without `force` Helm 4 leaves what `kubectl scale` or the autoscaler has set, and fails.
        """
        self.values = merged(self.values, values)
        own = self.folder / "own.json"
        own.write_text(json.dumps(merged(SMALL, self.values)))
        return self.namespace.helm(
            *("upgrade", "--install", self.name, str(self.folder / "chart")),
            *(f"--values={self.folder / 'secrets.yaml'}", f"--values={own}"),
            *("--wait", f"--timeout={timeout_s}s", *more),
            *(("--force-conflicts",) if force else ()),
            timeout_s=timeout_s + 60,
        )

    def uninstall(self) -> None:
        self.namespace.helm("uninstall", self.name, "--wait", "--timeout=120s")

    def selector(self, component: str) -> str:
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"

    def engines(self) -> list[str]:
        """The engines that take requests."""
        return self.namespace.ready(self.selector("core"))

    def scale(self, count: int) -> None:
        """By hand, and until the others have ended."""
        self.namespace.kubectl("scale", f"deployment/{self.name}-core", f"--replicas={count}")
        self.engines_are(count)

    def engines_are(self, count: int, timeout_s: float = 120) -> float:
        return wait_until(
            lambda: len(self.engines()) == count and len(self._all_engines()) == count,
            f"{count} engines",
            timeout_s,
        )

    def _all_engines(self) -> list[Any]:
        """Those that end too."""
        items: list[Any] = self.namespace.get("pods", f"--selector={self.selector('core')}")[
            "items"
        ]
        return items

    def all_ready(self) -> bool:
        """Whether each of the five services has a pod that takes requests."""
        one = f"app.kubernetes.io/instance={self.name}"
        return len(self.namespace.ready(one)) == len(self.namespace.pods(one)) >= SERVICES

    @property
    def ui(self) -> str:
        """The UI's port of the node."""
        service = self.namespace.get("service", f"{self.name}-fe")
        return f"http://127.0.0.1:{service['spec']['ports'][0]['nodePort']}"

    def learn(self) -> None:
        """Sign up, make the services, and add a face."""
        ui = self.ui
        self.key = sign_up(ui)["RECOGNITION"]
        added = f"{ui}/api/v1/recognition/faces?subject=Grace"
        assert post_photograph(added, GRACE, key=self.key)[0] == 201

    def recognising(self, connections: int) -> Load:
        """People who ask through the UI's port and the api; another answer than Grace is failed."""
        return Load(
            f"{self.ui}/api/v1/recognition/recognize",
            GRACE,
            connections=connections,
            header={"x-api-key": self.key},
            holds='"Grace"',
        )

    def knows_grace(self) -> bool:
        try:
            status, document = post_photograph(
                f"{self.ui}/api/v1/recognition/recognize", GRACE, key=self.key
            )
        except (OSError, ValueError):
            return False
        return status == 200 and document["result"][0]["subjects"][0]["subject"] == "Grace"

    def answers(self) -> bool:
        """Whether the three routes that the UI polls say that all is well."""
        try:
            ui = self.ui
            return all(get(ui + route)[1].get("status") == "OK" for route in _ROUTES)
        except (OSError, ValueError, AttributeError):
            return False

    def sql(self, text: str) -> str:
        inside = (
            'PGPASSWORD=$POSTGRES_PASSWORD exec psql -h 127.0.0.1 -U "$POSTGRES_USER"'
            ' -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -q -A -t'
        )
        pod = f"{self.name}-db-0"
        return self.namespace.kubectl("exec", "-i", pod, "--", "sh", "-c", inside, stdin=text)

    def rows(self) -> dict[str, tuple[int, str]]:
        """Of each table the number of its rows, and a hash of all that is in them."""
        found = {}
        for table in TABLES:
            lines = self.sql(f"select t::text from public.{table} t order by 1").splitlines()
            digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
            found[table.strip('"')] = (len(lines), digest)
        return found


def merged(one: Any, other: Any) -> Any:
    """Two trees of values; what the second has counts."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return other
    both = {key: merged(one[key], value) for key, value in other.items() if key in one}
    return {**one, **other, **both}
