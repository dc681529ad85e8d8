"""What the flags of `cf build` make is a build of the user's own: built, listed and started."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port


def test_a_build_of_flags_is_listed_started_and_asked(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    name = f"own-{instance}"
    flags = ("--plugin", "facenet.LandmarksDetector", "--name", name)
    made = json.loads(cf.ok("build", *flags, "--json"))
    try:
        assert made["kept"] == str(cf.data / "builds" / f"{name}.yaml")
        listed = json.loads(cf.ok("list-builds", "--json"))
        (row,) = [build for build in listed["builds"] if build["name"] == name]
        assert made["image"] in row["image"]["tags"]

        port = str(free_port())
        start = ("up", name, "--services", "core", "--launcher", "compose", "--no-build")
        cf.ok(*start, "--instance", instance, "--port", port)
        scanned = cf.ok("scan", str(PORTRAITS / "grace_hopper.jpg"), "--json")
        assert "landmarks" in scanned
        assert "pose" not in scanned
        cf.ok("down")
    finally:
        docker("image", "rm", "--force", made["image"], check=False)
