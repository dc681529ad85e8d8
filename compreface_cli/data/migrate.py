"""`cf data migrate`: moves an instance to another build, its faces included, and back."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.data import backup
from compreface_cli.data.migration import (
    compute,
    foresight,
    quality,
    report,
    rules,
    services,
    switch,
    tables,
)
from compreface_cli.data.migration.quality import Quality
from compreface_cli.data.migration.rules import Rules, Verdict
from compreface_cli.data.migration.tables import Run, Target
from compreface_cli.data.recompute import Seen
from compreface_cli.deploy import running, same_settings, unfinished
from compreface_cli.deploy import up as deploy
from compreface_cli.deploy.beside import engine_beside
from compreface_cli.docker.postgres import Session
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import (
    CfError,
    ConfigurationError,
    ConflictError,
    Interruption,
    UnhealthyError,
    UsageError,
)
from compreface_cli.facts import places
from compreface_cli.instance import migrations
from compreface_cli.instance.migrations import Mark
from compreface_cli.instance.records import Record
from compreface_cli.plan.operations import Options as UpOptions
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output

_FEW = 32  # faces that are left for when the api is stopped
_PASSES = 10


@dataclass(frozen=True, slots=True)
class Options:
    """The options of a migration; `jobs` images are computed at once, 0: half of the cores."""

    rules: Rules = field(default_factory=Rules)
    jobs: int = 0
    accept_worse: bool = False
    accept_licence: Sequence[str] | None = None
    yes: bool = False
    dry_run: bool = False
    timeout_s: float | None = None

    @property
    def at_once(self) -> int:
        return self.jobs or max(1, (os.cpu_count() or 2) // 2)


@dataclass(frozen=True, slots=True)
class Migrated:
    """What a run has done.

    `change`: "dry run", "migrated", "returned", "completed", or "already migrated": nothing.
    """

    instance: str
    change: str
    plan: foresight.Plan | None = None
    verdict: Verdict | None = None
    quality: tuple[Quality, ...] = ()
    subjects: Sequence[dict[str, Any]] = ()
    report: Path | None = None
    backup: str = ""
    result: deploy.Result | None = None


def migrate(name: str, to: str | None, out: Output, options: Options, *, back: bool) -> Migrated:
    """Migrate the instance to the build `to`; None: go on with what was cut off; `back`: return.

    Raises DataRefusedError for what the rules refuse, ConflictError for a run that does not fit
    what an earlier one has left, and as each step does. Whatever ends it, no face is lost or mixed,
    and the same command goes on.
    """
    with interruptible(), running.instances().lock(name, f"cf data migrate {name}"):
        record = running.record_of(name)
        if record is None:
            raise ConfigurationError(
                f"there is no instance '{name}'", hint="`cf status` lists the instances."
            )
        running.refuse_swarm(record, f"cf data migrate {name}")
        with places.of_record(record).opened() as server, Session(server) as session:
            before = tables.run_of(session)
        if before is not None and before.phase == "switched":
            return _completed(record, before, to, back, out, options)
        if not options.dry_run:
            record = _runs(unfinished.settle(name, record, out) or record, out)
        if before is not None and before.phase == "computing" and to is None:
            back = back or before.back
            options = replace(options, rules=options.rules.over(before.rules))
        if before is not None and before.phase == "done" and not before.back and not back:
            if to is not None and _absolute(to) == before.build:
                return Migrated(name, "already migrated")  # by a run that was killed as it ended
        wanted = _wanted(record, before, to, out, options, back=back)
        run = _Migration(record, before, *wanted, out, options, back)
        try:
            return run.carry_out()
        except Interruption as interrupted:
            interrupted.outcome = interrupted.outcome or (
                f"what was computed stays, and `{run.command}` goes on; '{name}' runs as before"
            )
            raise


def _runs(record: Record, out: Output) -> Record:
    """The record of the running instance, which a switch that was cut off may have stopped."""
    if record.phase == "running" or migrations.marked(record.name) is None or not record.plan:
        return record
    out.note(f"'{record.name}' was stopped by a run that was cut off; it starts again")
    deploy.under_lock(same_settings.as_it_was(record, out), UpOptions(), out)
    return running.record_of(record.name) or record


def _wanted(
    record: Record, before: Run | None, to: str | None, out: Output, options: Options, *, back: bool
) -> tuple[Plan, str]:
    """The plan to migrate to, and its build as `cf up` takes it."""
    name = record.name
    if record.phase != "running" or not record.plan:
        raise ConfigurationError(
            f"instance '{name}' does not run",
            hint=f"Start it with its present build first: {running.start_command(record)}",
        )
    returns = before is not None and (before.back or before.phase == "done")
    if back:
        if before is None or not returns or (before.back and before.phase == "done"):
            raise ConfigurationError(
                f"'{name}' has nothing to return to: its faces are those of {record.build}",
                hint=f"`cf data migrate {name} --to BUILD` migrates it.",
            )
        former = Record(**((before.returns_to if before.back else None) or before.former))
        plan = same_settings.with_build_of(record, former, out)
        return plan, _named(former.plan, former.build)
    if before is not None and before.phase == "done" and not before.back:
        if to is None:
            raise ConflictError(
                f"'{name}' is migrated to {before.build} already",
                hint=f"`cf data migrate {name} --finish` removes the old embeddings, "
                f"`cf data migrate {name} --back` returns to them.",
            )
        raise ConflictError(
            f"'{name}' still has the embeddings of {before.former_build} to return to",
            hint=f"First `cf data migrate {name} --finish` removes them, or `cf data migrate "
            f"{name} --back` returns to them.",
        )
    if to is None:
        if before is None or before.phase != "computing" or before.back:
            raise UsageError(
                "the build to migrate to is missing", hint=f"cf data migrate {name} --to BUILD"
            )
        to = before.build
    plan = same_settings.with_build(record, _absolute(to), accept_licence=options.accept_licence)
    return plan, plan.origins.get("build", plan.build)


def _absolute(build: str) -> str:
    """A build's name as it is, and the whole path of its file: it may be read in another folder."""
    is_file = "/" in build or build.endswith((".yaml", ".yml"))
    return str(Path(build).absolute()) if is_file else build


