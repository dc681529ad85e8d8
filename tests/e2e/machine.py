"""What the end-to-end tests do to this machine: run `cf`, ask Docker, talk HTTP to an engine."""

from __future__ import annotations

import json
import lzma
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
STANDINS = Path(__file__).parent / "standins"
STACK = ("compreface-postgres-db", "compreface-admin", "compreface-api", "compreface-fe")
REGISTRY = "cf-standin/"
TAG = f"e2e-{uuid.uuid4().hex[:8]}"  # no other run of the tests has the same
PORTRAITS = ROOT / "compreface_cli" / "portraits"


class Docker:
    """The `docker` program; every method but `answers` raises when the command fails."""

    def __init__(self) -> None:
        self.own: list[str] = []

    def __call__(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> str:
        done = subprocess.run(
            ["docker", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}:\n{done.stdout[-2000:]}")
        return done.stdout.strip()

    def answers(self) -> bool:
        try:
            asked = subprocess.run(
                ["docker", "version", "--format={{.Server.Version}}"],
                capture_output=True,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return asked.returncode == 0

    def build(self, folder: Path, tag: str, *arguments: str) -> str:
        self.own.append(tag)
        self("build", "--quiet", f"--tag={tag}", *arguments, str(folder), timeout_s=400)
        return tag

    def own_name(self, what: str) -> str:
        """A name for an image that `forget` removes; no other run of the tests has the same."""
        self.own.append(f"{REGISTRY}{what}:{uuid.uuid4().hex[:8]}")
        return self.own[-1]

    def forget(self) -> None:
        for name in dict.fromkeys(self.own):
            self("image", "rm", "--force", name, check=False)

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found

    def things_of(self, prefix: str) -> list[str]:
        """Containers, networks and volumes whose name begins so."""
        found = self("ps", "--all", "--format={{.Names}}").split()
        found += self("network", "ls", "--format={{.Name}}").split()
        found += self("volume", "ls", "--format={{.Name}}").split()
        return sorted(name for name in found if name.startswith(prefix))

    def sweep(self, prefix: str) -> None:
        """Remove what a failed test has left under a name of its own."""
        for kind, command in (
            (("ps", "--all", "--format={{.Names}}"), ("rm", "--force", "--volumes")),
            (("network", "ls", "--format={{.Name}}"), ("network", "rm")),
            (("volume", "ls", "--format={{.Name}}"), ("volume", "rm")),
        ):
            for name in self(*kind).split():
                if name.startswith(prefix):
                    self(*command, name, check=False)


class Cf:
    """`cf` as a user runs it, in a folder and a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.here = folder / "here"
        for path in (self.home, self.here):
            path.mkdir(parents=True, exist_ok=True)
        self.environment: dict[str, str] = {}
        self.instances: list[str] = []

    @property
    def data(self) -> Path:
        return self.home / ".local" / "share" / "compreface-cli"

    def project(self, instance: str) -> Path:
        return self.data / "projects" / instance

    def command(self, *arguments: str) -> list[str]:
        """The words that start it, for a test that connects its streams otherwise."""
        return [sys.executable, "-m", "compreface_cli.cli", *arguments]

    def run(self, *arguments: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            capture_output=True,
            text=True,
            cwd=self.here,
            env=self._environment(),
            timeout=timeout_s,
            check=False,
        )

    def ok(self, *arguments: str, timeout_s: float = 300) -> str:
        done = self.run(*arguments, timeout_s=timeout_s)
        assert done.returncode == 0, f"cf {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def start(self, *arguments: str, output: IO[str]) -> subprocess.Popen[str]:
        """Run it without waiting; what it says goes into the file."""
        return subprocess.Popen(
            [sys.executable, "-m", "compreface_cli.cli", *arguments],
            stdout=output,
            stderr=output,
            text=True,
            cwd=self.here,
            env=self._environment(),
        )

    def interrupted(
        self, *arguments: str, when: Callable[[str], bool], number: int = signal.SIGINT
    ) -> tuple[int, str]:
        """Run, and send a signal once a line on stderr is the one; exit code and stderr."""
        child = subprocess.Popen(
            [sys.executable, "-m", "compreface_cli.cli", *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.here,
            env=self._environment(),
        )
        said: list[str] = []
        sent = False
        with child:
            for line in child.stderr or ():
                said.append(line)
                if not sent and when(line):
                    child.send_signal(number)
                    sent = True
        assert sent, "the line never came:\n" + "".join(said)
        return child.returncode, "".join(said)

    def _environment(self) -> dict[str, str]:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("XDG_", "CF_", "COMPOSE_"))
        }
        return {
            **kept,
            "HOME": str(self.home),
            # Docker finds its plugins and credentials there, whatever the home of this `cf` is.
            "DOCKER_CONFIG": os.environ.get("DOCKER_CONFIG", str(Path.home() / ".docker")),
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            **self.environment,
        }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def get(url: str, timeout_s: float = 10, *, key: str | None = None) -> tuple[int, Any]:
    """Status and JSON document; `key` is the API key of a service."""
    return _asked(urllib.request.Request(url, headers=_key(key)), timeout_s)


def post_photograph(
    url: str, photograph: Path, *, key: str | None = None, timeout_s: float = 30
) -> tuple[int, Any]:
    """Send the photograph as the part `file` of a form; status and JSON document."""
    boundary = uuid.uuid4().hex
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; "
        f'name="file"; filename="{photograph.name}"\r\n\r\n'
    )
    body = head.encode() + photograph.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", **_key(key)}
    return _asked(urllib.request.Request(url, body, headers), timeout_s)


def _key(key: str | None) -> dict[str, str]:
    return {} if key is None else {"x-api-key": key}


def _asked(request: urllib.request.Request, timeout_s: float) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused)


def sign_up(ui: str) -> dict[str, str]:
    """Make the owner's account and an application, as a person does in the UI at `ui`.

    Returns the API keys of one service of each kind: RECOGNITION, DETECTION and VERIFY.
    """
    person = {"email": "owner@example.com", "password": "Secret-12345"}
    names = {"firstName": "Front", "lastName": "Door", "isAllowStatistics": False}
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
        request = urllib.request.Request(f"{ui}/admin/{path}", body, headers)
        with opener.open(request, timeout=30) as answer:
            said: bytes = answer.read()
            return said

    def make(path: str, **values: object) -> Any:
        made = post(path, json.dumps(values).encode(), {"Content-Type": "application/json"})
        return json.loads(made or b"null")

    make("user/register", **person, **names)
    form = {"username": person["email"], "password": person["password"], "grant_type": "password"}
    boundary = uuid.uuid4().hex
    lines = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form.items()
    ]
    post(
        "oauth/token",
        "".join([*lines, f"--{boundary}--\r\n"]).encode(),
        {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Authorization": "Basic Q29tbW9uQ2xpZW50SWQ6cGFzc3dvcmQ=",
        },
    )
    app = make("app", name="Front door")["id"]
    kinds = ("RECOGNITION", "DETECTION", "VERIFY")
    return {kind: make(f"app/{app}/model", name=kind, type=kind)["apiKey"] for kind in kinds}


def sql(instance: str, text: str) -> str:
    """Run SQL in the database of an instance; its rows, one a line and fields behind tabs."""
    inside = (
        'PGPASSWORD=$POSTGRES_PASSWORD exec psql -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"'
        " -v ON_ERROR_STOP=1 -q -A -t -F '\t'"
    )
    done = subprocess.run(
        ["docker", "exec", "-i", f"cf-{instance}-compreface-postgres-db-1", "sh", "-c", inside],
        input=text,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def restore(docker: Docker, instance: str, dump: Path) -> None:
    """Put a dump (.sql.xz) in the place of the instance's database; admin and api start anew."""
    text = lzma.decompress(dump.read_bytes()).decode()
    # psql of an earlier minor version does not know these two commands.
    text = re.sub(r"^\\(un)?restrict.*\n", "", text, flags=re.M)
    sql(instance, f"drop schema public cascade; create schema public;\n{text}")
    restart(docker, instance, "compreface-admin", "compreface-api")


def restart(docker: Docker, instance: str, *services: str) -> None:
    """Restart services of an instance, and wait until they are healthy."""
    names = [f"cf-{instance}-{service}-1" for service in services]
    docker("restart", *names)
    wait_until(
        lambda: all(
            docker.inspect(name)["State"]["Health"]["Status"] == "healthy" for name in names
        ),
        timeout_s=180,
    )


def wait_until(true: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.2)


def flipped(docker: Docker, image: str, folder: Path, *, only_beside: str = "") -> str:
    """An image upon `image` whose calculator has one wrong weight; returns its name.

    With `only_beside` it computes wrongly only where that host name resolves.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inside = "/engine/compreface_engine/embedded_models/mobilefacenet192_fp16w.onnx"
    name = f"cf-e2e-flip-{uuid.uuid4().hex[:8]}"
    docker("create", f"--name={name}", image)
    try:
        docker("cp", f"{name}:{inside}", str(folder / "wrong.onnx"))
    finally:
        docker("rm", "--force", name)
    _flip_one_weight(folder / "wrong.onnx")
    (folder / "start.py").write_text(
        "import shutil, socket, sys\n"
        f"host = {only_beside!r}\n"
        "try:\n    wrong = not host or bool(socket.gethostbyname(host))\n"
        "except OSError:\n    wrong = False\n"
        "shutil.copytree('/engine', '/tmp/engine')\n"
        f"if wrong:\n    shutil.copyfile('/wrong.onnx', '/tmp' + {inside!r})\n"
        "sys.path.insert(0, '/tmp/engine')\n"
        "import runpy\nrunpy.run_module('compreface_engine', run_name='__main__', alter_sys=True)\n"
    )
    (folder / "Dockerfile").write_text(
        f"FROM {image}\nCOPY --chmod=644 wrong.onnx start.py /\nENV PYTHONPATH=\n"
        "LABEL compreface-cli.build=e2e-flipped\n"
        'CMD ["python", "/start.py"]\n'
    )
    (folder / ".dockerignore").write_text("*\n!wrong.onnx\n!start.py\n")
    return docker.build(folder, docker.own_name("flipped"))


def _flip_one_weight(path: Path) -> None:
    """Turn the sign of the largest weight of the network's first convolution."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    by_name = {tensor.name: tensor for tensor in model.graph.initializer}
    producers = {output: node for node in model.graph.node for output in node.output}
    name = first.input[1]
    while name not in by_name:  # the weights are kept as fp16 and cast
        name = producers[name].input[0]
    weights = numpy_helper.to_array(by_name[name]).copy()
    flat = weights.reshape(-1)
    flat[int(np.argmax(np.abs(flat)))] *= -1
    by_name[name].CopyFrom(numpy_helper.from_array(weights, name))
    onnx.save(model, path)
