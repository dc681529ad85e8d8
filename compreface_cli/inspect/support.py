"""`cf support`: one archive with what helps to find a fault, without secrets and without faces."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compreface_cli import __version__
from compreface_cli.child_processes import die_with
from compreface_cli.config import settings
from compreface_cli.config.settings_table import TABLE
from compreface_cli.data import backup_file
from compreface_cli.deploy import running, unfinished
from compreface_cli.errors import CfError
from compreface_cli.inspect.struck import MARK, Striker, is_secret
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment
from compreface_cli.launchers import keys
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.terminal.output import Output

SUFFIX = ".tar.gz"
_LARGEST = 2_000_000  # bytes of one file; of a longer one the end is kept
_READ = 4 * _LARGEST  # characters of a part that are looked at
_LOG_LINES = 5000
_LIMIT_S = 90.0  # for one command
_NEVER = (ENV_FILE, "keys", "secrets", "tls", "certs")  # of a project's folder
_SERVICES = ("core", "admin", "api", "fe", "postgres")


@dataclass(frozen=True, slots=True)
class Made:
    """The archive that was written, and the size in bytes of each file in it."""

    path: Path
    size: int
    files: Mapping[str, int]


def default(name: str) -> Path:
    """The archive's path in the working folder; no file is there yet."""
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return Path(f"cf-support-{name}-{moment}{SUFFIX}")


def make(name: str | None, target: Path | None, out: Output, *, force: bool = False) -> Made:
    """Write the archive about that instance, the only one, or the machine alone.

    A part that cannot be gathered is there with its error. Raises UsageError when several instances
    exist and none is named, ConflictError when the file exists.
    """
    record = _record(name)
    path = (target or default(record.name if record else "machine")).absolute()
    backup_file.refuse(path, force=force)
    strike = Striker(_secrets(record))
    files: dict[str, bytes] = {}
    with out.waiting("Gathering") as say:
        for file, text in _parts(record, say):
            # Cut at a line, so that no half of a secret is left.
            files[file] = _bounded(strike(_last_lines(text, _READ)))
    files = {"README.txt": _readme(files, record).encode(), **files}
    with backup_file.written(path, force=force) as stream:
        _pack(stream, path.name.removesuffix(SUFFIX), files)
    return Made(path, path.stat().st_size, {name: len(data) for name, data in files.items()})


def _record(name: str | None) -> Record | None:
    if name is None and not running.instances().all()[0]:
        return None
    return unfinished.actual(running.pick(name, only_running=False, command="cf support"))


def _parts(record: Record | None, say: Callable[[str], None]) -> Iterator[tuple[str, str]]:
    """Each file's name and text."""
    for file, work in _works(record):
        say(f"Gathering {file}")
        try:
            yield file, work()
        except Exception as error:  # the rest of the archive is worth more than this part
            yield file, f"could not be gathered: {type(error).__name__}: {error}\n"


def _works(record: Record | None) -> Iterator[tuple[str, Callable[[], str]]]:
    named = (record.name,) if record else ()
    yield "versions.json", _versions
    yield "cf-status.json", lambda: _cf("status", *named, "--json")
    yield "cf-doctor.json", lambda: _cf("doctor", "--json")
    yield "cf-config.json", lambda: _cf("config", "list", "--json")
    yield "cf-models.json", lambda: _cf("models", "list", "--json")
    yield "host.json", _host
    yield "docker-version.txt", lambda: _program("docker", "version")
    yield "docker-info.txt", lambda: _program("docker", "info")
    yield "docker-compose-version.txt", lambda: _program("docker", "compose", "version")
    yield "docker-disk.txt", lambda: _program("docker", "system", "df")
    if record is None:
        return
    yield "record.json", lambda: _json(_of_record(record))
    if not record.deployment:
        return
    known = running.deployment(record)
    project = str(known.data.get("project"))
    yield "checks.json", lambda: _cf(*_start(record, known), "--dry-run", "--json")
    for file in _project_files(known):
        yield f"project/{file.name}", lambda file=file: _text(file)  # type: ignore[misc]
    if known.launcher == "swarm":
        yield "tasks.txt", lambda: _program("docker", "stack", "ps", "--no-trunc", project)
        yield "nodes.txt", lambda: _program("docker", "node", "ls")
    if known.launcher == "compose":
        yield "containers.json", lambda: _json(_containers(known))
        if known.data.get("database"):
            yield "contents.json", lambda: _json(_contents(record))
    services = ("core",) if known.launcher == "process" else _SERVICES
    for service in services:
        if known.launcher == "process" or _has(known, service):
            yield f"logs/{service}.log", lambda service=service: _log(known, service)  # type: ignore[misc]


