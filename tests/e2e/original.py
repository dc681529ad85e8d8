"""An install as upstream's own Compose files make it: a folder, fixed names, one volume."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path
from typing import Any

from tests.e2e.machine import (
    PORTRAITS,
    REGISTRY,
    TAG,
    Docker,
    free_port,
    get,
    post_photograph,
    sign_up,
    wait_until,
)

SERVICES = (
    "compreface-postgres-db",
    "compreface-admin",
    "compreface-api",
    "compreface-fe",
    "compreface-core",
)
# Laid out as upstream's file is: version 3.4, five services with names of their own, `.env` beside.
_COMPOSE = """\
version: '3.4'

volumes:
  postgres-data:

services:
  compreface-postgres-db:
    image: ${registry}compreface-postgres-db:${POSTGRES_VERSION}
    restart: always
    container_name: "compreface-postgres-db-SUFFIX"
    environment:
      - POSTGRES_USER=${postgres_username}
      - POSTGRES_PASSWORD=${postgres_password}
      - POSTGRES_DB=${postgres_db}
    volumes:
      - postgres-data:/var/lib/postgresql/data

  compreface-admin:
    image: ${registry}compreface-admin:${ADMIN_VERSION}
    restart: always
    container_name: "compreface-admin-SUFFIX"
    environment:
      - POSTGRES_USER=${postgres_username}
      - POSTGRES_PASSWORD=${postgres_password}
      - POSTGRES_URL=jdbc:postgresql://${postgres_domain}:${postgres_port}/${postgres_db}
      - SPRING_PROFILES_ACTIVE=dev
      - ENABLE_EMAIL_SERVER=${enable_email_server}
      - ADMIN_JAVA_OPTS=${compreface_admin_java_options}
      - MAX_FILE_SIZE=${max_file_size}
      - MAX_REQUEST_SIZE=${max_request_size}B
    depends_on:
      - compreface-postgres-db
      - compreface-api

  compreface-api:
    image: ${registry}compreface-api:${API_VERSION}
    restart: always
    container_name: "compreface-api-SUFFIX"
    depends_on:
      - compreface-postgres-db
    environment:
      - POSTGRES_USER=${postgres_username}
      - POSTGRES_PASSWORD=${postgres_password}
      - POSTGRES_URL=jdbc:postgresql://${postgres_domain}:${postgres_port}/${postgres_db}
      - SPRING_PROFILES_ACTIVE=dev
      - API_JAVA_OPTS=${compreface_api_java_options}
      - SAVE_IMAGES_TO_DB=${save_images_to_db}
      - MAX_FILE_SIZE=${max_file_size}
      - MAX_REQUEST_SIZE=${max_request_size}B
      - CONNECTION_TIMEOUT=${connection_timeout:-10000}
      - READ_TIMEOUT=${read_timeout:-60000}

  compreface-fe:
    image: ${registry}compreface-fe:${FE_VERSION}
    restart: always
    container_name: "compreface-ui-SUFFIX"
    ports:
      - "PORT:80"
    depends_on:
      - compreface-api
      - compreface-admin
    environment:
      - CLIENT_MAX_BODY_SIZE=${max_request_size}
      - PROXY_READ_TIMEOUT=${read_timeout:-60000}ms
      - PROXY_CONNECT_TIMEOUT=${connection_timeout:-10000}ms

  compreface-core:
    image: ${registry}compreface-core:${CORE_VERSION}
    restart: always
    container_name: "compreface-core-SUFFIX"
    environment:
      - ML_PORT=3000
      - IMG_LENGTH_LIMIT=${max_detect_size}
      - UWSGI_PROCESSES=${uwsgi_processes:-2}
      - UWSGI_THREADS=${uwsgi_threads:-1}
