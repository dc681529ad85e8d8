"""The database is looked at before the services start: a cut-off start, a password, a lock."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compreface_cli.errors import ConflictError, DataRefusedError, UnhealthyError
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers.compose import ComposeLauncher
from tests.cli.names import assert_named
from tests.e2e.machine import REGISTRY, TAG, Docker, wait_until

IMAGE = f"{REGISTRY}compreface-postgres-db:{TAG}"
RIGHT = "right"  # the password that the volumes are made with
BASE = "python:3.11-slim-bookworm"
CALCULATOR = "embedded.Calculator@mobilefacenet192"
INITDB = (
    "initdb -U postgres --auth-host=scram-sha-256 --auth-local=trust -E UTF8 --no-instructions"
    " --pwfile=/tmp/pw"
)
OPEN = 'echo "host all all all scram-sha-256" >> $PGDATA/pg_hba.conf'
SERVE = "pg_ctl -o \"-c listen_addresses=''\" -w start"
TABLES = (
    "create table app (id bigint, name text); create table model (id bigint, name text, api_key"
    " varchar(36), app_id bigint); create table subject (id bigint, api_key varchar(36)); create"
    " table img (id bigint primary key); create table embedding (id bigint, subject_id bigint,"
    " calculator varchar(255), img_id bigint references img (id));"
    " insert into app values (1, 'Front door'); insert into model values (7, 'People', 'k', 1);"
    " insert into subject values (1, 'k');"
)


@dataclass
class Alone:
    """An instance of which only the database is started."""

    docker: Docker
    instance: str
    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def volume(self) -> str:
        return f"cf-{self.instance}_postgres-data"

    @property
    def container(self) -> str:
        return f"cf-{self.instance}-compreface-postgres-db-1"

    def deployment(self) -> Deployment:
        data = {
            "project": f"cf-{self.instance}",
            "folder": str(self.folder),
            "services": ["compreface-postgres-db"],
            "volume": self.volume,
            "database": {"user": "postgres", "name": "frs"},
            "calculator": [CALCULATOR],
        }
        return Deployment("compose", self.instance, Endpoint("127.0.0.1", 3000), data=data)

    def start(self, password: str = RIGHT) -> None:
        health = ["CMD", "pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "frs"]
        database = {
            "image": IMAGE,
            "restart": "unless-stopped",
            "environment": {
                "POSTGRES_USER": "postgres",
                "POSTGRES_PASSWORD": password,
                "POSTGRES_DB": "frs",
            },
            "volumes": ["postgres-data:/var/lib/postgresql/data"],
            "healthcheck": {"test": health, "start_period": "60s", "start_interval": "500ms"},
        }
        project = {
            "name": f"cf-{self.instance}",
            "services": {"compreface-postgres-db": database},
            "volumes": {"postgres-data": {"name": self.volume}},
        }
        (self.folder / "compose.yaml").write_text(json.dumps(project))
        self.said.clear()
        ComposeLauncher().start(self.deployment(), self.said.append)

    def stop(self) -> None:
        ComposeLauncher().stop(self.deployment())

    def sql(self, text: str, database: str = "frs") -> str:
        psql = ("psql", "-X", "-A", "-t", "-q", "-U", "postgres", "-d", database, "-c", text)
        return self.docker("exec", self.container, *psql)

    def filled(self, script: str) -> None:
        """A volume of this instance that the script has filled, as the database's own user."""
        labels = (f"cf-{self.instance}", "postgres-data")
        keys = ("com.docker.compose.project", "com.docker.compose.volume")
        given = [f"--label={key}={value}" for key, value in zip(keys, labels, strict=True)]
        self.docker("volume", "create", *given, self.volume)
        shell = f"set -e; echo right > /tmp/pw; {script}"
        mounted = f"--volume={self.volume}:/var/lib/postgresql/data"
        self.docker(
            *("run", "--rm", "--user=postgres", mounted, "--entrypoint=sh", IMAGE, "-c", shell)
        )

    def made(self) -> str:
        return str(self.docker.inspect(self.volume)["CreatedAt"])

    def digest(self) -> str:
        mounted = f"--volume={self.volume}:/data:ro"
        command = "cd /data && find . -type f -exec sha256sum {} + | sort | sha256sum"
        return self.docker("run", "--rm", mounted, BASE, "sh", "-c", command)


@pytest.fixture
def alone(docker: Docker, stack: dict[str, str], instance: str, tmp_path: Path) -> Alone:
    folder = tmp_path / "project"
    folder.mkdir()
    return Alone(docker, instance, folder)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("mkdir -p $PGDATA/base/1 $PGDATA/global; touch $PGDATA/base/1/112", "its files"),
        (f"{INITDB}; rm -r $PGDATA/base/5 $PGDATA/global/pg_control", "other containers"),
        (INITDB, "other containers"),
        (f"{INITDB}; {OPEN}", "no database"),
        (f"{INITDB}; {OPEN}; {SERVE}; pg_ctl -m immediate stop", "no database"),
    ],
    ids=["initdb", "initdb-later", "before-the-hosts-line", "no-server-yet", "no-database"],
)
def test_a_first_start_that_was_cut_off_is_begun_anew(
    alone: Alone, script: str, reason: str
) -> None:
    alone.filled(script)
    alone.start()
    assert alone.sql("select 1") == "1"
    (said,) = [line for line in alone.said if "interrupted" in line]
    assert reason in said
    assert alone.volume in said
    labels = alone.docker.inspect(alone.volume)["Labels"]
    assert labels["com.docker.compose.project"] == f"cf-{alone.instance}"


