"""Every command of `cf` against every secret: no output, log, file, archive or argument has one.

A stack is started with secrets that are known, every command of the command line runs, and then
all that is left of that is searched. A new command needs a line in `LINES`.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import stat
import tarfile
import threading
import urllib.parse
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import typer

from compreface_cli.app import make_app
from compreface_cli.project.writer import read_env
from tests.cli.certificates import pair
from tests.e2e.machine import PORTRAITS, Cf, Docker, free_port

REGISTRY_HOST = "registry.invalid:5000"
DATABASE, MAIL = "Zq7+vK/9xW=database-0001", "Zq7+vK/9xW=mail-0002"
INSTALL = "Zq7+vK/9xW=install-0003"
KEYS = ("Zq7+vK/9xW=api-key-0004", "Zq7+vK/9xW=api-key-0005")
PASSPHRASE = "Zq7+vK/9xW=passphrase-0007"
REGISTRY_PASSWORD = "Zq7+vK/9xW=registry-0006"
GIVEN = {"CF_POSTGRES_PASSWORD": DATABASE, "CF_EMAIL_PASSWORD": MAIL}
WITH_KEYS = {"CF_API_KEYS_FILE": "keys.txt"}
ELSEWHERE = {
    "CF_DATABASE_URL": f"postgresql://faces:{urllib.parse.quote(DATABASE, safe='')}"
    "@db.invalid/frs?sslmode=require"
}

# Command lines in the order in which they run, each with what is set for it alone. {name}: the full
# stack, {core}: an engine alone that requires API keys. All may fail: errors are searched, too.
LINES: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("up embedded --instance {name} {ports} --tls ui.crt ui.key --dry-run", GIVEN),
    ("up embedded --instance {name} {ports} --tls ui.crt ui.key --json", GIVEN),
    ("up embedded --instance {core} --services core --port {port} --json", WITH_KEYS),
    ("up --image {registry}/faces:1 --instance nothing", GIVEN),
    ("up embedded --instance elsewhere --dry-run --json", ELSEWHERE),
    ("up embedded --instance elsewhere --debug", ELSEWHERE),
    ("up embedded --instance {name} {ports} --bind 1.2.3.4 --debug", GIVEN),
    ("list-builds", GIVEN),
    ("list-builds --long --json", GIVEN),
    ("show embedded", GIVEN),
    ("show embedded --resolved --json", GIVEN | WITH_KEYS),
    ("validate keys.txt --json", {}),
    ("build embedded --base-image {registry}/base:1 --pull", GIVEN),
    ("export embedded -o embedded.cfbuild", GIVEN),
    ("import embedded.cfbuild --name imported --yes", GIVEN),
    ("import https://{registry}/embedded.cfbuild", GIVEN),
    ("render embedded -o rendered --instance rendered --tls ui.crt ui.key", GIVEN),
    ("render embedded -o other --services core --json", WITH_KEYS),
    ("render embedded -o elsewhere --instance elsewhere", ELSEWHERE),
    ("render embedded -o charted --instance charted --target helm --json", GIVEN),
    ("render embedded -o planned --target kubernetes --tls ui.crt ui.key", GIVEN),
    ("render embedded -o keyed --services core --target helm", WITH_KEYS),
    ("adopt install --dry-run", {}),
    ("adopt install --yes --json --debug", {}),
    ("release {name} --dry-run", {}),
    ("status", {}),
    ("status {name} --json", {}),
    ("logs {name} --tail 500", {}),
    ("logs {name} --tail 500 --explain --json", {}),
    ("logs {core} --json", {}),
    ("scan {photo} --instance {core} --json", {}),
    ("scan {photo} --url http://127.0.0.1:{port}", WITH_KEYS),
    ("scan {photo} --url http://127.0.0.1:{port}", {"CF_API_KEYS": "a-wrong-key-of-a-user"}),
    ("compare {photo} {photo} --instance {core}", {}),
    ("demo --instance {core}", {}),
    ("doctor", GIVEN | WITH_KEYS),
    ("doctor --json", GIVEN),
    ("explain", {}),
    ("explain tls-files --json", {}),
    ("models list --all --json", {}),
    ("models pull mobilenet --accept-licence all", {"CF_REGISTRY_MIRROR": "{registry}"}),
    ("models verify", {}),
    ("models prune --dry-run", {}),
    ("models path mnet25_retrained", {}),
    ("config path --json", GIVEN),
    ("config list", GIVEN | WITH_KEYS),
    ("config list --json", ELSEWHERE),
    ("config list --json", GIVEN | WITH_KEYS),
    ("data list --json", {}),
    ("data backup {name} -o stack.cfbackup --json", {}),
    ("data backup {name} -o locked.cfbackup --passphrase-file phrase.txt", {}),
    ("data backup {name} --keep 3 --passphrase-file phrase.txt --schedule cron", {}),
    ("data restore locked.cfbackup --instance {name}-l --passphrase-file phrase.txt --dry-run", {}),
    ("data restore locked.cfbackup --instance {name}-l --passphrase-file keys.txt --json", {}),
    ("data restore stack.cfbackup --instance {name}-too --json", GIVEN),
    ("data migrate {name} --to mnet25-mobilefacenet --dry-run", GIVEN),
    ("data repair {name} --dry-run", {}),
    ("data clean {name} --dry-run --json", {}),
    ("data delete {name} --dry-run", {}),
    ("secrets list {name}", {}),
    ("secrets list {core} --json", {}),
    ("secrets rotate {name}", GIVEN),
    ("secrets rotate {name} --dry-run --json", {}),
    ("secrets rotate {name} --debug", {}),
    ("support {name} -o support.tar.gz", GIVEN),
    ("support {core} -o core.tar.gz --json", WITH_KEYS),
    ("upgrade {name} --dry-run --json", GIVEN),
    ("rollback {name} --dry-run", {}),
    ("restart {core} --json", {}),
    ("restart {name} --all", {}),
    ("prune --dry-run --json", {}),
    ("down {name} --json", {}),
    ("rm --instance {core} --dry-run", {}),
    ("down {core} --volumes --dry-run", {}),
)
# Without these nothing is proven.
MUST_WORK = (
    "--tls ui.crt ui.key --json",
    "--services core --port {port} --json",
    "render embedded",
    "logs {name}",
    "scan {photo} --instance {core} --json",
    "data backup {name}",
    "support {name}",
    "rotate {name} --debug",
    "restart {name} --all",
)
# What may have a secret, and why.
TOLD = {"compreface-postgres-db", "compreface-admin", "compreface-api"}  # by their environment
FILES = {
    ".env": "where Compose reads passwords from",
    "secrets.yaml": "what a cluster gets",
    "key.pem": "the UI's server reads it",
    "ui.key": "the user's own",
    "keys.txt": "the user's own",
    "phrase.txt": "the user's own",
    "docker-compose.yml": "the user's own, of CompreFace",
    "config.json": "the user's own, of docker login",
}


class Arguments(threading.Thread):
    """Collects the arguments of all processes of this machine until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.03):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue


