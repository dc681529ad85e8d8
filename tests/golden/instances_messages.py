"""What commands on instances, projects and what is to be removed refuse, and how they are used."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from unittest import mock

from typer.testing import CliRunner

from compreface_cli import cli
from compreface_cli.app import make_app
from compreface_cli.cleanup import CleanUp
from compreface_cli.config import paths
from compreface_cli.deploy import key_rotation, project_folder, rotation, running, up
from compreface_cli.errors import CfError, Interruption, UnhealthyError
from compreface_cli.facts import host
from compreface_cli.facts.host import PortFact
from compreface_cli.instance.records import Instances, Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import keys as launched_keys
from compreface_cli.launchers.process import ProcessLauncher
from compreface_cli.project import writer
from compreface_cli.project.rendered import FileRef, RenderedProject
from compreface_cli.project.targets import compose as target
from compreface_cli.removal import things
from compreface_cli.terminal import stdout
from compreface_cli.terminal.output import Output
from tests.cli.build_files import plain_data, write
from tests.cli.fake_facts import held, plan
from tests.cli.model_bench import a_model

Case = Callable[[Path], object]

NO_ADDRESS = "insightface.Calculator@arcface_resnet34"
KEY = "a-key-of-the-engine"
CREATED = "2026-01-01T00:00:00+00:00"
CALCULATOR = "embedded.Calculator@mobilefacenet192"


def _cf(*words: str, before: Callable[[Path], object] = lambda folder: None) -> Case:
    """What `cf WORDS` raises, its notes in front, or prints."""

    def case(folder: Path) -> object:
        before(folder)
        done = CliRunner(env={"COLUMNS": "200"}).invoke(make_app([words[0]]), list(words))
        if isinstance(done.exception, CfError):
            done.exception.message = f"{done.stderr}{done.exception.message}"
            raise done.exception
        return f"exit code {done.exit_code}\n{done.output}".rstrip()

    return case


def _deployment(folder: Path, name: str) -> dict[str, Any]:
    return {
        "launcher": "process",
        "instance": name,
        "engine": {"bind": "127.0.0.1", "port": 9},
        "ui": None,
        "data": {"folder": str(folder / "engine-1234")},
    }


def _instance(name: str = "mine", **more: Any) -> Callable[[Path], object]:
    """Writes the record of an instance as a process."""

    def make(folder: Path) -> None:
        store = Instances(paths.instances_dir())
        given: dict[str, Any] = {
            "name": name,
            "build": "embedded",
            "calculator": CALCULATOR,
            "services": "core",
            "phase": "running",
            "created": CREATED,
            "deployment": _deployment(store.home(name), name),
            **more,
        }
        store.save(Record(**given))

    return make


def _both(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        for step in steps:
            step(folder)

    return make


def _damaged(content: str) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = Instances(paths.instances_dir()).home("mine") / "instance.json"
        path.parent.mkdir(parents=True)
        path.write_text(content)

    return make


def _with_setting(call: Callable[[], object]) -> Case:
    def case(_: Path) -> object:
        with mock.patch.dict(os.environ, {"CF_POSTGRES_PASSWORD": "x"}):
            return call()

    return case


def _rotated_keys(in_file: str = "", *, drop_old: bool = False, **environment: str) -> Case:
    """What a rotation of the keys refuses of an engine with `KEY`."""

    def case(folder: Path) -> object:
        _instance()(folder)
        engine = Instances(paths.instances_dir()).home("mine") / "engine-1234"
        engine.mkdir()
        launched_keys.write(engine, KEY)
        given = dict(environment)
        if in_file:
            (folder / "keys.txt").write_text(in_file)
            given["CF_API_KEYS_FILE"] = str(folder / "keys.txt")
        with mock.patch.dict(os.environ, given):
            return key_rotation.rotate("mine", Output(), drop_old=drop_old, dry_run=True)

    return case


def _refused_keys(_: Path) -> object:
    known = Deployment("process", "mine", Endpoint("127.0.0.1", 9), data={})
    with mock.patch.object(key_rotation, "_TAKEN_S", 0.0):
        key_rotation._wait(known, "x")
    return "they are accepted"


def _damaged_change(folder: Path) -> object:
    (folder / rotation.PENDING).write_text("{")
    return rotation.pending(folder)


def _own_build(folder: Path) -> None:
    write(paths.user_builds(), plain_data(name="mine"))


def _build_file(folder: Path) -> None:
    write(folder, plain_data())


def _photograph(folder: Path) -> None:
    (folder / "a.png").write_bytes(b"x")


def _rendered(*words: str) -> Callable[[Path], object]:
    return _cf("render", "embedded", "-o", "out", *words)


def _listener(listener: PortFact) -> Case:
    """The error when another program listens where the engine of a process should."""
    known = Deployment("process", "x", Endpoint("127.0.0.1", 3000), data={"folder": "/nowhere"})

    def case(_: Path) -> object:
        with mock.patch.object(host, "port", return_value=listener):
            running.refuse_foreign_listener(known)
        return "it is ours"

    return case


def _explained(*lines: str) -> Case:
    """The error of an engine whose last lines are these."""
    error = UnhealthyError("the engine did not start", details={"log": lines})
    known = Deployment("process", "x", Endpoint("127.0.0.1", 3000), data={"folder": "/nowhere"})
    return lambda _: running.explain(error, known)


def _health(**record: Any) -> Case:
    """How `cf status` describes an instance."""

    def case(folder: Path) -> object:
        _instance(**record)(folder)
        found = Instances(paths.instances_dir()).load("mine")
        assert found is not None
        return running.health(found, busy=False).detail

    return case


def _kept(error: OSError) -> Case:
    """The error when the project folder cannot be copied."""

    def case(folder: Path) -> object:
        with mock.patch.object(shutil, "copytree", side_effect=error):
            project_folder._keep(folder / "project", folder / "before")
        return "it was kept"

    return case


def _project(more: Mapping[str, str | FileRef] | None = None, **secrets: str) -> RenderedProject:
    return RenderedProject("x", {"compose.yaml": "name: x\n", **(more or {})}, secrets)


def _write(change: Callable[[Path], object], again: RenderedProject | None = None) -> Case:
    """The error of writing a project once more after `change` in its folder."""

    def case(folder: Path) -> object:
        place = folder / "project"
        writer.write(_project(postgres_password="first"), place)
        change(place)
        return writer.write(again or _project({"more": "x"}), place)

    return case


def _edited(place: Path) -> None:
    (place / "compose.yaml").write_text("name: x\nmine: 1\n")


def _manifest(text: str) -> Callable[[Path], object]:
    return lambda place: (place / writer.MANIFEST).write_text(text)


def _in_the_way(name: str) -> Case:
    def case(folder: Path) -> object:
        (folder / name).write_text("mine")
        return writer.write(_project(), folder if name == "thesis.txt" else folder / name / "x")

    return case


def _copied(folder: Path) -> object:
    (folder / "model.onnx").write_bytes(b"weights")
    file = FileRef(folder / "model.onnx", "0" * 64)
    return writer.write(_project({"model.onnx": file}), folder / "project")


def _proven(text: str) -> Case:
    return lambda _: target._check(plan(), text)


def _consent(typed: str | None, given: tuple[str, ...] = ()) -> Case:
    """The error of asking for the name `mine` where this is typed."""

    def case(_: Path) -> object:
        with mock.patch.object(Output, "ask", return_value=typed):
            things.confirm(["mine"], given, Output())
        return "it was said"

    return case


def _prune(typed: str | None) -> Case:
    def case(folder: Path) -> object:
        (paths.models_dir() / "old-model").mkdir(parents=True)
        with mock.patch.object(Output, "ask", return_value=typed):
            return _cf("prune")(folder)

    return case


def _not_removed(folder: Path) -> object:
    error = PermissionError(errno.EACCES, "Permission denied", str(folder / "x"))
    (folder / "x").mkdir()
    with mock.patch.object(shutil, "rmtree", side_effect=error):
        things.erase(folder / "x")
    return "it is gone"


def _supervisor(folder: Path) -> None:
    ended = subprocess.CompletedProcess([], 1, stderr="OSError: no room\n")
    data = {"folder": str(folder), "argv": [], "env": {}}
    known = Deployment("process", "x", Endpoint("127.0.0.1", 3000), data=data)
    with mock.patch.object(subprocess, "run", return_value=ended):
        ProcessLauncher(lambda name: folder).start(known, lambda line: None)


def _output(_: Path) -> None:
    with mock.patch.object(os, "dup2"), stdout.written():  # or nothing could be printed any more
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _resolved(**variables: str) -> Case:
    """What `cf up` notes of these settings."""

    def case(_: Path) -> str:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), mock.patch.dict(os.environ, variables):
            up.resolve({"build": "embedded"}, Output())
        return said.getvalue().rstrip()

    return case


def _undone(failed: BaseException, *, stuck: bool = False) -> Case:
    """What is said while a run is undone that failed so, and what became of it."""

    def case(_: Path) -> str:
        said: list[str] = []

        def step() -> None:
            if stuck:
                raise CfError("it hangs")

        undo = CleanUp(said.append)
        undo.left = "'demo' runs as before"
        try:
            with undo:
                undo.push("the image x", step)
                raise failed
        except Interruption as interrupted:
            said.append(interrupted.outcome)
        except UnhealthyError:
            pass
        return "\n".join(said)

    return case


CASES: Final[Mapping[str, Case]] = {
    # Which instance
    "instance: none runs": _cf("down"),
    "instance: unknown": _cf("down", "mine"),
    "instance: several run": _cf("down", before=_both(_instance("one"), _instance("two"))),
    "instance: no name": _cf("down", "My_One"),
    "instance: nothing was started": _cf("logs", "mine", before=_instance(deployment={})),
    "instance: an incomplete record": _cf("logs", "mine", before=_instance(deployment={"x": 1})),
    "instance: a damaged record": _cf("logs", "mine", before=_damaged("{")),
    "instance: a record of another cf": _cf("logs", "mine", before=_damaged('{"schema": 9}')),
    "down: a damaged record": _cf("down", "mine", before=_damaged("[]")),
    "restart: stopped": _cf("restart", "mine", before=_instance(phase="stopped")),
    "restart: its folder is gone": _cf("restart", "mine", before=_instance()),
    "secrets: a password that a setting names": _with_setting(rotation._refuse_setting),
    "secrets: no password in the project": lambda folder: rotation._password(
        folder, Record("mine", "embedded", CALCULATOR, "full", "running", CREATED)
    ),
    "secrets: a damaged record of a change": _damaged_change,
    "secrets: neither password fits": lambda _: rotation._of_row(
        {"name": "postgres", "value": "md5"}, rotation.Pending("a", "b")
    ),
    "secrets: keys without a file": _rotated_keys(CF_API_KEYS=KEY),
    "secrets: no keys": _cf("secrets", "rotate", "mine", "--api-keys", before=_instance()),
    "secrets: keys of another file": _rotated_keys("another-key-of-it"),
    "secrets: no replaced keys": _rotated_keys(KEY, drop_old=True),
    "secrets: the engine refuses the new keys": _refused_keys,
    "secrets: flags that exclude each other": _cf("secrets", "rotate", "mine", "--drop-old"),
    "secrets: no such secret": _cf("secrets", "list", "mine", "--show", "x", before=_instance()),
    "secrets: none": _cf("secrets", "list", "mine", before=_instance()),
    "logs: follow and JSON": _cf("logs", "--follow", "--json"),
    "logs: no such service": lambda folder: next(
        ProcessLauncher(lambda name: folder).logs(
            Deployment("process", "x", Endpoint("127.0.0.1", 1), data={"folder": "/nowhere"}),
            tail=1,
            follow=False,
            service="api",
        )
    ),
    "scan: stopped": _cf(
        "scan",
        "a.png",
        "--instance",
        "mine",
        before=_both(_photograph, _instance(phase="stopped")),
    ),
    "status: nothing": _cf("status"),
    "status: it ended": _health(),
    "status: cut off": _health(phase="starting", command="cf up embedded"),
    # Starting
    "up: a process and the full stack": _cf("up", "--launcher", "process", "--services", "full"),
    "up: a process and a second port": _cf(
        "up", "--launcher", "process", "--port", "1", "--core-port", "2"
    ),
    "start: another program took the port": _listener(held(3000)),
    "start: no supervisor": _supervisor,
    "start: an address in use": _explained("OSError: [Errno 98] Address already in use"),
    "start: an illegal instruction": _explained("Illegal instruction"),
    "start: no memory": _explained("MemoryError"),
    "start: no GPU": _explained("libcudart.so: cannot open shared object"),
    "start: a file is missing": _explained("FileNotFoundError: model.onnx"),
    "start: its settings": _explained("compreface-engine: CF_PORT=x: is not a whole number"),
    "start: nothing known": _explained("goodbye"),
    "folder: a mount": _kept(OSError(errno.EXDEV, os.strerror(errno.EXDEV))),
    "folder: refused": _kept(OSError(errno.EACCES, os.strerror(errno.EACCES))),
    "up: settings without effect": _resolved(
        CF_SERVICES="full", CF_LAUNCHER="process", CF_RATE_BURST="5"
    ),
    "up: a second port without effect": _resolved(
        CF_LAUNCHER="process", CF_PORT="8000", CF_CORE_PORT="3999"
    ),
    "up: settings that ask for Docker": _resolved(CF_IMAGE="corp/core:1", CF_SERVICES="full"),
    "undo: interrupted": _undone(Interruption("SIGTERM")),
    "undo: interrupted, and something is left": _undone(Interruption("SIGTERM"), stuck=True),
    "undo: failed, and something is left": _undone(UnhealthyError("x"), stuck=True),
    "down: cut off before": _cf(
        "down", "mine", before=_instance(phase="starting", command="cf up embedded")
    ),
    "restart: a stop was cut off": _cf(
        "restart", "mine", before=_instance(phase="stopping", command="cf down mine")
    ),
    # Building and rendering
    "build: several GPUs": _cf("build", "embedded", "--gpu-index", "0,1"),
    "build: kept without Docker": _cf("build", "--name", "embedded", "--runtime", "openvino"),
    "build: tag": _cf("build", "--tag", "Bad Tag"),
    "build: push": _cf("build", "--push"),
    "build: name": _cf("build", "--name", "My Build"),
    "build: a model without an address": _cf("build", "--calculator", NO_ADDRESS),
    "render: one number for two ports": _rendered("--port", "3456", "--core-port", "3456"),
    "render: no folder": _cf(
        "render",
        "embedded",
        *("-o", "out"),
        before=lambda folder: (folder / "out").write_text("a file"),
    ),
    "render: no number": _rendered("--port", "auto"),
    "render: no such target": _rendered("--target", "nomad"),
    "render: keys and the full stack": lambda _: target.render(
        plan(secrets={"api_keys": "long-enough"})
    ),
    "render: a folder of another instance": _cf(
        "render", "embedded", "-o", "out", "--instance", "two", before=_rendered()
    ),
    "render: a folder of another calculator": _cf(
        "render",
        *("facenet", "-o", "out", "--instance", "embedded", "--no-models"),
        before=_rendered(),
    ),
    "render: a model that is not prepared": lambda _: target.render(plan(models=(a_model(),))),
    "render: no YAML": _proven("a: ["),
    "render: another project": _proven("{name: x, services: {compreface-core: {image: x}}}"),
    "project: another folder": _in_the_way("thesis.txt"),
    "project: a file in its place": _in_the_way("file"),
    "project: an edited file": _write(_edited),
    "project: an unreadable manifest": _write(_manifest("{")),
    "project: a damaged manifest": _write(_manifest("[]")),
    "project: another password": _write(lambda place: None, _project(postgres_password="other")),
    "project: it cannot be written": _write(
        lambda place: (place / "more").write_text("x"), _project({"more/x": "x"})
    ),
    "project: a file that changed": _copied,
    # Removing
    "rm: no name": _cf("rm"),
    "rm: unknown": _cf("rm", "nothing"),
    "rm: unknown instance": _cf("rm", "--instance", "nothing"),
    "rm: a file": _cf(
        "rm", "--build", "./mine.yaml", before=lambda f: write(f, plain_data(name="mine"))
    ),
    "rm: an instance and a build": _cf("rm", "mine", before=_both(_own_build, _instance())),
    "rm: it runs": _cf("rm", "--instance", "mine", before=_instance()),
    "rm: a build in use": _cf(
        "rm", "--build", "mine", before=_both(_own_build, _instance(build="mine"))
    ),
    "rm: a build of cf": _cf("rm", "embedded"),
    "rm: not said again": _cf("rm", "mine", before=_own_build),
    "rm: another name": _cf("rm", "mine", "--confirm", "other", before=_own_build),
    "rm: another name typed": _consent("yes"),
    "rm: it cannot be removed": _not_removed,
    "prune: no answer": _prune(None),
    "prune: no": _prune("n"),
    # Commands
    "compare: one picture": _cf("compare", "a.png", before=_photograph),
    "logs: no time": _cf("logs", "--since", "yesterday"),
    "explain: unknown": _cf("explain", "prt-taken"),
    "cf: no output": _output,
    "cf: a fault": lambda _: cli._unexpected(ValueError("x")),
}
