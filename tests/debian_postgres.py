"""Debian's PostgreSQL 15 as a server elsewhere, with TLS by an authority of the test's own."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from compreface_cli.facts.database_elsewhere import Target
from tests.cli.certificates import openssl

BIN = Path("/usr/lib/postgresql/15/bin")
SUPERUSER, ADMIN_PASSWORD = "postgres", "password-of-the-superuser"
USER, PASSWORD = "faces", "Zq7+vK/9xW=elsewhere-0001"
NAME = "frs"
_SETTINGS = """
listen_addresses = '*'
port = {port}
unix_socket_directories = '{folder}'
ssl = on
ssl_cert_file = '{folder}/server.pem'
ssl_key_file = '{folder}/server.key'
fsync = off
max_connections = 40
"""


@dataclass(frozen=True)
class Server:
    folder: Path
    host: str
    port: int

    @property
    def authority(self) -> Path:
        return self.folder / "authority.pem"

    def target(self, **changes: object) -> Target:
        wanted = {
            "host": self.host,
            "port": self.port,
            "user": USER,
            "name": NAME,
            "sslmode": "verify-full",
            "sslrootcert": str(self.authority),
            "password": PASSWORD,
        }
        return Target(**{**wanted, **changes})  # type: ignore[arg-type]

    def url(self, password: str, name: str = NAME) -> str:
        """Its address; `password`: percent-encoded, with its colon, or ""."""
        return (
            f"postgresql://{USER}{password}@{self.host}:{self.port}/{name}"
            f"?sslmode=verify-full&sslrootcert={self.authority}"
        )

    def sql(self, statement: str, name: str = NAME) -> str:
        """What psql prints for it, as the superuser, over the server's socket."""
        environment = {**os.environ, "PGPASSWORD": ADMIN_PASSWORD}
        words = ["psql", "-XAtq", "-h", str(self.folder), "-p", str(self.port), "-U", SUPERUSER]
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:], "-d", name, "-v", "ON_ERROR_STOP=1", "-c", statement],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def certificate(self, names: str, *, expired: bool = False) -> None:
        """Give it a certificate of the authority for these names."""
        here = self.folder
        extension = here / "extension"
        extension.write_text(f"subjectAltName={names}\n")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl(
            *("req", "-new", *key, "-keyout", str(here / "server.key"), "-subj", "/CN=db"),
            *("-out", str(here / "request")),
        )
        (here / "index").write_text("")
        (here / "ca.cnf").write_text(
            f"[ca]\ndefault_ca = a\n[a]\ndatabase = {here}/index\nnew_certs_dir = {here}\n"
            "default_md = sha256\npolicy = p\nrand_serial = yes\n[p]\ncommonName = supplied\n"
        )
        past = ("-startdate", "240101000000Z", "-enddate", "250101000000Z")
        openssl(
            *("ca", "-batch", "-config", str(here / "ca.cnf"), "-in", str(here / "request")),
            *("-cert", str(self.authority), "-keyfile", str(here / "authority.key")),
            *("-extfile", str(extension), "-out", str(here / "server.pem"), "-notext"),
            *(past if expired else ("-days", "30")),
        )
        _own(here)
        (here / "server.key").chmod(0o600)
        if (here / "data" / "postmaster.pid").exists():
            self.sql("select pg_reload_conf()", "postgres")

    def program(self, *words: str) -> None:
        """Run one of its programs, as another user than root, who may not."""
        command = [str(BIN / words[0]), *words[1:]]
        if os.geteuid() == 0:
            command = [
                "setpriv",
                "--reuid=postgres",
                "--regid=postgres",
                "--clear-groups",
                *command,
            ]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=self.folder, check=False
        )
        log = self.folder / "log"
        assert done.returncode == 0, done.stderr + (log.read_text() if log.exists() else "")


def _own(folder: Path) -> None:
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres")


def _address() -> str:
    """The address of this machine by which containers reach it; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def _port() -> int:
    """A free port that no connection takes as its own while the server is down."""
    for port in random.sample(range(20000, 30000), 50):
        with suppress(OSError), socket.create_server(("", port)):
            return port
    raise AssertionError("no port is free")


@contextmanager
def serving() -> Iterator[Server]:
    """A server with an empty database and its owner; skipped where Debian's is absent."""
    # Not in a folder of pytest's, which nobody but its own user may enter.
    with tempfile.TemporaryDirectory(prefix="cf-test-postgres-") as folder:
        Path(folder).chmod(0o711)
        with _serving(Path(folder) / "server") as server:
            yield server


@contextmanager
def _serving(folder: Path) -> Iterator[Server]:
    if not (BIN / "initdb").exists():
        pytest.skip(f"Debian's PostgreSQL 15 is absent: {BIN}")
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres, and root may not run PostgreSQL")
    folder.mkdir()
    try:
        host = _address()
    except OSError:
        pytest.skip("this machine has no address but loopback")
    port = _port()
    server = Server(folder, host, port)
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", str(folder / "authority.key"), "-out", str(server.authority)),
        *("-days", "30", "-subj", "/CN=authority of a test"),
        *("-addext", "basicConstraints=critical,CA:TRUE"),
    )
    server.certificate(f"IP:{host},DNS:db.example.org")
    (folder / "password").write_text(ADMIN_PASSWORD)
    _own(folder)
    made = ("-U", SUPERUSER, "-A", "scram-sha-256", f"--pwfile={folder / 'password'}")
    server.program("initdb", "-D", str(folder / "data"), *made, "-E", "UTF8", "--no-sync")
    with (folder / "data" / "postgresql.conf").open("a") as file:
        file.write(_SETTINGS.format(port=port, folder=folder))
    with (folder / "data" / "pg_hba.conf").open("a") as file:
        file.write("hostssl all all all scram-sha-256\n")
    server.program("pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"), "start")
    try:
        server.sql(f"create role {USER} login password '{PASSWORD}'", "postgres")
        server.sql(f"create database {NAME} owner {USER}", "postgres")
        yield server
    finally:
        server.program("pg_ctl", "-D", str(folder / "data"), "-m", "immediate", "-w", "stop")
