"""`cf up`: from a build's name to an engine that knows a known face, or back to what was before.

Everything this run creates goes onto one clean-up stack. A running instance goes on until its
successor has answered rightly; when that one fails, the old one runs again and is checked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from compreface_cli import leftovers, resources
from compreface_cli.builds import builds
from compreface_cli.checks import Finding, bind
from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.config import paths, settings
from compreface_cli.deploy import changes, databases, running, takeover, unfinished, up_wanted
from compreface_cli.deploy.preflight import Preflight
from compreface_cli.engine import check, known_answer, venv
from compreface_cli.errors import CfError, DataRefusedError, UnhealthyError
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment, Endpoint, ServiceState
from compreface_cli.launchers.launcher import Material
from compreface_cli.plan import plan as plans
from compreface_cli.plan.operations import Away, away
from compreface_cli.plan.plan import Operation, Plan, with_launcher
from compreface_cli.terminal.heartbeat import Heartbeat
from compreface_cli.terminal.output import Output

TIMEOUT_S = running.TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Options:
    """What `cf up` was told beside the plan; build: None as needed, True always, False never."""

    build: bool | None = None
    pull: bool = False
    dry_run: bool = False
    timeout_s: float | None = None
    accept_hash: Mapping[str, Sequence[str]] = field(default_factory=dict)
    wheels: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What runs now, or what a dry run would do."""

    plan: Plan
    change: str  # "started", "replaced", "already running", "dry run"
    deployment: Deployment | None = None
    services: tuple[ServiceState, ...] = ()
    proof: known_answer.Proof | None = None
    operations: tuple[Operation, ...] = ()
    replaces: bool = False  # a dry run: something runs that this would change
    away: tuple[Away, ...] = ()  # services that would not answer meanwhile
    left_out: str = ""
    findings: tuple[Finding, ...] = ()  # what the checks warn of


def resolve(flags: Mapping[str, Any], out: Output) -> Plan:
    """The plan these flags ask for; what upstream's keys became is said once."""
    chosen = settings.resolve(flags)
    for note in chosen.notes:
        out.note(note)
    plan = plans.resolve(builds.load(chosen.get("build")), chosen)
    asked = _asks_for_docker(plan) if plan.launcher == "auto" else ""
    if asked:
        out.note(f"Launcher: compose, because {asked}")
        plan = replace(plan, launcher="compose")
    services = chosen.given("services")
    ignored = services is not None and services.value == "full" and services.layer != "flag"
    if plan.launcher == "process" and services is not None and ignored:
        out.warning(f"services: full ({services.where}) has no effect on a local process")
    beside, port = chosen.given("core_port"), chosen.given("port")
    if plan.launcher == "process" and beside is not None and port is not None:
        out.warning(f"core_port ({beside.where}) has no effect on a local process with a port")
    if chosen.given("rate_burst") and not chosen.given("rate_limit"):
        out.warning("rate_burst has no effect without rate_limit")
    return plan


def _asks_for_docker(plan: Plan) -> str:
    """What somebody has said, in whatever layer, that only Docker can give; "" when nothing."""
    full = plan.services == "full"
    said = [("image", plan.image)]
    said += [("services", "full"), ("core_port", str(plan.core_port))] if full else []
    found = [
        f"{key} is {value} ({plan.origins[key]})"
        for key, value in said
        if plan.origins.get(key, "default") != "default"
    ]
    return " and ".join(found)


def up(plan: Plan, options: Options, out: Output) -> Result:
    """Bring the instance of `plan` to run. Raises a CfError after everything was put back."""
    if options.dry_run:
        return _dry_run(plan, options, out)
    store = running.instances()
    with interruptible(), store.lock(plan.instance, f"cf up {plan.build}"):
        for prefix in ("cf-build-", "cf-plan-", "cf-trial-"):
            leftovers.sweep(prefix)
        old = unfinished.settle(plan.instance, out)
        plan = up_wanted.keeping_ports(plan, old)
        if old is not None and old.phase == "running":
            known = running.deployment(old)
            running.launcher(known.launcher).resume(known, out.note)
            same = _runs_already(plan, old, options)
            if same is not None:
                databases.warn(old, same.deployment, out)
                return _as_it_is(same, out)
        look = _look(plan, old, options, out)
        with CleanUp(out.note, out.waiting) as undo:
            run = _Run(up_wanted.with_ports(look.plan, old), old, options, out, undo)
            return replace(run.go(look.choice.leaves_out), findings=look.warnings)


def _as_it_is(same: Result, out: Output) -> Result:
    """What runs already, with what is to be said of it each time."""
    findings = tuple(bind.judge(same.plan))
    up_wanted.say(findings, out)
    return replace(same, findings=findings)


