"""An install of upstream's becomes an instance on its own volume, and is given back as it was."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.names import assert_named
from tests.e2e.machine import PORTRAITS, REGISTRY, Cf, Docker, post_photograph
from tests.e2e.original import ENV, SERVICES, Original, recognises


@pytest.fixture(scope="module")
def core(docker: Docker, stack: dict[str, str], embedded: dict[str, Any]) -> str:
    """The engine of the installs: the embedded build under a tag that upstream never had."""
    name = f"{REGISTRY}compreface-core:{ENV['CORE_VERSION']}"
    docker("tag", embedded["id"], name)
    docker.own.append(name)
    return name


@pytest.fixture(scope="module")
def original(
    docker: Docker, core: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Original]:
    """An install that runs, with two faces; each test leaves it running."""
    made = Original(tmp_path_factory.mktemp("original"), docker)
    try:
        made.up()
        made.key = made.with_faces()
        yield made
    finally:
        made.remove()


@pytest.fixture
def adopting(cf: Cf, original: Original) -> Iterator[Cf]:
    """`cf` for the install; what a failed test leaves of the instance is removed."""
    cf.instances.append(original.project)
    yield cf
    cf.run("release", original.project, "--yes")


def rows(original: Original) -> str:
    return original.sql(
        "select md5(string_agg(id::text || calculator || embedding::text, ',' order by id))"
        " from embedding"
    )


def test_a_running_install_is_adopted_and_released(
    docker: Docker, adopting: Cf, original: Original
) -> None:
    cf, name, before = adopting, original.project, original.states()
    stored = rows(original)
    dry = json.loads(cf.ok("adopt", str(original.folder), "--dry-run", "--json"))
    assert (dry["change"], dry["build"], dry["volume"]) == ("dry run", "embedded", original.volume)
    assert dry["faces"] == {"embedded.Calculator@mobilefacenet192": 2}
    assert cf.run("adopt", str(original.folder)).returncode == 2, "it asks first"
    assert (original.states(), cf.run("status", name).returncode) == (before, 3)

    done = json.loads(cf.ok("adopt", str(original.folder), "--yes", "--json", timeout_s=500))
    assert (done["change"], done["ui_url"]) == ("adopted", original.ui)
    assert (done["agreement"]["agreeing"], done["agreement"]["compared"]) == (2, 2)
    assert {state[:2] for state in original.states().values()} == {("exited", "no")}
    assert original.databases() == [f"cf-{name}-compreface-postgres-db-1"]
    assert recognises(original.ui, original.key, "astronaut.png") == "Eileen"
    environment = docker.inspect(f"cf-{name}-compreface-api-1")["Config"]["Env"]
    assert {"POSTGRES_PASSWORD=secret-of-old", "READ_TIMEOUT=50000"} <= set(environment)
    assert any(each.startswith("API_JAVA_OPTS=-Xmx3g") for each in environment)
    (row,) = json.loads(cf.ok("status", name, "--json"))["instances"]
    assert (row["state"], row["adopted_from"]) == ("running", str(original.folder))

    again = cf.run("adopt", str(original.folder), "--yes", "--json")
    assert again.returncode == 4
    assert json.loads(again.stdout)["error"]["details"]["instance"] == name
    for words in (("down", name, "--volumes", "--confirm", name), ("rm", name, "--confirm", name)):
        assert cf.run(*words).returncode == 4
    cf.ok("down", name)
    assert original.databases() == []
    assert original.volume in docker("volume", "ls", "--format={{.Name}}").split()
    assert cf.run("rm", name, "--volumes", "--confirm", name).returncode == 4
    cf.ok("up", "embedded", "--instance", name, timeout_s=500)
    added = post_photograph(
        f"{original.ui}/api/v1/recognition/faces?subject=Later",
        PORTRAITS / "grace_hopper.jpg",
        key=original.key,
    )
    assert added[0] == 201, "the same port, the same key, the same data"
    docker("start", original.database)  # what nobody should do, and status must name
    sick = cf.run("status", name)
    docker("stop", original.database)
    assert sick.returncode == 8
    assert_named(sick.stdout, original.database, original.volume)

    released = json.loads(cf.ok("release", name, "--yes", "--json", timeout_s=200))
    assert sorted(released["started"]) == sorted(original.names)
    assert {state[:2] for state in original.states().values()} == {("running", "always")}
    assert docker.things_of(f"cf-{name}") == []
    assert (cf.run("status", name).returncode, cf.project(name).exists()) == (3, False)
    original.ready()
    assert recognises(original.ui, original.key, "astronaut.png") == "Eileen"
    original.sql(
        "delete from embedding e using subject s where s.id = e.subject_id and"
        " s.subject_name = 'Later'"
    )
    assert rows(original) == stored
    original.docker("restart", f"compreface-api-{original.suffix}")
    original.ready()


def test_what_does_not_fit_is_refused_and_nothing_stops(
    docker: Docker, adopting: Cf, original: Original
) -> None:
    cf, before, stored = adopting, original.states(), rows(original)
    words = ("adopt", original.project, "--yes", "--json")
    other = cf.run(*words, "--build", "facenet", "--dry-run")
    assert other.returncode == 5
    assert "embedded" in json.loads(other.stdout)["error"]["hint"]

    original.sql(
        "update embedding set embedding = (select array_agg(-x order by n) from"
        " unnest(embedding) with ordinality t(x, n)) where calculator like 'embedded%'"
    )
    apart = cf.run(*words, timeout_s=400)
    original.sql(
        "update embedding set embedding = (select array_agg(-x order by n) from"
        " unnest(embedding) with ordinality t(x, n)) where calculator like 'embedded%'"
    )
    assert apart.returncode == 5, apart.stdout
    figures = json.loads(apart.stdout)["error"]["details"]
    assert (figures["compared"], figures["agreeing"]) == (2, 0)
    assert figures["least_cosine"] < -0.9

    original.sql(
        "create table kept as select id, img_id from embedding; update embedding set img_id = null"
    )
    unseen = cf.run(*words, "--dry-run")
    original.sql(
        "update embedding e set img_id = k.img_id from kept k where k.id = e.id; drop table kept"
    )
    assert unseen.returncode == 2
    assert "--unchecked" in json.loads(unseen.stdout)["error"]["hint"]
    assert (original.states(), rows(original)) == (before, stored)
    assert cf.run("status").stdout.startswith("No instance")


class Watch:
    """A run of `cf adopt` that is killed; what ran on the volume meanwhile."""

    def __init__(self, cf: Cf, original: Original, log: Path) -> None:
        self.cf, self.original = cf, original
        self.most = 0
        with log.open("w") as output:
            self.child = cf.start("adopt", original.project, "--yes", output=output)
        self.record = (
            cf.home / ".local/state/compreface-cli/instances" / original.project / "instance.json"
        )

    def look(self) -> dict[str, Any]:
        """The record as it is now; {} without one. Counts the databases on the volume."""
        self.most = max(self.most, len(self.original.databases()))
        try:
            known: dict[str, Any] = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return {}
        return known

    def kill(self) -> None:
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()


@pytest.mark.parametrize(
    ("point", "back"),
    [
        ("comparing", "adopt"),
        ("stopping", "release"),
        ("starting", "release"),
        ("database", "adopt"),
        ("services", "release"),
    ],
)
def test_a_kill_at_each_step_is_named_and_put_right(
    docker: Docker, adopting: Cf, original: Original, point: str, back: str, tmp_path: Path
) -> None:
    cf, name, stored = adopting, original.project, rows(original)
    watch = Watch(cf, original, tmp_path / "log")

    def reached(record: dict[str, Any]) -> bool:
        match point:
            case "stopping":
                return bool(record["adopted"]["stopping"])
            case "starting":
                return bool(record["phase"] == point)
            case "services":
                return f"cf-{name}-compreface-api-1" in docker("ps", "--format={{.Names}}")
            case "database":
                return f"cf-{name}-compreface-postgres-db-1" in original.databases()
        return True

    deadline = time.monotonic() + 400
    while True:
        record = watch.look()
        if record and reached(record):
            break
        assert watch.child.poll() is None, (tmp_path / "log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "log").read_text()
        time.sleep(0.05)
    watch.kill()
    told = cf.run("status", name)
    assert told.returncode == 8, told.stdout
    assert_named(told.stdout, "cf adopt", f"cf release {name}")
    for words in (("up", "embedded", "--instance", name), ("down", name), ("restart", name)):
        assert cf.run(*words).returncode == 4, words
    if back == "adopt":
        cf.ok("adopt", name, "--yes", timeout_s=500)
        assert recognises(original.ui, original.key, "astronaut.png") == "Eileen"
        assert len(original.databases()) == 1
    cf.ok("release", name, "--yes", timeout_s=300)
    assert {state[:2] for state in original.states().values()} == {("running", "always")}
    assert (watch.most, original.databases()) == (1, [original.database])
    original.ready()
    assert rows(original) == stored
    assert cf.run("status").stdout.startswith("No instance")


def test_a_failed_start_brings_the_install_back(
    docker: Docker, adopting: Cf, original: Original
) -> None:
    """The password is wrong: that shows only once our own database runs on the volume."""
    cf, stored = adopting, rows(original)
    cf.environment["CF_POSTGRES_PASSWORD"] = "wrong-password"
    failed = cf.run("adopt", original.project, "--yes", "--json", timeout_s=400)
    assert failed.returncode == 4, failed.stdout + failed.stderr
    assert {state[:2] for state in original.states().values()} == {("running", "always")}
    assert docker.things_of(f"cf-{original.project}") == []
    original.ready()
    assert (rows(original), cf.run("status").stdout[:11]) == (stored, "No instance")


def test_a_stopped_install_and_one_whose_containers_are_gone(
    docker: Docker, cf: Cf, core: str, stack: dict[str, str], tmp_path: Path
) -> None:
    made = Original(tmp_path, docker)
    name = made.project
    cf.instances.append(name)
    try:
        made.up()
        made.with_faces()
        made.compose("stop")
        stored = {"embedded.Calculator@mobilefacenet192": 2}
        holder = docker(
            *("run", "--detach", "--rm", "--publish", f"{made.port}:80", "--entrypoint=sleep"),
            *(core, "300"),
        )
        taken = cf.run("adopt", str(made.folder), "--yes", "--json")
        docker("rm", "--force", holder)
        assert taken.returncode == 4, taken.stdout
        assert str(made.port) in taken.stdout

        moved = made.folder.rename(tmp_path / "moved")
        here = json.loads(cf.ok("adopt", str(moved), "--dry-run", "--json"))
        assert (here["project"], here["adopted_from"]) == (name, str(moved))
        by_path = json.loads(cf.ok("adopt", str(made.folder), "--dry-run", "--json"))
        assert (by_path["project"], by_path["faces"]) == (name, stored)
        cf.ok("adopt", name, "--yes", timeout_s=500)
        docker("rm", *made.names)
        released = json.loads(cf.ok("release", name, "--yes", "--json"))
        assert sorted(released["gone"]) == sorted(SERVICES)
        assert f"--project-name {name}" in released["commands"][-1]

        moved.rename(made.folder)
        from_file = json.loads(cf.ok("adopt", str(made.folder), "--dry-run", "--json"))
        assert (from_file["faces"], from_file["running"]) == (stored, [])
        assert from_file["settings"]["read_timeout"] == 50000
        cf.environment |= stack
        wrong = cf.run("adopt", name, "--dry-run", "--json")
        assert wrong.returncode == 4, "its password is not the default one"
        assert "CF_POSTGRES_PASSWORD" in wrong.stdout
        cf.environment["CF_POSTGRES_PASSWORD"] = ENV["postgres_password"]
        alone = json.loads(cf.ok("adopt", name, "--dry-run", "--json"))
        assert (alone["faces"], alone["build"]) == (stored, "embedded")
        assert alone["settings"]["bind"] == "0.0.0.0"
        nothing = cf.run("adopt", "no-such-install", "--json")
        assert nothing.returncode == 3
        assert name in json.loads(nothing.stdout)["error"]["hint"]
    finally:
        made.remove()


def test_a_rendered_instance_is_no_install(cf: Cf, docker: Docker) -> None:
    label = "compreface-cli.instance=mine"
    project = "com.docker.compose.project=cf-mine-e2e"
    docker(
        "volume", "create", f"--label={label}", f"--label={project}", "cf-mine-e2e_postgres-data"
    )
    try:
        refused = cf.run("adopt", "cf-mine-e2e", "--json")
        assert refused.returncode == 4
        assert json.loads(refused.stdout)["error"]["details"]["instance"] == "mine"
    finally:
        docker("volume", "rm", "cf-mine-e2e_postgres-data")


def test_compose_cannot_read_the_file(cf: Cf, tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    assert cf.run("adopt", str(folder)).returncode == 3
    (folder / "docker-compose.yml").write_text("services: [")
    refused = cf.run("adopt", str(folder))
    assert refused.returncode == 3
    assert "docker-compose.yml" in refused.stderr
    (folder / "docker-compose.yml").write_text("services: {web: {image: nginx}}")
    assert cf.run("adopt", str(folder)).returncode == 3
    assert subprocess.run(["docker", "ps"], capture_output=True, check=True)
