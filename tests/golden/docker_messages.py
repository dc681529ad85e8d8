"""What fails between `cf` and Docker: its program, images, containers and a stack's database."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.checks import calculator
from compreface_cli.cleanup import CleanUp
from compreface_cli.config import paths
from compreface_cli.deploy import steps
from compreface_cli.deploy.previous import Previous
from compreface_cli.docker import cli, containers, image, pulls, push
from compreface_cli.docker.labels import FOLDER as FOLDER_LABEL
from compreface_cli.docker.labels import PROJECT, SERVICE
from compreface_cli.engine.known_answer import KnownAnswer
from compreface_cli.facts.database import DatabaseFacts, Lock
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.launchers import compose, compose_project, database, swap
from compreface_cli.launchers.compose import ComposeLauncher
from compreface_cli.launchers.launcher import LaunchInputs
from compreface_cli.launchers.process import ProcessLauncher
from compreface_cli.removal.rm import rm
from compreface_cli.terminal.output import Output
from tests.cli.fake_docker import FakeDocker, fake_docker
from tests.cli.fake_facts import facts, plan
from tests.cli.model_bench import a_model

Case = Callable[[Path], object]

TAG = "compreface-core:x"
ENGINE = Endpoint("127.0.0.1", 3000)
LOCK = Lock("0123456789ab (172.18.0.3)", "2026-11-30T08:00:00.000")


def _with_docker(provoke: Callable[[FakeDocker, Path], object]) -> Case:
    """The error where this program and this engine answer."""

    def case(folder: Path) -> object:
        project = folder / "project"
        project.mkdir()
        (project / "compose.yaml").write_text("{}")
        (project / "Dockerfile").write_text("FROM base\n")
        with fake_docker(folder / "fake") as docker:
            return provoke(docker, project)

    return case


def _fails(*lines: str) -> Case:
    """The error of a `docker` command that ends with these lines."""
    return lambda _: cli.failure("start it", "\n".join(lines), code=1)


def _run(docker: FakeDocker, project: Path) -> object:
    docker.answers("info", seconds=30)
    return cli.run("info", doing="ask", timeout_s=0.3)


def _no_program(_: Path) -> object:
    return cli.run("version", doing="ask the Docker engine")


def _build(docker: FakeDocker, project: Path) -> object:
    return image.build(project, TAG, report=lambda line: None)


def _build_fails(*lines: str) -> Case:
    own = "".join(f"#5 1.0 {line}\n" for line in lines)
    text = f"#5 [2/2] RUN pip install numpy\n{own}#5 ERROR: process did not complete\n"

    def provoke(docker: FakeDocker, project: Path) -> object:
        docker.answers("build", out=text, code=1)
        return image.build(project, TAG, report=lambda line: None)

    return _with_docker(provoke)


def _pull(docker: FakeDocker, project: Path) -> object:
    return image.obtain("corp/core:1", report=lambda line: None)


def _pull_several(docker: FakeDocker, project: Path) -> object:
    for name in ("corp/api:1", "corp/fe:1"):
        said = f"Error response from daemon: manifest for {name} not found: manifest unknown"
        docker.answers("pull", "--quiet", name, err=said, code=1)
    return pulls.obtain_all(
        ["corp/api:1", "corp/fe:1"], report=lambda line: None, waiting=image.silent
    )


def _pull_anew(docker: FakeDocker, project: Path) -> object:
    docker.holds["/images/corp/core:1/json"] = {"Id": "sha256:1", "Config": {}}
    docker.answers("pull", err="Error: manifest unknown", code=1)
    return image.obtain("corp/core:1", report=lambda line: None, pull=True)


def _no_image(docker: FakeDocker, project: Path) -> object:
    return steps.launch_inputs(plan())


def _push(text: str) -> Case:
    """The error of a push of which the registry says this."""
    return lambda _: push.failure("hub.example/faces/compreface-core:1", text)


def _push_of_nothing(docker: FakeDocker, project: Path) -> object:
    return push.push("corp/core:1", "hub.example/faces")


def _push_stalled(_: Path) -> object:
    layers = {"a1": "Pushed", "b2": "Pushing"}
    sending = push._Sending("hub.example/faces/core:1", lambda text: None, layers)
    return sending._stalled(180)


def _deployment(project: Path) -> Deployment:
    data = {
        "project": "cf-x",
        "folder": str(project),
        "services": ["compreface-core"],
        "volume": "cf-x_postgres-data",
    }
    return Deployment("compose", "x", ENGINE, data=data)


def _row(service: str, project: Path, identity: str = "1", **state: Any) -> dict[str, Any]:
    """A container of the project, as Docker shows it."""
    labels = {PROJECT: "cf-x", SERVICE: service, FOLDER_LABEL: str(project)}
    return {
        "Id": identity,
        "Name": f"/cf-x-{service}-1",
        "Image": "sha256:1",
        "RestartCount": state.pop("restarts", 0),
        "Config": {"Labels": labels},
        "State": {"Status": "exited", "ExitCode": 3, **state},
        "NetworkSettings": {"Ports": {}, "Networks": {}},
        "Mounts": [],
    }


def _not_removed(docker: FakeDocker, project: Path) -> object:
    docker.containers(_row("compreface-core", project))
    return ComposeLauncher().stop(_deployment(project))  # type: ignore[func-returns-value]


def _no_service(docker: FakeDocker, project: Path) -> object:
    return next(ComposeLauncher().logs(_deployment(project), tail=1, follow=False, service="fe"))


def _trial(docker: FakeDocker, project: Path) -> object:
    with (
        mock.patch.object(compose, "_engine_alone", return_value={}),
        ComposeLauncher().trial(_deployment(project), lambda line: None),
    ):
        return "it runs"


def _trial_ended(docker: FakeDocker, project: Path) -> object:
    docker.containers(_row("compreface-core", project))
    (ended,) = containers.of_project("cf-x")
    return compose._published(ended)


def _ends_again(docker: FakeDocker, project: Path) -> object:
    watch = compose.CrashLoopWatch("cf-x", str(project))
    state = {"Status": "restarting", "StartedAt": "2026-11-30T08:00:00Z"}
    docker.containers(_row("compreface-core", project, restarts=2, **state))
    watch()
    return watch()


def _override(docker: FakeDocker, project: Path) -> object:
    (project / "compose.override.yaml").write_text("services: 1\n")
    command = compose_project.command("cf-x", project)
    docker.answers(*command, "config", err="services must be a mapping", code=1)
    return compose_project.read(command, "--quiet")


def _of_swap(project: Path) -> swap.Project:
    words = compose_project.command("cf-x", project)
    return swap.Project(words, "cf-x", "compreface-core", 3000)


def _beside(docker: FakeDocker, project: Path) -> object:
    with swap.beside(_of_swap(project)):
        return "it stands beside"


def _successor(docker: FakeDocker, project: Path) -> object:
    docker.containers(_row("compreface-core", project))
    (made,) = _of_swap(project).engines()
    return swap.Successor(_of_swap(project), made, ()).endpoint("")


def _not_reached(docker: FakeDocker, project: Path) -> object:
    docker.containers(_row("compreface-core", project))
    (made,) = _of_swap(project).engines()
    successor = swap.Successor(_of_swap(project), made, ())
    with (
        mock.patch.object(swap, "_REACHED_AGAIN_S", -1),
        mock.patch.object(successor, "endpoint", return_value=ENGINE),
    ):
        successor.take_over(lambda endpoint: False, "", lambda line: None)
    return "it took over"


def _database(provoke: Callable[[database._Database], object], **state: Any) -> Case:
    """The error of a stack's database in this state; without one its container is gone."""

    def case(docker: FakeDocker, project: Path) -> object:
        if state:
            docker.containers(_row("compreface-postgres-db", project, **state))
        return provoke(database._Database(_deployment(project), lambda line: None))

    return _with_docker(case)