def _look(plan: Plan, old: Record | None, options: Options, out: Output) -> Preflight:
    """The checks of the plan; raises for all that stands in the way."""
    may, must = options.build is not False, options.build is True
    with out.waiting("Checking this machine"):
        look = up_wanted.look(plan, old, out, may_build=may, must_build=must)
    look.raise_for()
    if look.plan.launcher == "compose":
        from compreface_cli.deploy import project_folder

        project_folder.refuse_broken(look.plan)
    return look


def _dry_run(plan: Plan, options: Options, out: Output) -> Result:
    from compreface_cli.deploy import up_plan

    old = running.instances().load(plan.instance)
    if old is not None and old.unfinished:
        out.note(f"An earlier `{old.command}` was cut off; `cf up` puts that right first")
        old = old.previous
    plan = up_wanted.keeping_ports(plan, old)
    if old is not None and old.phase == "running":
        same = _runs_already(plan, old, options)
        if same is not None:
            return _as_it_is(same, out)
    look = _look(plan, old, options, out)
    if look.plan.launcher == "compose":
        from compreface_cli.deploy import render_place

        render_place.warn_of_password(look.plan, paths.project_dir(plan.instance), look.facts, out)
    if plan.models:
        from compreface_cli.models import store

        store.foresee(plan.models, options.accept_hash)
    settled = replace(look, plan=up_wanted.with_ports(look.plan, old))
    steps, seen = up_plan.steps(settled, old, build=options.build, pull=options.pull)
    return Result(
        look.plan,
        "dry run",
        operations=steps,
        replaces=seen.running == "other",
        away=away(seen),
        left_out=look.choice.leaves_out,
        findings=look.warnings,
    )


def _runs_already(plan: Plan, old: Record, options: Options) -> Result | None:
    """The result for an instance that is just what is wanted and answers rightly, else None."""
    if old.phase != "running":
        return None
    deployment = running.deployment(old)
    composed = deployment.launcher == "compose"
    if composed and (options.build or options.pull):
        return None
    wanted = up_wanted.with_ports(_as_launched(plan, deployment), old)
    if up_wanted.digest(wanted) != old.digest:
        return None
    found = running.health(old, busy=False)
    if found.state != "running":
        return None
    if composed:
        from compreface_cli.deploy import project_folder

        if project_folder.takes_another_image(plan, options.build, deployment.data["image"]):
            return None
    try:
        answer = known_answer.KnownAnswer.from_dict(old.answer)
        proof = known_answer.check(deployment.engine, answer, time.monotonic() + 10.0)
    except CfError:
        return None  # it runs and answers wrongly: the rest of `up` puts a right one in its place
    return Result(wanted, "already running", deployment, found.services, proof)


def _as_launched(plan: Plan, deployment: Deployment) -> Plan:
    if plan.launcher == "auto" or plan.launcher == deployment.launcher:
        return with_launcher(plan, deployment.launcher)
    return plan