def _named(plan: Mapping[str, Any], build: str) -> str:
    """The build as `cf up` takes it: its name, or the path of its file."""
    return str(plan.get("origins", {}).get("build", build))


@dataclass
class _Migration:
    """One run, from a running instance on."""

    record: Record
    before: Run | None  # what an earlier run has written down
    wanted: Plan
    build: str
    out: Output
    options: Options
    back: bool

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def command(self) -> str:
        return f"cf data migrate {self.name}{' --back' if self.back else ''}"

    @property
    def resumes(self) -> bool:
        before = self.before
        return (
            before is not None
            and before.phase == "computing"
            and (before.back, before.calculator) == (self.back, self.wanted.calculator)
        )

    def carry_out(self) -> Migrated:
        by = self.options.rules
        with self._session() as session:
            target = Target.of(session, self.wanted.calculator)
            plan = foresight.foresee(
                session, target, self.record, (self.build, self.wanted.calculator), by
            )
        if plan.verdict.refused:
            return self._refused(plan)
        self._complete_services()
        with ExitStack() as stack:
            client = self._engine(stack)
            plan = self._measured(client, plan)
            for line in foresight.lines(plan):
                self.out.note(line)
            if self.options.dry_run:
                return Migrated(self.name, "dry run", plan)
            foresight.need_room(plan.needed, plan.free)
            self._ask()
            saved = self._begin()
            migrations.mark(self.name, Mark("computing", self.build, self.command))
            self._compute(client, plan)
            with self._session() as session:
                target = Target.of(session, self.wanted.calculator)
                verdict = rules.judge(tables.tally(session, target), by)
                path = report.write(session, target, by, self.name)
                subjects = report.subjects(session, target, by)
                self._say(verdict, subjects, path)
                said = {"report": str(path) if path else None, "subjects": subjects}
                switch.refuse(verdict, self.name, said)
                compared = () if self.back else self._compared(session, target, client)
            done = Migrated(
                self.name,
                "returned" if self.back else "migrated",
                plan,
                verdict,
                compared,
                subjects,
                path,
                saved,
            )
            return replace(done, result=self._switch(client, stack))

    @contextmanager
    def _session(self) -> Iterator[Session]:
        with places.of_record(self.record).opened() as server, Session(server) as session:
            yield session

    def _refused(self, plan: foresight.Plan) -> Migrated:
        """A dry run shows the plan; else nothing is begun."""
        for line in foresight.lines(plan):
            self.out.note(line)
        if self.options.dry_run:
            return Migrated(self.name, "dry run", plan)
        switch.refuse(plan.verdict, self.name, {"plan": plan.as_dict()})
        raise AssertionError  # it was refused

    def _complete_services(self) -> None:
        """Start what an interrupted switch has stopped."""
        known = running.deployment(self.record)
        states = running.launcher(known.launcher).services(known)
        missing = [each.name for each in states if each.state in ("missing", "stopped")]
        if not missing or self.options.dry_run:
            return
        self.out.note(f"Starting what does not run: {', '.join(missing)}")
        services.start_again(known, self.record, self.out)

    def _engine(self, stack: ExitStack) -> EngineClient:
        """The new engine beside the running one; it answers rightly before anything changes."""
        options = UpOptions(timeout_s=self.options.timeout_s)
        endpoint = stack.enter_context(engine_beside(self.wanted, self.out, options))
        return stack.enter_context(EngineClient(endpoint.url))

    def _measured(self, client: EngineClient, plan: foresight.Plan) -> foresight.Plan:
        place = places.of_record(self.record)
        with place.opened() as server, Session(server) as session:
            target = Target.of(session, self.wanted.calculator)
            with self.out.waiting("Computing stored images to measure the time"):
                sample = foresight.measure(
                    session,
                    client,
                    target,
                    at_once=self.options.at_once,
                    keep=self.resumes and not self.options.dry_run,
                )
            needed, free = foresight.disk(
                session,
                server,
                plan,
                values=sample.values if sample else 512,
                backup=not self.back,
            )
        return replace(plan, sample=sample, needed=needed, free=free)

    def _ask(self) -> None:
        if self.options.yes or self.resumes:
            return
        answer = self.out.ask(f"Migrate '{self.name}' to {self.build} now? [y/N] ")
        if answer is not None and answer.lower() not in ("y", "yes"):
            raise UsageError(f"'{self.name}' was not migrated", hint="Nothing was changed.")

    def _begin(self) -> str:
        """Take the backup and write the run down; returns the backup's path."""
        if self.resumes and self.before is not None:
            with self._session() as session:
                tables.set_rules(session, self.options.rules.as_dict())
            return self.before.backup
        place = places.of_record(self.record)
        path = ""
        if not self.back:
            path = str(backup.backup(place, self.out).path)
            self.out.note(f"Backup: {path}")
        returns_to = None
        if self.back and self.before is not None:
            returns_to = self.before.returns_to if self.before.back else self.before.former
        run = Run(
            phase="computing",
            back=self.back,
            calculator=self.wanted.calculator,
            build=self.build,
            former_calculator=self.record.calculator,
            former_build=self.record.build,
            former={**asdict(self.record), "previous_record": None},
            rules=self.options.rules.as_dict(),
            returns_to=returns_to,
            backup=path,
        )
        with self._session() as session:
            tables.begin(session, run)
        return path

    def _compute(self, client: EngineClient, plan: foresight.Plan) -> None:
        """All faces that have no valid embedding yet, and those added meanwhile, but the last."""
        seen: Counter[str] = Counter()
        label = f"Computing embeddings for '{self.name}'"
        with self._session() as session, self.out.counted(label, plan.pending) as advance:
            tables.forget_deleted(session)
            target = Target.of(session, self.wanted.calculator)

            def took(batch: Sequence[Seen]) -> None:
                seen.update(each.kind for each in batch)
                others = [f"{kind}: {n}" for kind, n in sorted(seen.items()) if kind != "one face"]
                advance(len(batch), ", ".join(others))

            for _ in range(_PASSES):
                done = compute.compute(
                    session, client, target, at_once=self.options.at_once, advance=took
                )
                if done <= _FEW:
                    break

    def _say(self, verdict: Verdict, subjects: Sequence[dict[str, Any]], path: Path | None) -> None:
        for row in subjects[:20]:
            self.out.note(
                f"  {row['service']}: {row['subject']}: {row['outcome']} ({row['faces']} kept out, "
                f"{row['left']} left)"
            )
        if path is not None:
            self.out.note(f"  {verdict.kept_out} faces are kept out; the report: {path}")

    def _compared(
        self, session: Session, target: Target, client: EngineClient
    ) -> tuple[Quality, ...]:
        """The comparison of old and new embeddings; raises DataRefusedError if it got worse."""
        from compreface_cli.docker import image
        from compreface_cli.plugin_table import same_calculator

        former = self.record.calculator
        spellings = [
            str(row["calculator"])
            for row in session.rows("select distinct calculator from public.embedding")
            if same_calculator(str(row["calculator"]), former)
        ]
        known = running.deployment(self.record)
        try:
            with EngineClient(known.engine.url, key=known.engine.key) as running_engine:
                before = _coefficients(running_engine)
            with self.out.waiting("Comparing the old and the new embeddings"):
                compared = quality.compare(
                    session,
                    target,
                    spellings,
                    self.options.rules,
                    [image.id_of(self.wanted.image), str(known.data["image"])],
                    before=before,
                    after=_coefficients(client),
                )
        except CfError as error:
            if not self.options.accept_worse or getattr(error, "state", None) is not None:
                raise
            self.out.warning(f"the embeddings were not compared: {error.message}")
            return ()
        for line in quality.lines(compared):
            self.out.note(line)
        if not self.options.accept_worse:
            quality.refuse(compared, self.build)
        return compared

    def _switch(self, client: EngineClient, beside: ExitStack) -> deploy.Result:
        """Stop what writes faces, compute the last ones, switch, and start the new engine."""
        known = running.deployment(self.record)
        migrations.mark(self.name, Mark("switching", self.build, self.command))
        with CleanUp(self.out.note, self.out.waiting) as undo:
            undo.left = f"'{self.name}' runs as before; `{self.command}` goes on"
            undo.push("the instance as it was", lambda: services.as_before(self.record, self.out))
            self.out.note(f"Stopping {' and '.join(foresight.WRITERS)} for the switch")
            services.stop_writers(known)
            while not self._switched(client):
                pass
            self.out.note("All faces have their new embeddings; the new engine starts")
            beside.close()
            result = services.start_new(self.record, self.wanted, self.out, self.options.timeout_s)
            undo.commit(f"'{self.name}' runs")
        return result

    def _switched(self, client: EngineClient) -> bool:
        """Whether the switch is done; False if a face had to be computed first."""
        with self._session() as session:
            switch.refuse_others(session)
            target = Target.of(session, self.wanted.calculator)
            compute.compute(session, client, target, at_once=self.options.at_once)
            try:
                with self.out.waiting("Switching the embeddings"):
                    switch.switch(session, target, self.options.rules)
            except switch.Pending:
                return False
        return True