def _locked(work: database._Database) -> object:
    seen = DatabaseFacts(collections=(), lock=LOCK, sessions=1)
    with (
        mock.patch.object(database, "_LOCK_WAIT_S", -1),
        mock.patch.object(database, "_gone", return_value=False),
    ):
        return work.admit(seen)  # type: ignore[func-returns-value]


def _not_freed(work: database._Database) -> object:
    seen = DatabaseFacts(collections=(), lock=LOCK, sessions=0)
    with mock.patch("compreface_cli.facts.database.free_lock", return_value="permission denied"):
        return work.admit(seen)  # type: ignore[func-returns-value]


def _silent(work: database._Database) -> object:
    seen = DatabaseFacts(error="no answer within 20 s", silent=True)
    again = DatabaseFacts(error="no answer within 120 s", silent=True)
    with mock.patch("compreface_cli.facts.database.look", return_value=again):
        return work.admit(seen)  # type: ignore[func-returns-value]


def _shared(work: database._Database) -> object:
    found = work.container()
    assert found is not None
    return work._require_sole_use(found)  # type: ignore[func-returns-value]


def _prepare(launcher: ComposeLauncher | ProcessLauncher) -> Case:
    """The error of a launcher that was given nothing to start."""
    return lambda _: launcher.prepare(
        plan(), LaunchInputs(ENGINE), CleanUp(lambda line: None), lambda line: None
    )


def _removed(docker: FakeDocker, project: Path) -> object:
    paths.project_dir("x").mkdir(parents=True)
    docker.containers(_row("compreface-core", project))
    return rm((), Output(), instances=["x"])