def _start(record: Record, known: Deployment) -> list[str]:
    """The words of the `cf up` that would start the same instance again."""
    words = shlex.split(running.start_command(record))[1:]
    words += ["--launcher", known.launcher, "--port", str((known.ui or known.engine).port)]
    if known.launcher != "process":
        words += ["--services", record.services]
        words += ["--core-port", str(known.engine.port)] if known.ui else []
    return words


def _has(known: Deployment, service: str) -> bool:
    from compreface_cli.docker.containers import short

    return service in {short(name) for name in known.data.get("services") or ()}


def _cf(*words: str) -> str:
    """What `cf` prints for this user, with its exit code at the end."""
    return _program(sys.executable, "-m", "compreface_cli.cli", *words, shown="cf")


def _program(program: str, *words: str, shown: str = "") -> str:
    command = " ".join([shown or program, *words[2:]]) if shown else " ".join([program, *words])
    began = time.monotonic()
    try:
        done = subprocess.run(
            [program, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LIMIT_S,
            check=False,
            preexec_fn=die_with(os.getpid()),
        )
    except subprocess.TimeoutExpired:
        return f"$ {command}\nno end within {_LIMIT_S:.0f} s\n"
    except OSError as error:
        return f"$ {command}\n{error.strerror}\n"
    text = done.stdout if not done.stderr else f"{done.stdout}\n--- stderr\n{done.stderr}"
    if done.returncode == 0 and not done.stderr:
        return text
    return f"{text}\n--- $ {command}: exit code {done.returncode}, {_since(began)} s\n"


def _since(began: float) -> str:
    return f"{time.monotonic() - began:.1f}"


def _versions() -> str:
    from compreface_cli.facts import docker, host

    seen, engine = host.gather(), docker.gather()
    return _json(
        {
            "cf": __version__,
            "python": seen.python,
            "system": seen.system,
            "distribution": seen.distribution,
            "architecture": seen.architecture,
            "docker": engine.engine_version,
            "docker_state": engine.state,
            "compose": engine.compose_version,
            "images": [
                {"tags": list(image.tags), "labels": dict(image.labels)}
                for image in engine.images
                if any("compreface" in tag for tag in image.tags)
            ],
        }
    )


def _host() -> str:
    from dataclasses import asdict

    from compreface_cli.facts import host

    seen = asdict(host.gather())
    seen.pop("user", None)
    seen["cpu_flags"] = sorted(seen["cpu_flags"] or ())
    return _json(seen)


def _of_record(record: Record) -> dict[str, Any]:
    from dataclasses import asdict

    document = asdict(record)
    document["answer"] = {key: MARK if key == "embedding" else value
                          for key, value in record.answer.items()}  # fmt: skip
    return document


def _project_files(known: Deployment) -> Iterator[Path]:
    """What `cf` rendered and the user added, without secrets."""
    folder = Path(str(known.data["folder"]))
    if known.launcher == "process" or not folder.is_dir():
        return
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if not path.is_file() or path.is_symlink() or set(parts) & set(_NEVER):
            continue
        if path.suffix in (".yaml", ".yml", ".template", ".conf", ".json", ".Dockerfile", ".md"):
            yield path
        elif path.name == "Dockerfile":
            yield path


def _containers(known: Deployment) -> list[dict[str, Any]]:
    """Docker's description of each container, with the names of its variables alone."""
    from compreface_cli.docker import client, containers

    rows = []
    for container in containers.of_project(str(known.data["project"]), known.data.get("folder")):
        row = client.get("containers", container.id, "json")
        config = row.get("Config") or {}
        env = config.get("Env") or ()
        config["Env"] = sorted(f"{each.partition('=')[0]}={MARK}" for each in env)
        rows.append({**row, "Config": config})
    return rows


def _contents(record: Record) -> dict[str, Any]:
    """Counts of a database that runs; of one that does not, nothing is started."""
    from compreface_cli.docker.postgres import Session
    from compreface_cli.facts import contents, places

    place = places.of_record(record)
    if not place.running:
        return {"running": False}
    with place.opened() as server, Session(server) as session:
        if not contents.has_faces(session):
            return {"running": True, "schema": contents.change_sets(session)}
        nameless = [
            {key: value for key, value in row.items() if key not in ("application", "service")}
            for row in contents.by_calculator(session)
        ]
        return {
            "running": True,
            "faces": nameless,
            "subjects": contents.subjects(session),
            "images": contents.images(session),
            "schema": contents.change_sets(session),
        }


def _log(known: Deployment, service: str) -> str:
    launcher = running.launcher(known.launcher)
    lines = launcher.logs(known, tail=_LOG_LINES, follow=False, service=service)
    return "".join(f"{line}\n" for line in lines)


def _secrets(record: Record | None) -> set[str]:
    """Every secret that `cf` can know: of settings, variables, the project and its containers."""
    found = {value for name, value in os.environ.items() if is_secret(name)}
    try:
        chosen = settings.resolve({})
        found |= {str(chosen.get(row.key) or "") for row in TABLE if row.secret}
    except CfError:
        pass  # settings that cannot be read give no secrets to the instance either
    if record is None or not record.deployment:
        return _single(found)
    known = running.deployment(record)
    found |= set(keys.all_of(known))
    folder = Path(str(known.data["folder"]))
    if known.launcher != "process":
        found |= set(writer.read_env(folder / ENV_FILE).values())
        found |= _of_containers(known)
    else:
        variables = known.data.get("env") or {}
        found |= {str(value) for name, value in variables.items() if is_secret(name)}
    return _single(found)


def _single(found: Iterable[str]) -> set[str]:
    """Each value, and each key of a list of keys."""
    return {part for value in found for part in (value, *value.split(",")) if part.strip()}


def _of_containers(known: Deployment) -> set[str]:
    from compreface_cli.docker import client, containers

    found: set[str] = set()
    try:
        present = containers.of_project(str(known.data["project"]), known.data.get("folder"))
        for container in present:
            row = client.get("containers", container.id, "json")
            pairs = (each.partition("=") for each in (row.get("Config") or {}).get("Env") or ())
            found |= {value for name, _, value in pairs if is_secret(name)}
    except CfError:
        pass  # without an engine no part shows a container's variables
    return found


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")


def _json(document: Any) -> str:
    return json.dumps(document, indent=2, default=str) + "\n"


def _last_lines(text: str, size: int) -> str:
    if len(text) <= size:
        return text
    _, _, whole = text[-size:].partition("\n")
    return whole


def _bounded(text: str) -> bytes:
    data = text.encode("utf-8", errors="replace")
    if len(data) <= _LARGEST:
        return data
    head = f"[the first {len(data) - _LARGEST} bytes were left out]\n".encode()
    return head + data[-_LARGEST:]


def _readme(files: Mapping[str, bytes], record: Record | None) -> str:
    about = f"the instance '{record.name}'" if record else "this machine"
    lines = [
        f"Made by `cf support` of cf {__version__} about {about}, {datetime.now(UTC):%F %T} UTC.",
        "",
        "Nothing was uploaded. Read it before you pass it on.",
        "",
        "Left out: passwords, keys, tokens, UUIDs (keys of services are such), addresses of",
        "persons, names of subjects, embeddings and photographs. Where one stood, there is "
        f"'{MARK}'.",
        "",
        *(f"{len(data):>9}  {name}" for name, data in files.items()),
    ]
    return "\n".join(lines) + "\n"


def _pack(stream: Any, folder: str, files: Mapping[str, bytes]) -> None:
    now = int(time.time())
    with tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size, member.mode, member.mtime = len(data), 0o600, now
            archive.addfile(member, io.BytesIO(data))
