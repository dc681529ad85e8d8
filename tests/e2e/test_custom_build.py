"""What the flags of `cf build` make is a build of the user's own: built, listed and started."""

from __future__ import annotations

import json
import signal
from pathlib import Path
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


def test_a_failed_or_cut_build_leaves_the_former_one_as_it_is(
    docker: Docker, cf: Cf, instance: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    name = f"own-{instance}"
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    cf.environment["TMPDIR"] = str(temporary)
    build = ("build", "--name", name)
    other, more = docker.own_name("more"), docker.own_name("more")
    flags = ("--plugin", "facenet.LandmarksDetector", "--tag", other, "--tag", more)
    made = json.loads(cf.ok(*build, *flags, "--json"))
    file = Path(made["kept"])
    try:
        assert made["tags"] == [made["image"], other, more]
        assert docker.inspect(other)["Id"] == docker.inspect(more)["Id"] == made["id"]
        former = file.read_text()

        (tmp_path / "Dockerfile").write_text("FROM scratch\nLABEL no=python\n")
        (tmp_path / ".dockerignore").write_text("*\n")
        bare = docker.build(tmp_path, docker.own_name("bare"))
        failed = cf.run(*build, "--base-image", bare)
        assert failed.returncode == 1, failed.stderr
        assert file.read_text() == former
        # Without a cache: else there is nothing left to cut.
        cut = (*build, "--plugin", "facenet.PoseEstimator", "--no-cache")
        for number in (signal.SIGINT, signal.SIGKILL):
            cf.interrupted(*cut, when=lambda line: "/8  " in line, number=number)
            assert file.read_text() == former
        left = [path.name for path in temporary.iterdir()]
        assert len(left) == 1
        assert left[0].startswith("cf-build-")
        again = json.loads(cf.ok(*build, *flags, "--json"))
        assert (again["id"], again["built"]) == (made["id"], False)
        assert list(temporary.iterdir()) == [], "the killed one's folder is swept"
    finally:
        docker("image", "rm", "--force", made["image"], check=False)