def _calculator(model: dict[str, Any], **record: Any) -> Case:
    """What stands in the way of a plan where its instance has this record."""
    given: dict[str, Any] = {
        "name": "mine",
        "build": "mine",
        "calculator": "custom.Calculator@mine",
        "services": "core",
        "phase": "running",
        "created": "",
        "plan": {"models": [{"name": "mine", **model}]},
        **record,
    }
    wanted = plan(calculator="custom.Calculator@mine", models=(a_model(),), services="core")
    return lambda _: list(calculator.judge(wanted, facts(), Record(**given)))


def _other_model(_: Path) -> None:
    answer = KnownAnswer("x.Calculator", (0, 0, 1, 1), (1.0, 0.0), (1.1, 6.0), 1.0, "a test")
    before = asdict(replace(answer, embedding=(0.0, 1.0)))
    old = Record("mine", "mine", "x.Calculator", "core", "running", "", answer=before)
    Previous(old, Output(), None).refuse_other_model(answer, "x.Calculator")


CASES: Final[Mapping[str, Case]] = {
    # The program
    "docker: not installed": _no_program,
    "docker: too slow": _with_docker(_run),
    "docker: no engine": _fails("Cannot connect to the Docker daemon at unix:///x.sock."),
    "docker: denied": _fails("permission denied while trying to connect to the Docker daemon"),
    "docker: full": _fails("write /x: no space left on device"),
    "docker: a port": _fails("Bind for 127.0.0.1:3000 failed: port is already allocated"),
    "docker: a name": _fails('the container name "/x" is already in use by container 1'),
    "docker: no GPU": _fails('could not select device driver "nvidia"'),
    "docker: too many CPUs": _fails("Range of CPUs is from 0.01 to 2.00"),
    "docker: another hash": _fails("THESE PACKAGES DO NOT MATCH THE HASHES"),
    "docker: no image": _fails("manifest for corp/core:1 not found: manifest unknown"),
    "docker: no network": _fails("Temporary failure in name resolution"),
    "docker: it stopped answering": _fails("context deadline exceeded"),
    "docker: not healthy": _fails("container x is unhealthy"),
    "docker: anything else": _fails("goodbye"),
    # Images
    "image: a step fails": _build_fails("SyntaxError: invalid syntax"),
    "image: no network": _build_fails("No matching distribution found for numpy"),
    "image: built and not there": _with_docker(_build),
    "image: pulled and not there": _with_docker(_pull),
    "image: several cannot be pulled": _with_docker(_pull_several),
    "image: cannot be pulled anew": _with_docker(_pull_anew),
    "image: not built": _with_docker(_no_image),
    "push: no such image": _with_docker(_push_of_nothing),
    "push: nothing answers": _push('Get "https://hub.example/v2/": dial tcp: connection refused'),
    "push: no login": _push("no basic auth credentials"),
    "push: no right": _push("denied: requested access to the resource is denied"),
    "push: plain HTTP": _push("http: server gave HTTP response to HTTPS client"),
    "push: certificate": _push("x509: certificate signed by unknown authority"),
    "push: too many": _push("toomanyrequests: You have reached your limit"),
    "push: too large": _push("received unexpected HTTP status: 413 Request Entity Too Large"),
    "push: its disk is full": _push("received unexpected HTTP status: 500 Internal Server Error"),
    "push: it has another": _push("it was pushed as sha256:1, and the registry has sha256:2"),
    "push: anything else": _push("the registry named no digest"),
    "push: it stalls": _push_stalled,
    # Containers
    "compose: no folder": _prepare(ComposeLauncher()),
    "process: no environment": _prepare(ProcessLauncher(lambda name: Path("/nowhere"))),
    "compose: not removed": _with_docker(_not_removed),
    "compose: no such service": _with_docker(_no_service),
    "compose: the user's own file": _with_docker(_override),
    "compose: a service ends again and again": _with_docker(_ends_again),
    "trial: gone": _with_docker(_trial),
    "trial: it ended": _with_docker(_trial_ended),
    "beside: gone": _with_docker(_beside),
    "beside: it ended": _with_docker(_successor),
    "beside: not reached": _with_docker(_not_reached),
    "rm: containers are left": _with_docker(_removed),
    # Another engine
    "calculator: another": _calculator({}, calculator="facenet.Calculator"),
    "calculator: another input": _calculator({"colour": "bgr"}),
    "calculator: another model": _other_model,
    # The database
    "database: gone": _database(lambda work: work.wait(anew=None)),
    "database: it does not come up": _database(lambda work: work.wait(anew=None), restarts=3),
    "database: locked": _database(_locked, Status="running"),
    "database: a lock that is not freed": _database(_not_freed, Status="running"),
    "database: it gives no answer": _database(_silent, Status="running"),
    "database: a shared volume": _database(_shared, Status="running"),
}
