"""Backups of a database in use, and their restore: nothing is lost, mixed or left over."""

from __future__ import annotations

import json
import lzma
import os
import re
import signal
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.docker import postgres
from compreface_cli.docker.postgres import Server, Session, fed
from tests.cli.names import assert_named
from tests.e2e.machine import (
    PORTRAITS,
    Cf,
    Docker,
    free_port,
    get,
    post_photograph,
    sign_up,
    wait_until,
)
from tests.shared import shared

IMAGE = "CF_POSTGRES_IMAGE"
_ADD = (
    "with s as (insert into public.subject (id, api_key, subject_name) select"
    " uuid_generate_v4(), api_key, 'n-' || uuid_generate_v4() from public.model"
    " where type = 'R' limit 1 returning id)"
    " insert into public.embedding (id, subject_id, embedding, calculator)"
    " select uuid_generate_v4(), id, array_fill(0.04::float8, array[512]), 'facenet.Calculator'"
    " from s"
)
# What of every table stands in it, whatever the order of its rows.
_DIGEST = """
select coalesce(string_agg(md5(t::text), '' order by md5(t::text)), '') from {table} t
"""
# Photographs do not shrink, so that a dump of them fills any pipe.
_HEAVY = (
    "insert into public.img (id, content) select uuid_generate_v4(), decode(string_agg("
    "md5(random()::text), ''), 'hex') from generate_series(1, 40) a, generate_series(1, 20000) b"
    " group by a"
)


class Upstream:
    """A running database as an install of CompreFace has it: a volume, no instance of cf."""

    def __init__(self, docker: Docker, image: str) -> None:
        self.docker = docker
        self.volume = f"e2e-backup-{uuid.uuid4().hex[:8]}_postgres-data"
        self.container = f"{self.volume}-db"
        docker("volume", "create", "--label=com.docker.compose.volume=postgres-data", self.volume)
        given = ("--env=POSTGRES_PASSWORD=secret", "--env=POSTGRES_DB=frs", "--shm-size=256m")
        mount = f"--volume={self.volume}:{postgres.DATA}"
        docker("run", "-d", f"--name={self.container}", *given, mount, image)
        ready = ("exec", self.container, "pg_isready", "-h", "127.0.0.1", "-d", "frs")
        wait_until(lambda: "accepting" in docker(*ready, check=False), 180)
        dump = lzma.decompress(shared("contract", "stack", "frs-1.2.0.sql.xz").read_bytes())
        text = re.sub(rb"^\\(un)?restrict.*\n", b"", dump, flags=re.M)
        with fed(self.server, "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", doing="load") as stream:
            stream.write(text)

    @property
    def server(self) -> Server:
        return Server(self.container, "postgres", "frs")

    def remove(self) -> None:
        self.docker("rm", "--force", self.container)
        self.docker("volume", "rm", "--force", self.volume)


@pytest.fixture(scope="module")
def upstream(docker: Docker, stack: dict[str, str]) -> Iterator[Upstream]:
    made = Upstream(
        docker, f"{stack['CF_REGISTRY']}compreface-postgres-db:{stack['CF_POSTGRES_VERSION']}"
    )
    yield made
    made.remove()


@pytest.fixture
def ours(cf: Cf, stack: dict[str, str]) -> Cf:
    cf.environment |= stack
    return cf


def digests(server: Server) -> dict[str, str]:
    with Session(server) as session:
        query = "select schemaname || '.\"' || tablename || '\"' as t from pg_tables"
        tables = [row["t"] for row in session.rows(f"{query} where schemaname = 'public'")]
        return {table: session.value(_DIGEST.format(table=table)) for table in tables}


def stored(ours: Cf, docker: Docker, instance: str) -> dict[str, str]:
    """The digests of the volume of a stopped instance."""
    image = f"{ours.environment['CF_REGISTRY']}compreface-postgres-db"
    image += f":{ours.environment['CF_POSTGRES_VERSION']}"
    with postgres.at_rest(f"cf-{instance}_postgres-data", image) as server:
        return digests(server)


