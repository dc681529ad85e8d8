"""What `cf adopt` and `cf release` refuse, and what they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from unittest import mock

from compreface_cli.config import paths
from compreface_cli.data import adopt, recognise, release, stored_faces
from compreface_cli.data.adopt import Found, Wanted
from compreface_cli.data.stored_faces import Agreement, Stored, StoredFace
from compreface_cli.deploy import adoption, aside
from compreface_cli.docker.containers import Container
from compreface_cli.docker.labels import FOLDER, LABEL_INSTANCE, PROJECT, SERVICE
from compreface_cli.docker.postgres import Server
from compreface_cli.errors import CfError
from compreface_cli.facts import upstream
from compreface_cli.facts.upstream import API, CORE, DATABASE, Install, Member
from compreface_cli.instance import adopted as kept
from compreface_cli.instance.adopted import Adopted, Aside
from compreface_cli.instance.records import Instances, Record
from compreface_cli.plan.operations import Options
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import plan

Case = Callable[[Path], object]

_ADOPT, _RELEASE = "compreface_cli.data.adopt", "compreface_cli.data.release"
CALCULATOR = "facenet.Calculator"
VOLUME = "faces_postgres-data"
MEMBER = Member(
    DATABASE, "exadel/compreface-postgres-db:1.2.0", name="compreface-postgres-db", state="running"
)
INSTALL = Install("faces", "/srv/faces", VOLUME, {DATABASE: MEMBER})
FACE = StoredFace("1", "2", "Recognition", "Ann", CALCULATOR, 1000)
ADOPTED = Adopted(
    "faces",
    "/srv/faces",
    "",
    VOLUME,
    "facenet",
    CALCULATOR,
    "adopted",
    services=(Aside(DATABASE, "0123", "compreface-postgres-db", "always", True),),
    settings={"api_image": "exadel/compreface-api:1.2.0"},
)


def _record(adopted: Adopted = ADOPTED, **more: Any) -> Record:
    given: dict[str, Any] = {
        "name": "faces",
        "build": "facenet",
        "calculator": CALCULATOR,
        "services": "full",
        "phase": "running",
        "created": "2026-01-01T00:00:00+00:00",
        "adopted": adopted.as_dict(),
        "plan": {"data": {"volume": VOLUME}},
        **more,
    }
    return Record(**given)


def _saved(adopted: Adopted = ADOPTED, **more: Any) -> Record:
    record = _record(adopted, **more)
    Instances(paths.instances_dir()).save(record)
    return record


def _found(**stored: Any) -> Found:
    faces = Stored(stored.get("faces", {CALCULATOR: 3}), stored.get("sample", (FACE,)))
    wanted = replace(
        plan(), instance="faces", build="facenet", calculator=CALCULATOR, bind="0.0.0.0", port=8000
    )
    settings = {"bind": "0.0.0.0", "port": 8000, "read_timeout": 50000}
    cause = "the engine's image is exadel/compreface-core:1.2.0"
    return Found(INSTALL, wanted, cause, settings, faces, ("a note",))


@contextmanager
def _docker(
    containers: Mapping[str, Mapping[str, Any]] | None = None,
    volumes: Mapping[str, Mapping[str, str]] | None = None,
) -> Iterator[None]:
    """An engine with these containers (as inspected, by id) and volumes (their labels)."""
    inspected, labels = containers or {}, volumes or {}

    def get(*path: str, **query: Any) -> Any:
        if path[0] == "containers":
            return [
                {"Id": id_, "Names": [row["Name"]], "Labels": row["Config"]["Labels"]}
                for id_, row in inspected.items()
            ]
        return {"Volumes": [{"Name": name, "Labels": of} for name, of in labels.items()]}

    def find(*path: str, **query: Any) -> Any:
        if path[0] == "containers":
            return inspected.get(path[1])
        if path[0] == "volumes" and path[1] in labels:
            return {"Name": path[1], "Labels": labels[path[1]]}
        return None

    with mock.patch.multiple("compreface_cli.facts.upstream.client", get=get, find=find):
        yield


def _row(service: str, **more: str) -> dict[str, Any]:
    labels = {PROJECT: "faces", SERVICE: service, FOLDER: "/srv/faces", **more}
    return {
        "Id": service,
        "Name": f"/{service}",
        "Config": {"Labels": labels, "Image": f"exadel/{service}:1.2.0"},
        "State": {"Status": "exited"},
        "Mounts": [],
    }


def _finds(what: str, **engine: Any) -> Case:
    def case(_: Path) -> object:
        with _docker(**engine):
            return upstream.find(what)

    return case


def _folder(text: str | None, answer: str | CfError = "") -> Case:
    """The folder with that Compose file, of which Compose says `answer`."""

    def case(folder: Path) -> object:
        here = folder / "faces"
        here.mkdir()
        if text is not None:
            (here / "docker-compose.yml").write_text(text)
        said = mock.Mock(side_effect=[answer])
        with _docker(), mock.patch("compreface_cli.facts.upstream.cli.run", said):
            return upstream.find(str(here))

    return case


def _half(state: Any) -> Record:
    return _saved(replace(ADOPTED, state=state), phase="stopped", command="cf adopt /srv/faces")


def _release(record: Callable[[], object], faces: Mapping[str, int] | None = None) -> Case:
    """`cf release` where the database holds these faces."""

    def case(_: Path) -> object:
        record()
        stored = Stored(faces or {CALCULATOR: 3}, ())
        at_rest = mock.MagicMock()
        with (
            mock.patch.object(stored_faces, "stored", return_value=stored),
            mock.patch(f"{_RELEASE}.containers.of_project", return_value=[]),
            mock.patch(f"{_RELEASE}.postgres.at_rest", at_rest),
        ):
            return release.release("faces", Output())

    return case


def _no_image(_: Path) -> object:
    stopped = replace(INSTALL, members={DATABASE: replace(MEMBER, state="exited")})
    with mock.patch(f"{_ADOPT}.image.find", return_value=None):
        with adopt._database(stopped, Options(dry_run=True), Output()) as server:
            return server


def _apart(_: Path) -> object:
    agreement = Agreement(3, (0.1234, 0.2, 0.3), ("Bob",))
    with (
        mock.patch(f"{_ADOPT}.fetching.fetched", side_effect=lambda plan, *_: (plan, ())),
        mock.patch(f"{_ADOPT}.image.find", return_value=object()),
        mock.patch(f"{_ADOPT}.beside.engine_beside", mock.MagicMock()),
        mock.patch(f"{_ADOPT}.stored_faces.agreement", return_value=agreement),
        mock.patch(f"{_ADOPT}.postgres.of_container", return_value=Server("1", "a", "b")),
    ):
        return adopt._proven(_found(), Options(), Output(quiet=True))


def _call(function: Callable[..., object], *given: object) -> object:
    return function(*given)


def _in_use(_: Path) -> object:
    other = Container("9", "other", "running", "", volumes=(VOLUME,))
    with mock.patch.multiple(aside, users_of=lambda volume: [other], _FREE_S=0.0):
        return _call(aside.free, VOLUME)


def _ended(_: Path) -> object:
    with (
        mock.patch("compreface_cli.deploy.aside.containers.inspect", return_value=[]),
        mock.patch.object(aside, "_RUNS_S", 0.0),
    ):
        return _call(aside._wait_until_running, list(ADOPTED.services))


def _asked(answer: str | None, ask: Callable[[Output], object]) -> Case:
    def case(_: Path) -> object:
        with mock.patch.object(Output, "ask", return_value=answer):
            return ask(Output())

    return case


def _other(calculator: str) -> Found:
    return _found(faces={calculator: 3})


CASES: Final[Mapping[str, Case]] = {
    # What is named
    "adopt: nothing of that name": _finds("faces"),
    "adopt: nothing of that name, others are here": _finds(
        "face", volumes={VOLUME: {PROJECT: "faces"}}
    ),
    "adopt: an instance of cf": _finds(
        "cf-mine", volumes={"cf-mine_postgres-data": {LABEL_INSTANCE: "mine"}}
    ),
    "adopt: another project": _finds("faces", containers={"a": _row("web")}),
    "adopt: data in a folder": _finds("faces", containers={"a": _row(DATABASE), "b": _row(CORE)}),
    "adopt: no Compose file": _folder(None),
    "adopt: a broken Compose file": _folder("x", CfError("x", details={"output": ["no"]})),
    "adopt: another Compose file": _folder("x", '{"name": "web", "services": {}}'),
    "adopt: a folder without a volume": _folder(
        "x",
        '{"name": "faces", "services": {"compreface-core": {}, "compreface-postgres-db":'
        ' {"volumes": [{"type": "volume", "source": "d", "target": "/var/lib/postgresql/data"}]}}}',
    ),
    # What is in it
    "adopt: no build": lambda _: recognise.build_of(INSTALL, {"x.Calculator": 3}),
    "adopt: a database elsewhere": lambda _: recognise.settings_of(
        replace(
            INSTALL,
            members={API: Member(API, "x", {"POSTGRES_URL": "jdbc:postgresql://db.example/frs"})},
        )
    ),
    "adopt: a value that cannot be": lambda _: recognise.settings_of(
        replace(INSTALL, members={CORE: Member(CORE, "x", {"IMG_LENGTH_LIMIT": "many"})})
    ),
    "adopt: no image of PostgreSQL": _no_image,
    "adopt: what is shown": lambda _: "\n".join(adopt.shown(_found())),
    "adopt: another calculator": lambda _: adopt._judge(
        _other("insightface.Calculator@arcface_mobilefacenet"), Wanted(), Output()
    ),
    "adopt: no pictures": lambda _: adopt._judge(_found(sample=()), Wanted(yes=True), Output()),
    "adopt: faces apart": _apart,
    "adopt: not confirmed": lambda _: adopt._confirm(_found(), Wanted(), Output(json_mode=True)),
    "adopt: refused by the user": _asked("n", lambda out: adopt._confirm(_found(), Wanted(), out)),
    # What is adopted
    "adopt: a name that is taken": lambda _: (
        _saved(),
        _call(adopt._refuse_taken, "faces"),
    )[1],
    "adopt: adopted already": lambda _: (
        _saved(),
        adopt._settled(INSTALL, "faces", Options(), Output()),
    )[1],
    "adopt: cut off, dry run": lambda _: (
        _half("switching"),
        adopt._settled(INSTALL, "faces", Options(dry_run=True), Output()),
    )[1],
    "adopt: cut off": lambda _: adoption.refuse_half(_half("switching")),
    "release: cut off": lambda _: adoption.refuse_half(_half("releasing")),
    "release: cut off, in status": lambda _: kept.cut_off_words(_half("releasing")),
    "adopt: never removed": lambda _: adoption.refuse_removal(_record()),
    "adopt: two databases": _in_use,
    "release: it does not run again": _ended,
    "release: not adopted": lambda _: release.release("faces", Output()),
    "release: another calculator": _release(lambda: _saved(calculator="sface.Calculator")),
    "release: another volume": _release(lambda: _saved(plan={"data": {"volume": "new"}})),
    "release: another version": _release(
        lambda: _saved(
            plan={
                "data": {"volume": VOLUME},
                "stack": {"api_image": "exadel/compreface-api:1.3.0"},
            }
        )
    ),
    "release: faces of another calculator": _release(_saved, {"x.Calculator": 2}),
    "release: not confirmed": _release(_saved),
    "release: refused by the user": _asked(
        "n", lambda out: release._confirm("faces", ADOPTED, False, out)
    ),
}