class _Run:
    """One start of one settled plan, with the clean-up stack that undoes it."""

    def __init__(
        self, plan: Plan, old: Record | None, options: Options, out: Output, undo: CleanUp
    ) -> None:
        self.plan = plan
        self.old = old
        self.options = options
        self.out = out
        self.undo = undo
        self.progress = Heartbeat(out).progress
        self.store = running.instances()
        self.launcher = running.launcher("compose" if plan.launcher == "compose" else "process")
        self.before = running.deployment(old) if old and old.deployment else None
        self.before_runs = self.before is not None and running.alive(
            running.launcher(self.before.launcher).services(self.before)
        )
        self.before_gave_way = False
        if self.before_runs:
            undo.left = f"'{plan.instance}' runs as before"
        self.image: str | None = None
        self.record = self._begun()
        self.began: float | None = None
        self.start_s: Mapping[str, float] = {}

    def go(self, left_out: str) -> Result:
        # First on the stack, last undone: by then the old project folder is back in its place.
        self.undo.push("the record", self._put_record_back)
        self.store.save(self.record)
        images = CleanUp(self.out.note)
        self.undo.push("the image", lambda: self._forget_image(images))
        self.undo.push("the instance that ran before", self._start_old)
        material, models = self._material(images)
        self.image = material.image
        answer = known_answer.expected(
            self.plan, models, lambda: check.answer(self.plan, self._converter)
        )
        self._refuse_another_model(answer)
        limit_s = self.options.timeout_s or TIMEOUT_S[self.launcher.kind]
        new = self.launcher.prepare(self.plan, material, self.undo, self.out.note)
        self.record = replace(
            self.record,
            digest=up_wanted.digest(self.plan),
            deployment=new.as_dict(),
            answer=asdict(answer),
            engine_env=material.python.parent.parent.name if material.python else "",
        )
        self.store.save(self.record)
        if self.before is not None and self.before_runs and not takeover.obstacle(self.before, new):
            self._change_running(self.before, new, answer, limit_s)
        else:
            if self.before_runs:
                self.out.note("The new engine is tried beside the running one")
                self._try(new, answer, limit_s)
            self.undo.push("the new instance", lambda: self.launcher.stop(new))
            self._switch_to(new)
        try:
            proof = self._prove(new, answer, limit_s)
        except UnhealthyError as error:
            raise running.explain(error, new) from error
        known = self.old.start_s if self.old else {}
        start_s = {**known, **self.start_s, **changes.start_seconds(new)}
        self.store.save(
            replace(
                self.record,
                phase="running",
                previous_record=None,
                touched=[],
                command="",
                start_s=start_s,
            )
        )
        self.undo.commit()
        self._discard_old()
        services = self.launcher.services(new)
        change = "replaced" if self.before_runs else "started"
        return Result(self.plan, change, new, services, proof, left_out=left_out)

    def _begun(self) -> Record:
        """What is written down before anything is changed; until then the old one is deployed."""
        plan = self.plan
        return Record(
            name=plan.instance,
            build=plan.build,
            calculator=plan.calculator,
            services=plan.services,
            phase="starting",
            created=now(),
            deployment=self.old.deployment if self.old else {},
            previous_record=asdict(self.old) if self.old else None,
            plan=plan.as_dict(),
            engine_env=self.old.engine_env if self.old else "",
            command=f"cf up {plan.build}",
        )

    def _material(self, images: CleanUp) -> tuple[Material, Mapping[str, Path]]:
        """Models, environment or image and project: everything that is ready before a start.

        `images` undoes the image: it can go once no container of this run is left.
        """
        plan = self.plan
        port, core_port = int(plan.port), int(plan.core_port)
        full = plan.services == "full"
        bind, number = ("127.0.0.1", core_port) if full else (plan.bind, port)
        engine = Endpoint(bind, number, plan.key)
        ui = Endpoint(plan.bind, port) if full else None
        python: Path | None = None
        if self.launcher.kind == "process":
            python = self._environment(plan.wheels)
        models: dict[str, Path] = {}
        if plan.models:
            from compreface_cli.models import store

            models = store.ensure(
                plan.models,
                self.progress,
                python=self._converter,
                portrait=resources.portrait(),
                note=self.out.note,
                accept_hash=self.options.accept_hash,
                timeout_s=self.options.timeout_s,
            )
            check.models(plan, self._converter)
        if self.launcher.kind == "process":
            folder = paths.models_dir() if models else None
            return Material(engine, ui, models_dir=folder, python=python), models
        from compreface_cli.deploy import project_folder

        written = project_folder.write(plan, models, self.undo)
        image = project_folder.image(
            plan, written, self.options.build, images, self.out, pull=self.options.pull
        )
        return Material(engine, ui, folder=written, image=image), models

    def _refuse_another_model(self, answer: known_answer.KnownAnswer) -> None:
        """One name, two files: the embeddings of the instance must stay comparable."""
        if self.old is None or not self.old.answer or self.old.calculator != self.plan.calculator:
            return  # another name was refused before, unless nothing is stored yet
        if not known_answer.same_space(known_answer.KnownAnswer.from_dict(self.old.answer), answer):
            raise DataRefusedError(
                f"the model behind {self.plan.calculator} is another one than instance "
                f"'{self.old.name}' has: their embeddings cannot be compared",
                hint="Give the new model a name of its own in the build, or start it as another "
                "instance (--instance NAME).",
            )

    def _converter(self) -> Path:
        """The interpreter that prepares models: the engine's own one where that is made anyway."""
        own = self.launcher.kind == "process" and venv.converts(self.plan.wheels)
        return self._environment(self.plan.wheels if own else "cpu")

    def _environment(self, row: str) -> Path:
        env = venv.ensure(
            paths.engine_environments_dir(),
            venv.inputs(row),
            report=self.out.note,
            progress=self.progress,
            wheels=self.options.wheels,
        )
        return env.python

    def _change_running(
        self, before: Deployment, new: Deployment, answer: known_answer.KnownAnswer, limit_s: float
    ) -> None:
        """Make only those containers anew that have changed, the engine beside the running one."""
        if "core" in changes.of(new):
            self.out.note("The new engine starts beside the running one")
            takeover.swap(new, answer, self.out, limit_s=limit_s, taking_over=self._gives_way)
        self._gives_way()
        self._touches(changes.of(new))
        with self.out.waiting("Starting what has changed"):
            self.launcher.start(new, self.out.note, replacing=before)

    def _gives_way(self) -> None:
        self.before_gave_way = True

    def _touches(self, services: Iterable[str]) -> None:
        """Write down what may be half stopped if this run is cut off from here on."""
        self.record = replace(self.record, touched=list(services))
        self.store.save(self.record)

    def _switch_to(self, new: Deployment) -> None:
        """Start the new one; what ran before gives way."""
        self.before_gave_way = self.before_runs
        self.began = time.monotonic()
        same = self.before is not None and self.before.launcher == new.launcher
        if self.before is not None and self.before_runs and self.before.launcher == "compose":
            theirs = running.launcher("compose").services(self.before)
            self._touches(changes.of(new, beside=False) if same else (one.name for one in theirs))
        if self.before is not None and not same:
            with self.out.waiting("Stopping the running instance"):
                running.launcher(self.before.launcher).stop(self.before)
        with self.out.waiting("Starting the services"):
            self.launcher.start(new, self.out.note, replacing=self.before if same else None)

    def _try(self, new: Deployment, answer: known_answer.KnownAnswer, deadline_s: float) -> None:
        deadline = time.monotonic() + deadline_s
        waiting = self.out.waiting("Waiting for the new engine's answer")
        with waiting, self.launcher.trial(new, self.out.note) as (endpoint, look):
            try:
                known_answer.wait(endpoint, look, deadline)
                known_answer.check(endpoint, answer, deadline)
            except UnhealthyError as error:
                self.out.note("The running instance stays as it is")
                raise running.explain(error, new, trial=True) from error

    def _prove(
        self, new: Deployment, answer: known_answer.KnownAnswer, deadline_s: float
    ) -> known_answer.Proof:
        deadline = time.monotonic() + deadline_s
        with self.progress("Waiting for the engine's answer", None):
            known_answer.wait(new.engine, lambda: self.launcher.services(new)[0], deadline)
            if self.began is not None:
                self.start_s = {"core": round(time.monotonic() - self.began, 1)}
            running.refuse_foreign_listener(new)
            proof = known_answer.check(new.engine, answer, deadline)
            known_answer.wait_for_all(lambda: self.launcher.services(new), deadline)
        return proof

    def _start_old(self) -> None:
        """The way back: the old one runs again and is asked for the known face."""
        if self.old is None or self.before is None:
            return
        theirs, before = running.launcher(self.before.launcher), self.before
        if not self.before_gave_way:
            if self.before_runs:
                theirs.tidy(before)
            return
        answer = known_answer.KnownAnswer.from_dict(self.old.answer)
        limit_s = self.options.timeout_s or TIMEOUT_S[before.launcher]
        theirs.tidy(before, self.record.touched)
        if not takeover.obstacle(before, before) and "core" in changes.of(before):
            takeover.swap(before, answer, self.out, limit_s=limit_s)
        theirs.start(before, self.out.note, limit_s=self.options.timeout_s)
        deadline = time.monotonic() + limit_s
        known_answer.wait(before.engine, lambda: theirs.services(before)[0], deadline)
        known_answer.check(before.engine, answer, deadline)
        known_answer.wait_for_all(lambda: theirs.services(before), deadline)
        self.out.note("The instance that ran before runs again and answers rightly")

    def _forget_image(self, images: CleanUp) -> None:
        images.undo()
        if self.image is not None:
            from compreface_cli.docker import image

            image.drop_nameless(self.image)  # its name is the old one's again

    def _put_record_back(self) -> None:
        if self.undo.failures:
            self.out.warning(
                f"what is left of '{self.plan.instance}' is known: the next `cf up` of it puts it "
                f"right, `cf down {self.plan.instance}` stops it"
            )
        elif self.old is None:
            self.store.remove(self.plan.instance)
        else:
            self.store.save(self.old)

    def _discard_old(self) -> None:
        """What only the old one needed; a Compose project is the new one's by now."""
        before = self.before
        if before is not None and (before.launcher, self.launcher.kind) != ("compose", "compose"):
            running.launcher(before.launcher).remove(before)
        if self.launcher.kind == "compose":
            from compreface_cli.deploy import project_folder

            project_folder.forget_old(self.plan)
        remove_unused_environments(self.plan.wheels)


def remove_unused_environments(*rows: str) -> None:
    """Remove the engine's environments that no instance and no row named here needs."""
    home = paths.engine_environments_dir()
    if home.is_dir():
        records, _ = running.instances().all()
        current = [venv.inputs(row).key() for row in {"cpu", *rows}]
        used = [one for record in records for one in (record, record.previous) if one is not None]
        venv.remove_unused(home, [*current, *(one.engine_env for one in used)])