def processes(docker: Docker, container: str) -> str:
    return docker("top", container, "-eo", "pid,args")


def test_a_backup_is_of_one_moment_while_faces_are_added(
    docker: Docker, ours: Cf, instance: str, upstream: Upstream
) -> None:
    """Each transaction adds a subject with its face, so no backup may have more of either."""
    ended = threading.Event()

    def add() -> None:
        with Session(upstream.server) as session:
            while not ended.is_set():
                session.execute(_ADD)

    writer = threading.Thread(target=add)
    writer.start()
    try:
        made = json.loads(ours.ok("data", "backup", upstream.volume, "--json"))
        piped = ours.here / "piped.cfbackup"
        with piped.open("wb") as stream:
            code = subprocess.run(
                ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *ours.command("data", "backup"),
                 upstream.volume, "-o", "-"],
                stdout=stream, env=ours._environment(), cwd=ours.here, check=False,
            ).returncode  # fmt: skip
        assert code == 0
    finally:
        ended.set()
        writer.join()
    path = Path(made["path"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    for backup in (path, piped):
        rows = json.loads(ours.ok("data", "restore", str(backup), "--dry-run", "--json"))
        tables = rows["manifest"]["tables"]
        assert tables["public.embedding"] - tables["public.subject"] == 29 - 23
        assert rows["manifest"]["calculators"]["facenet.Calculator"] > 9
    text = ours.ok("data", "restore", str(path), "--instance", instance)
    assert_named(text, f"cf up facenet --instance {instance}")
    restored = stored(ours, docker, instance)
    seen = json.loads(ours.ok("status", instance, "--json"))["instances"][0]
    assert seen["state"] == "stopped"
    # What was not changed is the same; a restored instance can be backed up as it stands.
    before = digests(upstream.server)
    for table in ('public."img"', 'public."model"', 'public."user"', 'public."app"'):
        assert restored[table] == before[table]
    again = json.loads(ours.ok("data", "backup", instance, "--json"))
    assert again["manifest"]["tables"] == made["manifest"]["tables"]
    assert again["manifest"]["instance"] == instance
    refused = ours.run("data", "restore", again["path"])
    assert refused.returncode == 4
    assert_named(refused.stderr, f"'{instance}'", "--instance")


def test_whatever_ends_a_backup_ends_pg_dump_and_leaves_the_database_alone(
    docker: Docker, ours: Cf, upstream: Upstream, tmp_path: Path
) -> None:
    with Session(upstream.server) as session:
        session.execute(_HEAVY)
        folder = tmp_path / "backups"
        folder.mkdir()
        for number, code in ((signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 130)):
            child = subprocess.Popen(
                ours.command("data", "backup", upstream.volume, "-o", "-"),
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=ours._environment(), cwd=ours.here,
            )  # fmt: skip
            assert child.stdout is not None
            child.stdout.read(1 << 20)
            wait_until(lambda: "pg_dump" in processes(docker, upstream.container))
            child.send_signal(number)
            assert child.wait(30) == code
            child.stdout.close()
            wait_until(lambda: "pg_dump" not in processes(docker, upstream.container), 10)
            # A session that was open all the time still is: the server has not restarted.
            assert session.value("select 7") == 7
        assert "terminated by signal" not in docker("logs", upstream.container)
        reader = subprocess.run(
            ["bash", "-c", 'set -o pipefail; "$@" 2>/dev/null | head -c 1000 >/dev/null', "sh",
             *ours.command("data", "backup", upstream.volume, "-o", "-")],
            env=ours._environment(), cwd=ours.here, check=False,
        )  # fmt: skip
        assert reader.returncode == 1
        left = folder / ".x.cfbackup.999999.cf-part"
        left.touch()
        ours.ok("data", "backup", upstream.volume, "-o", str(folder), "--keep", "1")
        assert [path.suffix for path in folder.iterdir()] == [".cfbackup"]


@pytest.fixture(scope="module")
def backup(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the database as it is."""
    cf = Cf(tmp_path_factory.mktemp("backup"))
    path = cf.here / "faces.cfbackup"
    cf.ok("data", "backup", upstream.volume, "-o", str(path))
    return path


def things(docker: Docker, instance: str) -> list[str]:
    rest = docker("ps", "--all", "--format={{.Names}}", "--filter=name=cf-at-rest")
    return [*docker.things_of(f"cf-{instance}"), *rest.split()]


def test_a_broken_backup_changes_nothing(
    docker: Docker, ours: Cf, instance: str, backup: Path
) -> None:
    raw = backup.read_bytes()
    broken = ours.here / "broken.cfbackup"
    command = ("data", "restore", str(broken), "--instance", instance)
    damaged = bytearray(raw)
    damaged[len(raw) // 3] ^= 1
    for content in (raw[:-1], raw[: len(raw) // 2], bytes(damaged), b""):
        broken.write_bytes(content)
        assert ours.run(*command).returncode == 5
        piped = subprocess.run(
            ours.command("data", "restore", "-", "--instance", instance, "--json"),
            input=content, capture_output=True, env=ours._environment(), cwd=ours.here, check=False,
        )  # fmt: skip
        assert piped.returncode == 5
        assert json.loads(piped.stdout)["error"]["exit_code"] == 5
    assert things(docker, instance) == []
    assert ours.run("status", instance).returncode == 3
    assert list((ours.data / "backups").iterdir()) == []  # no stream is kept


def test_rows_that_are_not_those_of_the_manifest_undo_the_restore(
    docker: Docker, ours: Cf, instance: str, backup: Path
) -> None:
    """An archive whose checksums are right, and whose dump has another number of rows."""
    from compreface_cli.data.archive import Reader, Writer

    with backup.open("rb") as stream:
        reader = Reader(stream)
        manifest = json.loads(reader.manifest)
        manifest["tables"]["public.embedding"] += 1
        dump = b"".join(reader.dump())
    import io

    text = json.dumps(manifest).encode()
    false = ours.here / "false.cfbackup"
    false.write_bytes(b"".join(Writer(text, None, io.BytesIO(dump)).pieces()))
    done = ours.run("data", "restore", str(false), "--instance", instance)
    assert done.returncode == 1
    assert_named(done.stderr, "public.embedding")
    noise = ours.here / "noise.cfbackup"
    noise.write_bytes(b"".join(Writer(text, None, io.BytesIO(os.urandom(99_999))).pieces()))
    assert ours.run("data", "restore", str(noise), "--instance", instance).returncode == 1
    half = ours.here / "half.cfbackup"
    half.write_bytes(b"".join(Writer(text, None, io.BytesIO(dump[: len(dump) // 2])).pieces()))
    assert ours.run("data", "restore", str(half), "--instance", instance).returncode == 1
    assert things(docker, instance) == []
    assert not ours.project(instance).exists()


def test_a_restore_that_is_killed_is_named_and_done_again(
    docker: Docker, ours: Cf, instance: str, backup: Path, upstream: Upstream, tmp_path: Path
) -> None:
    command = ("data", "restore", str(backup), "--instance", instance)
    for wait in ("volume", "restoring"):  # what the first leaves, the second removes
        with (tmp_path / "said").open("w+") as said:
            child = ours.start(*command, output=said)
            if wait == "volume":
                wait_until(lambda: bool(docker.things_of(f"cf-{instance}")))
            else:
                wait_until(lambda: "restoring" in (tmp_path / "said").read_text())
            # It must not end before it is killed. Another one at the same time is refused by name.
            child.send_signal(signal.SIGSTOP)
            second = ours.run(*command, "--json")
            assert json.loads(second.stdout)["error"]["details"]["instance"] == instance
            assert second.returncode == 4
            child.send_signal(signal.SIGKILL)
            child.wait()
        wait_until(lambda: "at-rest" not in " ".join(things(docker, instance)), 60)
        seen = json.loads(ours.run("status", instance, "--json").stdout)["instances"][0]
        assert seen["state"] == "interrupted"
        assert_named(seen["detail"], f"cf data restore {backup} --instance {instance}")
    ours.ok("down", instance)
    assert things(docker, instance) == []
    interrupted = ours.interrupted(*command, when=lambda line: "restoring" in line)
    assert interrupted[0] == 130
    assert things(docker, instance) == []
    ours.ok(*command)
    assert stored(ours, docker, instance) == digests(upstream.server)


def test_a_newer_dump_is_refused_before_anything_is_made(
    docker: Docker, ours: Cf, instance: str, backup: Path, stack: dict[str, str]
) -> None:
    older = docker.own_name("older")  # under a name that is looked for by no other test
    text = f"FROM {stack['CF_REGISTRY']}compreface-postgres-db:{stack['CF_POSTGRES_VERSION']}\n"
    text += "RUN printf '#!/bin/sh\\necho \"postgres (PostgreSQL) 11.5\"\\n'"
    text += " > /usr/lib/postgresql/15/bin/postgres\n"
    folder = ours.here / "older"
    folder.mkdir()
    (folder / "Dockerfile").write_text(text)
    docker.build(folder, older)
    ours.environment["CF_POSTGRES_IMAGE"] = older
    done = ours.run("data", "restore", str(backup), "--instance", instance, "--json")
    assert done.returncode == 5
    assert json.loads(done.stdout)["error"]["details"] == {"backup": 15, "image": 11}
    assert things(docker, instance) == []


def test_a_restored_instance_recognises(
    docker: Docker, ours: Cf, instance: str, embedded: dict[str, Any]
) -> None:
    ports = ("--port", str(free_port()), "--core-port", str(free_port()))
    ours.environment["CF_MAX_FILE_SIZE"] = "7M"
    ours.ok("up", "embedded", "--launcher", "compose", "--instance", instance, *ports)
    ui = f"http://127.0.0.1:{ports[1]}"
    key = sign_up(ui)["RECOGNITION"]
    api = f"{ui}/api/v1/recognition"
    added = post_photograph(f"{api}/faces?subject=Grace", PORTRAITS / "grace_hopper.jpg", key=key)
    assert added[0] == 201, added
    words = ours.here / "words"
    words.write_text("a long passphrase\n")
    made = json.loads(ours.ok("data", "backup", instance, "--passphrase-file", "words", "--json"))
    assert made["manifest"]["settings"]["max_file_size"] == "7M"
    raw = Path(made["path"]).read_bytes()
    secrets = [(ours.project(instance) / ".env").read_text().split("POSTGRES_PASSWORD=")[1][:30]]
    assert not any(secret.encode() in raw for secret in [*secrets, key, "Grace"])
    ours.ok("down", instance)
    other = f"{instance}-2"
    ours.instances.append(other)
    del ours.environment["CF_MAX_FILE_SIZE"]
    ours.environment |= {"CF_PORT": ports[1], "CF_CORE_PORT": ports[3]}
    done = json.loads(
        ours.ok("data", "restore", made["path"], "--passphrase-file", "words",
                "--instance", other, "--up", "--json", timeout_s=400)
    )  # fmt: skip
    assert done["change"] == "started"
    assert "CF_MAX_FILE_SIZE=7M" in done["differing_settings"]
    assert get(f"{api}/subjects", key=key) == (200, {"subjects": ["Grace"]})
    status, answer = post_photograph(f"{api}/recognize", PORTRAITS / "grace_hopper.jpg", key=key)
    assert status == 200
    assert answer["result"][0]["subjects"][0]["subject"] == "Grace"
    assert answer["result"][0]["subjects"][0]["similarity"] > 0.99
