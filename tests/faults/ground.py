"""What the faults of face data happen to: a stack with faces, counted row by row."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compreface_cli.docker import postgres
from compreface_cli.docker.postgres import Session
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port, post_photograph, sign_up, sql

CF_S = 600.0
FACES = 12  # of each of two people
EXTRA_IMAGES, EXTRA_BYTES = 300, 100_000  # which no face names; a backup takes some seconds
DATABASE = "compreface-postgres-db"
# Each face with all that must stay: its ids, its subject and service, its numbers, its image.
ROWS = (
    "select e.id, s.subject_name, m.id, e.calculator, md5(e.embedding::text),"
    " coalesce(md5(i.content), '-') from public.embedding e join public.subject s on"
    " s.id = e.subject_id join public.model m on m.api_key = s.api_key left join public.img i on"
    " i.id = e.img_id order by e.id"
)
IMAGES = "select count(*), coalesce(sum(length(content)), 0) from public.img"
_COPIES = f"""
do $$ declare face record; image uuid;
begin
  for face in select e.*, i.content from embedding e join img i on i.id = e.img_id loop
    for number in 2..{FACES} loop
      image := uuid_generate_v4();
      insert into img (id, content) values (image, face.content || decode(md5(image::text), 'hex'));
      insert into embedding (id, subject_id, embedding, calculator, img_id) values
        (uuid_generate_v4(), face.subject_id, face.embedding, face.calculator, image);
    end loop;
  end loop;
  insert into img (id, content) select uuid_generate_v4(), (select string_agg(
    decode(md5(number::text || piece::text), 'hex'), '') from
    generate_series(1, {EXTRA_BYTES // 16}) piece) from generate_series(1, {EXTRA_IMAGES}) number;
end $$;
"""


class Failed(Exception):
    """What a try must show and did not."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The faces of a database, each as its six columns, and number and bytes of all images."""

    faces: tuple[tuple[str, ...], ...]
    images: str

    @property
    def calculators(self) -> dict[str, set[str]]:
        """Service -> calculators of its faces."""
        found: dict[str, set[str]] = {}
        for face in self.faces:
            found.setdefault(face[2], set()).add(face[3])
        return found

    def must_be(self, before: Stored, *, recomputed: bool = False) -> None:
        """Raise Failed for a row that is lost, new, mixed or changed.

        `recomputed`: calculator and numbers of a face may be others, its id and image may not.
        """
        mixed = {key: names for key, names in self.calculators.items() if len(names) > 1}
        if mixed:
            raise Failed(f"mixed: {mixed}")

        def kept(face: tuple[str, ...]) -> tuple[str, ...]:
            return (*face[:3], face[5]) if recomputed else face

        then, now = set(map(kept, before.faces)), set(map(kept, self.faces))
        if then != now:
            raise Failed(f"{len(then - now)} rows lost or changed, {len(now - then)} new")
        if self.images != before.images:
            raise Failed(f"images: {self.images}, before {before.images}")


def stored_of(rows: str, images: str) -> Stored:
    return Stored(tuple(tuple(line.split("\t")) for line in rows.splitlines()), images)


@dataclass
class Ground:
    """An instance with real PostgreSQL, two people and images that no face names."""

    cf: Cf
    docker: Docker
    rng: random.Random
    folder: Path
    instance: str = field(default_factory=lambda: f"faults-{uuid.uuid4().hex[:6]}")
    key: str = ""
    port: int = field(default_factory=free_port)
    core_port: int = field(default_factory=free_port)

    @property
    def ui(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> str:
        return f"cf-{self.instance}-{DATABASE}-1"

    def up(self, *more: str) -> None:
        ports = ("--port", str(self.port), "--core-port", str(self.core_port))
        base = ("up", "embedded", "--launcher", "compose", "--services", "full")
        self.ok(*base, "--instance", self.instance, *ports, *more)

    def up_again(self) -> None:
        """Start it after the Docker engine has died, which starts all services at once again.

        One that came before its database may be between two starts, so a second try is allowed.
        """
        time.sleep(5)
        try:
            self.up()
        except Failed:
            self.up()

    def prepare(self) -> None:
        """Start it and fill it."""
        self.up()
        self.key = sign_up(self.ui)["RECOGNITION"]
        for subject, name in (("Grace", "grace_hopper.jpg"), ("Eileen", "astronaut.png")):
            added = f"{self.ui}/api/v1/recognition/faces?subject={subject}"
            status, answer = post_photograph(added, PORTRAITS / name, key=self.key)
            if status != 201:
                raise SystemExit(f"no face could be stored: {answer}")
        sql(self.instance, _COPIES)
        self.docker("restart", f"cf-{self.instance}-compreface-api-1")

    def stored(self) -> Stored:
        """What its running database holds; waits for one that recovers."""
        end = time.monotonic() + 60
        while True:
            try:
                return running(self.instance)
            except AssertionError:
                if time.monotonic() > end:
                    raise Failed("the database does not answer") from None
                time.sleep(0.5)

    def recognises(self) -> None:
        """Both people are recognised through the api, within its start's time."""
        end = time.monotonic() + 90
        for subject, name in (("Grace", "grace_hopper.jpg"), ("Eileen", "astronaut.png")):
            url = f"{self.ui}/api/v1/recognition/recognize"
            found: Any = None
            while True:
                try:
                    status, found = post_photograph(url, PORTRAITS / name, key=self.key)
                    if status == 200 and found["result"][0]["subjects"][0]["subject"] == subject:
                        break
                except (OSError, ValueError) as error:
                    found = error
                if time.monotonic() > end:
                    raise Failed(f"{subject} is not recognised: {found}")
                time.sleep(0.5)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return self.cf.run(*arguments, timeout_s=CF_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"cf {' '.join(arguments)}: not done after {CF_S:.0f} s") from None

    def ok(self, *arguments: str, also: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run it; Failed for an exit code that is neither 0 nor one of `also`."""
        done = self.run(*arguments)
        if done.returncode not in (0, *also):
            said = (done.stdout + done.stderr).strip()[-3000:]
            raise Failed(f"cf {' '.join(arguments)}: exit code {done.returncode}\n{said}")
        return done

    def refused(self, code: int, *arguments: str) -> dict[str, Any]:
        """Run it with --json; the error, once it ends with that exit code."""
        done = self.run(*arguments, "--json")
        if done.returncode != code:
            raise Failed(f"cf {' '.join(arguments)}: exit code {done.returncode}, not {code}")
        error: dict[str, Any] = json.loads(done.stdout)["error"]
        return error

    def nothing_at_work(self) -> None:
        """No program of `cf`'s is left in Docker a while after its end."""

        def left() -> list[str]:
            names = ("ps", "--all", "--format={{.Names}}")
            at_rest = [name for name in self.docker(*names).split() if "cf-at-rest" in name]
            query = "select count(*) from pg_stat_activity where application_name in"
            dumps = sql(self.instance, f"{query} ('pg_dump', 'psql') and pid <> pg_backend_pid()")
            return at_rest + ([f"{dumps} sessions"] if dumps != "0" else [])

        until(lambda: not left(), 30, lambda: f"this is left at work: {left()}")


def running(instance: str) -> Stored:
    """What the running database of the instance holds."""
    return stored_of(sql(instance, ROWS), sql(instance, IMAGES))


def at_rest(instance: str, image: str) -> Stored:
    """What the volume of a stopped instance holds."""
    with (
        postgres.at_rest(f"cf-{instance}_postgres-data", image) as server,
        Session(server) as session,
    ):
        rows, images = (_text(session, query) for query in (ROWS, IMAGES))
        return stored_of(rows, images)


def _text(session: Session, query: str) -> str:
    return "\n".join(line.decode().rstrip("\n") for line in session.copy_out(query))


def until(true: Callable[[], bool], limit_s: float, why: Callable[[], str]) -> None:
    end = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > end:
            raise Failed(why())
        time.sleep(0.3)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """A folder on a file system of that size; None where none can be mounted (no root)."""
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="cf-faults-disk-") as place:
        image, folder = Path(place) / "disk", Path(place) / "mounted"
        folder.mkdir()
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        mount = ["mount", "-o", "loop", str(image), str(folder)]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            yield None
            return
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