"""
ENV = {
    "registry": REGISTRY,
    "postgres_username": "postgres",
    "postgres_password": "secret-of-old",
    "postgres_db": "frs",
    "postgres_domain": "compreface-postgres-db",
    "postgres_port": "5432",
    "enable_email_server": "false",
    "save_images_to_db": "true",
    "compreface_api_java_options": "-Xmx3g",
    "compreface_admin_java_options": "-Xmx1g",
    "max_file_size": "5MB",
    "max_request_size": "11M",
    "max_detect_size": "600",
    "uwsgi_processes": "2",
    "uwsgi_threads": "1",
    "connection_timeout": "10000",
    "read_timeout": "50000",
    **{f"{name}_VERSION": TAG for name in ("ADMIN", "API", "FE", "POSTGRES")},
    "CORE_VERSION": f"own-{TAG}",
}


class Original:
    """The install, in a folder of its own below `parent`."""

    def __init__(self, parent: Path, docker: Docker, **env: str) -> None:
        self.docker = docker
        self.key = ""
        self.suffix = uuid.uuid4().hex[:8]
        self.project = f"face{self.suffix}"
        self.folder = parent / self.project
        self.port = free_port()
        self.ui = f"http://127.0.0.1:{self.port}"
        self.folder.mkdir(parents=True)
        text = _COMPOSE.replace("SUFFIX", self.suffix).replace("PORT:80", f"{self.port}:80")
        (self.folder / "docker-compose.yml").write_text(text)
        lines = [f"{key}={value}\n" for key, value in {**ENV, **env}.items()]
        (self.folder / ".env").write_text("".join(lines))

    @property
    def volume(self) -> str:
        return f"{self.project}_postgres-data"

    @property
    def names(self) -> list[str]:
        short = ("postgres-db", "admin", "api", "ui", "core")
        return [f"compreface-{name}-{self.suffix}" for name in short]

    @property
    def database(self) -> str:
        return f"compreface-postgres-db-{self.suffix}"

    def compose(self, *words: str) -> None:
        """Run Compose in the folder, as its user does."""
        done = subprocess.run(
            ["docker", "compose", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def up(self) -> None:
        # nginx keeps the addresses of its start, and the api ends where it meets no database.
        self.compose("up", "-d", "compreface-postgres-db")
        ready = "pg_isready -q -h 127.0.0.1 && echo ready"
        asks = ("exec", self.database, "sh", "-c", ready)
        wait_until(lambda: self.docker(*asks, check=False) == "ready")
        self.compose("up", "-d")
        self.ready()

    def ready(self) -> None:
        def answers() -> bool:
            try:
                return all(
                    get(f"{self.ui}{path}")[0] == 200
                    for path in ("/admin/status", "/api/v1/consistence/status", "/core/status")
                )
            except (OSError, ValueError):
                return False

        wait_until(answers, timeout_s=120)

    def with_faces(self) -> str:
        """Make an account and two faces; the key of the service."""
        key = sign_up(self.ui)["RECOGNITION"]
        for subject, photograph in (("Grace", "grace_hopper.jpg"), ("Eileen", "astronaut.png")):
            url = f"{self.ui}/api/v1/recognition/faces?subject={subject}"
            added = post_photograph(url, PORTRAITS / photograph, key=key)
            assert added[0] == 201, added
        return key

    def sql(self, text: str) -> str:
        inside = "exec psql -U postgres -d frs -v ON_ERROR_STOP=1 -q -A -t"
        return self.docker("exec", self.database, "sh", "-c", f'{inside} -c "$0"', text)

    def states(self) -> dict[str, tuple[str, str, str]]:
        """Container -> state, restart policy, start time."""
        found = {}
        for name in self.names:
            row: dict[str, Any] = self.docker.inspect(name)
            policy = row["HostConfig"]["RestartPolicy"]["Name"]
            found[name] = (row["State"]["Status"], policy, row["State"]["StartedAt"])
        return found

    def databases(self) -> list[str]:
        """The containers that run on the volume."""
        return self.docker(
            "ps", f"--filter=volume={self.volume}", "--format={{.Names}}", check=False
        ).split()

    def remove(self) -> None:
        self.docker("rm", "--force", *self.names, check=False)
        self.docker("network", "rm", f"{self.project}_default", check=False)
        self.docker("volume", "rm", self.volume, check=False)


def recognises(ui: str, key: str, photograph: str) -> str:
    """The subject whom the api recognises in the portrait."""
    status, found = post_photograph(
        f"{ui}/api/v1/recognition/recognize", PORTRAITS / photograph, key=key
    )
    assert status == 200, found
    best = found["result"][0]["subjects"][0]
    assert best["similarity"] > 0.98, best
    return str(best["subject"])
