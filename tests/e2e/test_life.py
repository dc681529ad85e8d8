"""An instance's life in any order: what is stored is what a simple model says."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from compreface_cli.errors import CfError
from tests.e2e.machine import Cf, Docker, free_port, post_photograph, sign_up
from tests.e2e.other_build import CALCULATOR, other_build
from tests.faults.ground import Stored, at_rest, until
from tests.faults.ground import running as running_database
from tests.shared import needs_shared, shared

FORMER = "embedded.Calculator@mobilefacenet192"
PHOTOGRAPHS = ("001_A", "002_A", "003_A", "007_B", "008_B", "009_C")
RULES = ("--no-face", "keep-out", "--several", "largest", "--without-image", "keep-out", "--yes")
SUBJECTS = {"A": "Ada", "B": "Bea", "C": "Cleo"}
# A first guess of the seconds that each command takes, for the moment of its death.
USUAL_S = {"up": 14, "down": 5, "backup": 4, "restore": 9, "migrate": 45, "back": 20, "finish": 5}


@dataclass(frozen=True)
class Model:
    """What must be stored: faces by id, with subject and hash of the image, of one calculator."""

    faces: dict[str, tuple[str, str]] = field(default_factory=dict)
    calculator: str = FORMER
    before: str = ""  # the calculator that `--back` returns to; "" after `--finish`

    def holds(self, stored: Stored, *calculators: str) -> None:
        """Raises AssertionError where the database has other faces, or another calculator."""
        faces = [face for face in stored.faces if face[3] != "Facenet2018"]
        assert {face[0]: (face[1], face[5]) for face in faces} == self.faces
        assert {face[3] for face in faces} <= set(calculators or (self.calculator,))
        assert len({face[3] for face in faces}) <= 1, "mixed"


@dataclass
class World:
    """An instance of `cf` on the real engine, and a folder for its backups."""

    cf: Cf
    docker: Docker
    folder: Path
    other: Path  # the second build
    instance: str = ""
    key: str = ""
    port: int = field(default_factory=free_port)
    core_port: int = field(default_factory=free_port)

    def begin(self) -> None:
        self.instance = f"life-{uuid.uuid4().hex[:8]}"
        self.cf.instances.append(self.instance)
        self.ok(*self.up(FORMER))
        self.key = sign_up(f"http://127.0.0.1:{self.port}")["RECOGNITION"]

    def up(self, calculator: str) -> tuple[str, ...]:
        build = "embedded" if calculator == FORMER else str(self.other)
        ports = ("--port", str(self.port), "--core-port", str(self.core_port))
        return ("up", build, "--launcher", "compose", "--instance", self.instance, *ports)

    def ok(self, *words: str, also: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
        done = self.cf.run(*words, timeout_s=600)
        note(f"cf {' '.join(words)}: {done.returncode}")
        assert done.returncode in (0, *also), f"cf {' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done

    def stored(self, name: str = "") -> Stored:
        """Of the instance, running or not, or of another one that does not run."""
        if not name and self.docker("ps", "-q", f"--filter=name=^{self.database}$"):
            return running_database(self.instance)
        image = self.docker("image", "inspect", "--format={{.Id}}", self.postgres)
        return at_rest(name or self.instance, image)

    @property
    def database(self) -> str:
        return f"cf-{self.instance}-compreface-postgres-db-1"

    @property
    def postgres(self) -> str:
        settings_ = self.cf.environment
        return (
            f"{settings_['CF_REGISTRY']}compreface-postgres-db:{settings_['CF_POSTGRES_VERSION']}"
        )

    def asked(self, path: str, photograph: Path) -> tuple[int, Any]:
        return post_photograph(
            f"http://127.0.0.1:{self.port}/api/v1/recognition/{path}", photograph, key=self.key
        )

    def end(self) -> None:
        if self.instance:
            name = self.instance
            self.cf.run("down", name)
            self.cf.run("rm", "--instance", name, "--volumes", "--confirm", name)
        self.docker.sweep(f"cf-{self.instance}")


class Life(RuleBasedStateMachine):
    """Every command on an instance with faces, and the death of each."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.model, self.running = world, Model(), True
        self.backups: list[tuple[Path, Model]] = []
        world.begin()

    def teardown(self) -> None:
        self.world.end()

    # --- commands: each returns the words, and the model once it has worked ----------------------

    def _up(self) -> tuple[tuple[str, ...], Model]:
        return self.world.up(self.model.calculator), self.model

    def _down(self) -> tuple[tuple[str, ...], Model]:
        return ("down", self.world.instance), self.model

    def _migrate(self) -> tuple[tuple[str, ...], Model]:
        other = CALCULATOR if self.model.calculator == FORMER else FORMER
        build = "embedded" if other == FORMER else str(self.world.other)
        words = ("data", "migrate", self.world.instance, "--to", build, "--accept-worse", *RULES)
        return words, replace(self.model, calculator=other, before=self.model.calculator)

    def _back(self) -> tuple[tuple[str, ...], Model]:
        words = ("data", "migrate", self.world.instance, "--back", "--yes")
        return words, replace(self.model, calculator=self.model.before, before="")

    def _finish(self) -> tuple[tuple[str, ...], Model]:
        name = self.world.instance
        words = ("data", "migrate", name, "--finish", "--confirm", name)
        return words, replace(self.model, before="")

    def _backup(self) -> tuple[tuple[str, ...], Model]:
        target = self.world.folder / f"{uuid.uuid4().hex[:8]}.cfbackup"
        self.backups.append((target, self.model))
        return ("data", "backup", self.world.instance, "-o", str(target), "--force"), self.model

    @initialize()
    def two_people(self) -> None:
        for name in ("001_A", "007_B"):
            self.add_a_face(name)

    # --- rules ----------------------------------------------------------------------------------

    @precondition(lambda self: not self.running)
    @rule()
    def up(self) -> None:
        self._done(self._up())
        self.running = True

    @precondition(lambda self: self.running)
    @rule()
    def down(self) -> None:
        self._done(self._down())
        self.running = False

    @precondition(lambda self: self.running)
    @rule(name=st.sampled_from(PHOTOGRAPHS))
    def add_another_face(self, name: str) -> None:
        self.add_a_face(name)

    def add_a_face(self, name: str) -> None:
        photograph = shared("faces", "compreface-samples", f"{name}.jpg")
        subject = SUBJECTS[name[-1]]
        status, answer = self.world.asked(f"faces?subject={subject}", photograph)
        assert status == 201, answer
        image = hashlib.md5(photograph.read_bytes(), usedforsecurity=False).hexdigest()
        faces = {**self.model.faces, str(answer["image_id"]): (subject, image)}
        self.model = replace(self.model, faces=faces)
        self._recognised(subject, photograph)

    @rule()
    def back_up(self) -> None:
        self._done(self._backup())

    @precondition(lambda self: bool(self.backups))
    @rule(data=st.data())
    def restore_as_new(self, data: st.DataObject) -> None:
        file, model = data.draw(st.sampled_from(self.backups))
        self._restored(file, model)

    @precondition(lambda self: self.running and self.model.faces and not self.model.before)
    @rule()
    def migrate(self) -> None:
        self._done(self._migrate())

    @precondition(lambda self: self.running and bool(self.model.before))
    @rule()
    def migrate_back(self) -> None:
        self._done(self._back())

    @precondition(lambda self: self.running and bool(self.model.before))
    @rule()
    def finish(self) -> None:
        self._done(self._finish())

    @rule(data=st.data(), moment=st.floats(0.0, 1.0))
    def kill_in_the_middle(self, data: st.DataObject, moment: float) -> None:
        """Kill -9 of any command that may run now; the same command again ends it."""
        may: dict[str, Callable[[], tuple[tuple[str, ...], Model]]] = {"backup": self._backup}
        may["down" if self.running else "up"] = self._down if self.running else self._up
        if self.running and self.model.before:
            may |= {"back": self._back, "finish": self._finish}
        elif self.running and self.model.faces:
            may["migrate"] = self._migrate
        name = data.draw(st.sampled_from(sorted(may)))
        words, after = may[name]()
        self._kill(words, moment * USUAL_S[name])
        until(self._answers, 60, lambda: "the database does not answer")
        self.model.holds(self.world.stored(), self.model.calculator, after.calculator)
        self._done((words, after), also=(4,) if name in ("back", "finish") else ())
        self.running = {"up": True, "down": False}.get(name, self.running)

    @precondition(lambda self: bool(self.backups))
    @rule(data=st.data(), moment=st.floats(0.0, 1.0))
    def kill_a_restore(self, data: st.DataObject, moment: float) -> None:
        file, model = data.draw(st.sampled_from(self.backups))
        name = f"{self.world.instance}-r"
        self._kill(("data", "restore", str(file), "--instance", name), moment * USUAL_S["restore"])
        self._restored(file, model, also=(4,))

    @invariant()
    def what_is_stored_is_what_the_model_says(self) -> None:
        self.model.holds(self.world.stored())

    # --- helpers --------------------------------------------------------------------------------

    def _done(self, command: tuple[tuple[str, ...], Model], *, also: tuple[int, ...] = ()) -> None:
        words, self.model = command
        self.world.ok(*words, also=also)

    def _kill(self, words: tuple[str, ...], after_s: float) -> None:
        with tempfile.TemporaryFile("w+") as spoken:
            child = self.world.cf.start(*words, output=spoken)
            try:
                child.wait(after_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        note(f"cf {' '.join(words)}: killed after {after_s:.2f} s, or ended with its code")

    def _restored(self, file: Path, model: Model, *, also: tuple[int, ...] = ()) -> None:
        name = f"{self.world.instance}-r"
        self.world.ok("data", "restore", str(file), "--instance", name, also=also)
        model.holds(self.world.stored(name))
        self.world.ok("rm", "--instance", name, "--volumes", "--confirm", name)
        assert self.world.docker.things_of(f"cf-{name}") == []

    def _answers(self) -> bool:
        try:
            self.world.stored()
        except (AssertionError, CfError):  # it recovers, or is being started
            return False
        return True

    def _recognised(self, subject: str, photograph: Path) -> None:
        status, answer = self.world.asked("recognize", photograph)
        assert status == 200, answer
        assert answer["result"][0]["subjects"][0]["subject"] == subject


@pytest.fixture
def world(
    docker: Docker, cf: Cf, stack: dict[str, str], embedded: dict[str, Any], tmp_path: Path
) -> Iterator[World]:
    cf.environment |= stack
    folder = tmp_path / "backups"
    folder.mkdir()
    made = World(cf, docker, folder, other_build(cf))
    yield made
    made.end()


@needs_shared
@pytest.mark.slow
def test_whatever_happens_the_data_is_what_the_model_says(world: World) -> None:
    """A few steps; as many as the profile says with `--hypothesis-profile=explore`."""
    exploring = not settings().derandomize
    # The first examples are the simplest there are.
    steps = settings(
        max_examples=20 if exploring else 2,
        stateful_step_count=30 if exploring else 8,
        suppress_health_check=list(HealthCheck),
    )

    class OfThisWorld(Life):
        def __init__(self) -> None:
            super().__init__(world)

    run_state_machine_as_test(OfThisWorld, settings=steps)