def test_a_first_start_cut_off_in_the_init_scripts_goes_on(alone: Alone) -> None:
    """What they make, admin's first change set makes too."""
    alone.filled(f"{INITDB}; {OPEN}; {SERVE}; createdb -U postgres frs; pg_ctl -m immediate stop")
    made = alone.made()
    alone.start()
    assert alone.sql("select 1") == "1"
    assert alone.made() == made


def test_a_database_with_a_table_is_never_begun_anew(alone: Alone) -> None:
    """Restored by hand: no line for all hosts, no database of the name, yet somebody's rows."""
    alone.filled(
        f"{INITDB}; {SERVE}; psql -U postgres -c 'create table kept as select 42 as n';"
        " pg_ctl -m fast stop"
    )
    made = alone.made()
    with pytest.raises(ConflictError, match=r"pg_hba\.conf"):
        alone.start()
    assert alone.sql("select n from kept", "postgres") == "42"
    assert alone.made() == made


def test_a_volume_of_another_layout_is_never_begun_anew(alone: Alone) -> None:
    alone.filled("mkdir $PGDATA/15; echo mine > $PGDATA/15/PG_VERSION")
    made, digest = alone.made(), alone.digest()
    with pytest.raises(UnhealthyError) as failed:
        alone.start()
    assert "exists but is not empty" in str(failed.value)  # the service's own last lines
    alone.stop()
    assert (alone.made(), alone.digest()) == (made, digest)


def test_another_password_is_named_and_the_volume_stays(alone: Alone) -> None:
    alone.start("right")
    alone.sql("create table kept as select 42 as n")
    alone.stop()
    made = alone.made()
    with pytest.raises(ConflictError) as refused:
        alone.start("wrong")
    assert_named(refused.value.hint, "CF_POSTGRES_PASSWORD")
    assert "docker volume rm" not in str(refused.value.hint)
    alone.stop()
    alone.start("right")
    assert alone.sql("select n from kept") == "42"
    assert alone.made() == made


def locked(holder: str) -> str:
    return (
        "create table if not exists databasechangeloglock (id int, locked boolean,"
        " lockgranted"
        " timestamp, lockedby varchar(255)); delete from databasechangeloglock; insert into"
        f" databasechangeloglock values (1, true, now(), '{holder}')"
    )


def test_a_lock_whose_holder_is_gone_is_freed_and_said(alone: Alone) -> None:
    alone.start()
    alone.sql(locked("0123456789ab (172.18.0.9)"))
    alone.start()
    assert "0123456789ab" in "".join(alone.said)
    state = "select locked, lockedby is null, lockgranted is null from databasechangeloglock"
    assert alone.sql(state) == "f|t|t"
    alone.sql(locked("some-host.example (10.1.2.3)"))
    alone.start()  # nobody else is connected, wherever that host is
    assert alone.sql(state) == "f|t|t"


def test_a_lock_whose_holder_lives_is_waited_for(alone: Alone) -> None:
    alone.start()
    holder = f"cf-{alone.instance}-holder"
    network = f"--network=cf-{alone.instance}_default"
    sleeps = "psql -h compreface-postgres-db -U postgres -d frs -c 'select pg_sleep(60)'"
    alone.docker(
        *("run", "-d", f"--name={holder}", network, "--env=PGPASSWORD=right"),
        *("--env=PGAPPNAME=PostgreSQL JDBC Driver", "--entrypoint=sh", IMAGE, "-c", sleeps),
    )
    sessions = "select count(*) from pg_stat_activity where application_name like '%JDBC%'"
    wait_until(lambda: alone.sql(sessions) == "1")
    identity = alone.docker.inspect(holder)["Id"][:12]
    alone.sql(locked(f"{identity} (172.18.0.9)"))
    with subprocess.Popen(["sh", "-c", f"sleep 6; docker rm -f {holder}"]) as ends:
        alone.start()
        ends.wait()
    assert "".join(alone.said).count(identity) == 2  # waited for, then freed
    assert alone.sql("select locked from databasechangeloglock") == "f"


def test_faces_of_another_calculator_are_refused_and_mixed_ones_named_with_the_way_back(
    alone: Alone,
) -> None:
    alone.start()
    alone.sql(TABLES)
    alone.sql("insert into img values (1), (2), (3)")
    alone.sql("insert into embedding values (1, 1, 'facenet.Calculator', 1)")
    with pytest.raises(DataRefusedError) as refused:
        alone.start()
    assert_named(refused.value.message, "1 face of facenet.Calculator", "People", "Front door")

    ours = f"insert into embedding values (2, 1, '{CALCULATOR}', 2)"
    alone.sql(ours)
    alone.start()
    said = "\n".join(alone.said)
    assert_named(said, "People", f"1 face of {CALCULATOR}", "1 face of facenet.Calculator")
    assert_named(said, f"cf data repair {alone.instance}")
