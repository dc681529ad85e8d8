"""Records of instances, as an earlier `cf` has written them."""

from __future__ import annotations

from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment, Endpoint

PROCESS = Deployment("process", "embedded", Endpoint("127.0.0.1", 3017), data={"folder": "x"})
STACK = Deployment(
    "compose", "embedded", Endpoint("127.0.0.1", 3018), Endpoint("127.0.0.1", 8018), {"folder": "x"}
)


def record(of: Deployment, name: str = "embedded") -> Record:
    return Record(
        name=name,
        build="embedded",
        calculator="c",
        services="full" if of.ui else "core",
        phase="running",
        created=now(),
        deployment=of.as_dict(),
    )