def leaves(command: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """The commands that do something: `data list`, not `data`."""
    if not hasattr(command, "commands"):
        yield " ".join(words)
        return
    for name, each in command.commands.items():
        yield from leaves(each, (*words, name))


def test_every_command_has_a_line() -> None:
    commands = set(leaves(typer.main.get_command(make_app())))
    words = [line.split() for line, _ in LINES]
    covered = {word[0] for word in words} | {" ".join(word[:2]) for word in words}
    assert commands - covered == set(), "add a line to LINES for each of these"


def forms(secret: str) -> set[bytes]:
    """How a secret may be written."""
    plain = secret.encode()
    found = {plain, urllib.parse.quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for shift in range(3):  # as a part of something longer
        coded = base64.b64encode(b"x" * shift + plain)
        found.add(coded[4 if shift else 0 : -4])
    return found


def contents(data: bytes, depth: int = 3) -> Iterator[bytes]:
    """The bytes, and those of every file in them if they are an archive."""
    yield data
    if not depth:
        return
    if data[:2] == b"\x1f\x8b":
        yield from contents(gzip.decompress(data), depth - 1)
    elif zipfile.is_zipfile(BytesIO(data)):
        with zipfile.ZipFile(BytesIO(data)) as archive:
            for name in archive.namelist():
                yield from contents(archive.read(name), depth - 1)
    elif tarfile.is_tarfile(BytesIO(data)):
        with tarfile.open(fileobj=BytesIO(data)) as members:
            for member in members:
                if (file := members.extractfile(member)) is not None:
                    yield from contents(file.read(), depth - 1)


@pytest.fixture
def prepared(cf: Cf, stack: Mapping[str, str], tmp_path: Path) -> Cf:
    """The user's files, and `docker login` at a registry."""
    cf.environment |= stack
    pair(cf.here)
    (cf.here / "keys.txt").write_text("\n".join(KEYS) + "\n")
    (cf.here / "keys.txt").chmod(0o600)
    (cf.here / "phrase.txt").write_text(PASSPHRASE + "\n")
    (cf.here / "phrase.txt").chmod(0o600)
    install = cf.here / "install"
    install.mkdir()
    (install / ".env").write_text(f"postgres_password={INSTALL}\nregistry=exadel/\n")
    (install / ".env").chmod(0o600)
    (install / "docker-compose.yml").write_text(
        "services:\n  compreface-core:\n    image: exadel/compreface-core:1.2.0\n"
        "  compreface-postgres-db:\n    image: exadel/compreface-postgres-db:1.2.0\n"
        f"    environment: [POSTGRES_PASSWORD={INSTALL}]\n"
    )
    (install / "docker-compose.yml").chmod(0o600)
    docker_config = tmp_path / "docker"
    docker_config.mkdir(mode=0o700)
    plugins = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker")) / "cli-plugins"
    if plugins.is_dir():
        (docker_config / "cli-plugins").symlink_to(plugins)
    login = base64.b64encode(f"somebody:{REGISTRY_PASSWORD}".encode()).decode()
    file = docker_config / "config.json"
    file.write_text(json.dumps({"auths": {REGISTRY_HOST: {"auth": login}}}))
    file.chmod(0o600)
    (tmp_path / "tmp").mkdir()
    cf.environment |= {"DOCKER_CONFIG": str(docker_config), "TMPDIR": str(tmp_path / "tmp")}
    return cf


def test_no_output_log_file_archive_or_argument_has_a_secret(
    docker: Docker, prepared: Cf, instance: str, embedded: dict[str, Any], tmp_path: Path
) -> None:
    cf, core = prepared, f"e2e-{uuid.uuid4().hex[:8]}"
    cf.instances += [core, f"{instance}-too"]
    values = {
        "name": instance,
        "core": core,
        "port": str(free_port()),
        "ports": f"--port {free_port()} --core-port {free_port()} --launcher compose",
        "photo": str(PORTRAITS / "grace_hopper.jpg"),
        "registry": REGISTRY_HOST,
    }
    lasting, passwords, told = dict(cf.environment), set(), {}
    arguments = Arguments()
    arguments.start()
    for number, (line, more) in enumerate(LINES):
        environment = {key: value.format(**values) for key, value in more.items()}
        cf.environment = {**lasting, **environment}
        words = line.format(**values).split()
        if "--debug" in words:
            words = ["--debug", *(word for word in words if word != "--debug")]
        done = cf.run(*words, timeout_s=400)
        told[f"{number}: {line}: exit code {done.returncode}"] = done.stdout + done.stderr
        passwords.add(read_env(cf.project(instance) / ".env").get("POSTGRES_PASSWORD", DATABASE))
        if line.startswith(("data delete", "restart {name}")):
            _search_docker(docker, told)
    arguments.ended.set()
    arguments.join()
    assert len(passwords) == 2  # the first one, and the one of the rotation
    for path in tmp_path.rglob(".env"):
        passwords |= {value for name, value in read_env(path).items() if "PASSWORD" in name.upper()}
    failed = {name: text for name, text in told.items() if ": exit code " in name}
    failed = {name: text for name, text in failed.items() if not name.endswith("exit code 0")}
    assert len(failed) < len(LINES) / 2, sorted(failed)
    for line in MUST_WORK:
        assert not (broken := [name for name in failed if line in name]), failed[broken[0]]

    key = (cf.here / "ui.key").read_text().splitlines()[1]
    users_own = {DATABASE, MAIL, INSTALL, *KEYS, REGISTRY_PASSWORD, PASSPHRASE, key}
    secrets = users_own | passwords - {""}
    shapes = [(secret, form) for secret in secrets for form in forms(secret)]

    def assert_free(where: str, data: bytes) -> None:
        for piece in contents(data):
            for secret, form in shapes:
                assert form not in piece, f"{where} has {secret} as {form.decode()}"

    for name, text in told.items():
        assert_free(name, text.encode())
    for words_ in arguments.seen:
        assert_free(f"the arguments {words_[:300]!r}", words_)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(path.suffix == ".cfbackup" for path in files)
    for path in files:
        if path.name in FILES:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        elif path.stat().st_size < 64 << 20:
            assert_free(str(path), path.read_bytes())


def _search_docker(docker: Docker, told: dict[str, str]) -> None:
    """Add what Docker knows of the containers of `cf`: logs, settings, the images' history."""
    for name in docker("ps", "--all", "--format={{.Names}}", "--filter=name=cf-e2e-").split():
        row = docker.inspect(name)
        told[f"log of {name}"] = docker("logs", name)
        service = row["Config"]["Labels"].get("com.docker.compose.service", "")
        if service in TOLD:
            row["Config"]["Env"] = []
        told[f"inspect of {name}"] = json.dumps(row)
        told[f"history of {name}"] = docker("history", "--no-trunc", row["Image"])