def _completed(
    record: Record, run: Run, to: str | None, back: bool, out: Output, options: Options
) -> Migrated:
    """Start the engine of a switch that was cut off, or go back to the old one if it fails."""
    if (to is not None and to != run.build) or (back and not run.back):
        raise ConflictError(
            f"the switch of '{record.name}' to {run.build} was cut off and is not complete",
            hint=f"Complete it first: cf data migrate {record.name}",
        )
    if options.dry_run:
        out.note(f"The switch to {run.build} is done; its engine would be started")
        return Migrated(record.name, "dry run")
    former = Record(**run.former)
    if former.name != record.name:
        former = record  # the database was restored as another instance
    if run.returns_to:
        plan = same_settings.with_build_of(former, Record(**run.returns_to), out)
    else:
        plan = same_settings.with_build(former, run.build, accept_licence=options.accept_licence)
    out.note(f"A switch to {run.build} was cut off; its engine starts")
    with CleanUp(out.note, out.waiting) as undo:
        undo.push("the instance as it was", lambda: services.as_before(former, out))
        services.stop_writers(running.deployment(former))
        result = services.start_new(former, plan, out, options.timeout_s)
        undo.commit(f"'{record.name}' runs")
    return Migrated(record.name, "completed", backup=run.backup, result=result)


def _coefficients(client: EngineClient) -> tuple[float, ...]:
    try:
        c0, c1 = client.status()["similarity_coefficients"]
        return float(c0), float(c1)
    except (KeyError, TypeError, ValueError) as error:
        raise UnhealthyError(f"the engine at {client.url} names no coefficients") from error
