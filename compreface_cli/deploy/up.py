"""`cf up`: starts an engine and checks that it recognises the reference face, or rolls back.

The plan and the state of this machine give a list of operations; a dry run returns it, a real run
executes it. Everything that a run creates is registered on one clean-up stack. A running instance
is kept until its successor has answered correctly; if that fails, it runs again and is checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Protocol

from compreface_cli import leftovers
from compreface_cli.builds import builds, imported
from compreface_cli.checks import Finding, apis, bind, ui
from compreface_cli.cleanup import CleanUp, interruptible
from compreface_cli.config import paths, settings
from compreface_cli.config.settings import Settings
from compreface_cli.deploy import (
    adoption,
    database_elsewhere,
    databases,
    existing_data,
    fetching,
    image_alone,
    licences,
    observe,
    preflight,
    running,
    steps,
    unfinished,
    versions,
)
from compreface_cli.deploy import ports as ports_of
from compreface_cli.deploy.preflight import Preflight
from compreface_cli.deploy.previous import Previous
from compreface_cli.deploy.run_record import RunRecord
from compreface_cli.engine import known_answer, venv
from compreface_cli.errors import UsageError
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, ServiceState
from compreface_cli.models.needed import Download
from compreface_cli.plan.operations import Away, Operation, Options, away, operations
from compreface_cli.plan.plan import Plan
from compreface_cli.plan.resolve import plan_of
from compreface_cli.terminal.output import Output


@dataclass(frozen=True, slots=True)
class Result:
    """The instance that runs now, or what a dry run would do."""

    plan: Plan
    change: str  # "started", "replaced", "already running", "dry run"
    deployment: Deployment | None = None
    services: tuple[ServiceState, ...] = ()
    proof: known_answer.Proof | None = None
    operations: tuple[Operation, ...] = ()  # that were carried out, or would be
    replaces: bool = False  # a dry run: something runs that this would change
    away: tuple[Away, ...] = ()  # a dry run: services that would not answer meanwhile
    left_out: str = ""
    findings: tuple[Finding, ...] = ()  # the warnings of the checks
    downloads: tuple[Download, ...] = ()  # for models, before anything else


class Change(Protocol):
    """What another command adds to a start, such as `cf upgrade`."""

    command: str
    images: Mapping[str, str]  # of the stack, for the record: setting -> image
    replaces_data: bool  # `begin` puts another database in the place of the present one

    def begin(self, record: RunRecord, undo: CleanUp) -> None:
        """Called once all is prepared, before anything stops."""

    def check(self, new: Deployment) -> None:
        """Called once all services are ready; an error rolls the start back."""


def resolve(flags: Mapping[str, Any], out: Output, options: Options | None = None) -> Plan:
    """The plan for these flags; prints notes on upstream's keys and settings without effect.

    An image without a build is pulled where it is absent, unless `options` ask for a dry run.
    """
    return resolved(adoption.with_settings(settings.resolve(flags)), out, options)


def resolved(chosen: Settings, out: Output, options: Options | None = None) -> Plan:
    """`resolve` for settings that are merged already."""
    for note in chosen.notes:
        out.note(note)
    if name := image_alone.asked(chosen):
        plan = _of_image(name, chosen, options or Options(), out)
    else:
        plan = plan_of(chosen.get("build"), chosen)
        origin, path = builds.find(chosen.get("build"))
        if origin == "imported":
            out.note(f"The build {plan.build} was {imported.read(path).words}")
    asked = _asks_for_docker(plan) if plan.launcher == "auto" else ""
    if asked:
        out.note(f"Launcher: compose, because {asked}")
        plan = replace(plan, launcher="compose")
    plan = existing_data.on_data(database_elsewhere.on_database(plan, chosen, out), chosen, out)
    services = chosen.given("services")
    ignored = services is not None and services.value == "full" and services.layer != "flag"
    if plan.launcher == "process" and services is not None and ignored:
        out.warning(f"services: full ({services.where}) has no effect on a local process")
    core_port, port = chosen.given("core_port"), chosen.given("port")
    if plan.launcher == "process" and core_port is not None and port is not None:
        out.warning(f"core_port ({core_port.where}) has no effect on a local process with a port")
    if chosen.given("rate_burst") and not chosen.given("rate_limit"):
        out.warning("rate_burst has no effect without rate_limit")
    return plan


def _of_image(name: str, chosen: Settings, options: Options, out: Output) -> Plan:
    """The plan of an image alone, by its labels; raises as image_alone's functions do."""
    if options.build:
        raise UsageError(
            "--build needs a build, and only an image is named",
            hint=f"Name the build too: cf up BUILD --image {name} --build",
        )
    image_alone.refuse_flags(chosen)
    labels = image_alone.labels_of(name, out, pull=options.pull, dry_run=options.dry_run)
    build = image_alone.build_of(name, labels)
    plan = plan_of(build, image_alone.settings_for(chosen, labels, out))
    image_alone.answer_of(plan, labels)  # refused before anything is created
    return plan


def _asks_for_docker(plan: Plan) -> str:
    """The settings, of any layer, that need Docker, as text; "" when there are none."""
    full = plan.services == "full"
    values = [("image", plan.image)]
    values += [("services", "full"), ("core_port", str(plan.core_port))] if full else []
    values += [("tls_cert", plan.tls_cert)] if full else []
    values += [("replicas", str(plan.replicas))] if full and plan.replicas > 1 else []
    values += [("postgres_host", plan.stack["postgres_host"])] if full else []
    return " and ".join(
        f"{key} is {value} ({plan.origins[key]})"
        for key, value in values
        if plan.origins.get(key, "default") != "default"
    )


def up(plan: Plan, options: Options, out: Output) -> Result:
    """Start the instance of `plan`. Raises a CfError after it rolled back all changes."""
    if options.dry_run:
        return dry_run(plan, options, out)
    with interruptible(), running.instances().lock(plan.instance, f"cf up {plan.build}"):
        adoption.refuse_half(running.record_of(plan.instance))
        return under_lock(plan, options, out)


def under_lock(
    plan: Plan,
    options: Options,
    out: Output,
    *,
    data_back: Callable[[], None] | None = None,
    change: Change | None = None,
) -> Result:
    """`up` for a caller that holds the instance's lock and is interruptible.

    `data_back` undoes what the caller has changed in the database: a failure calls it before the
    previous instance starts again. `change`: what another command adds to the start.
    """
    for prefix in ("cf-build-", "cf-plan-", "cf-trial-", "cf-beside-"):
        leftovers.sweep(prefix)
    record = running.record_of(plan.instance)
    done = unfinished.cut_off(record)
    old = unfinished.settle(plan.instance, record, out)
    plan = _settled_plan(plan, old, change)
    if old is not None and old.phase == "running":
        known = running.deployment(old)
        running.launcher(known.launcher).resume(known, out.note)
        if result := _unchanged(plan, old, options, out, done):
            return result
    replaced = change is not None and change.replaces_data
    look = preflight.inspect(plan, old, options, out, other_data=replaced)
    look, options = _with_files(look, options, out)
    # It may run with the same fallbacks already.
    if look.plan.replaced and old is not None and old.phase == "running":
        if result := _unchanged(look.plan, old, options, out, done):
            return result
    listed = operations(look.plan, observe.observe(look, old, options), options)
    return _execute(look, old, listed, options, out, done, data_back, change)


def _settled_plan(plan: Plan, old: Record | None, change: Change | None) -> Plan:
    """The plan with the ports and versions of its instance, where it does not choose them."""
    return ports_of.settled(plan if change else versions.settled(plan, old), old)


def _unchanged(
    plan: Plan, old: Record, options: Options, out: Output, done: tuple[Operation, ...]
) -> Result | None:
    """The result if what runs is the plan and answers correctly, else None."""
    with out.waiting("Checking the running instance"):
        same = observe.unchanged(plan, old, options, restored=bool(done))
    if same is None:
        return None
    databases.warn(old, same.deployment, out)
    return _as_it_is(same, done, out)


def _with_files(look: Preflight, options: Options, out: Output) -> tuple[Preflight, Options]:
    """The same once the files of the models are here, or the fallbacks of their plugins taken."""
    plan, needed = fetching.fetched(look.plan, out, options.accept_hash)
    return _settled(look, plan, needed, out), _of_models(plan, options)


def _settled(look: Preflight, plan: Plan, needed: tuple[Download, ...], out: Output) -> Preflight:
    """The same with the fallbacks of `plan`, and a warning for what the UI lacks with them."""
    if plan is look.plan:
        return replace(look, downloads=needed)
    lacks = tuple(finding for finding in ui.judge(plan) if finding.level == "warn")
    preflight.say(lacks, out)
    return replace(look, plan=plan, downloads=needed, findings=(*look.findings, *lacks))


def _of_models(plan: Plan, options: Options) -> Options:
    """The options without accepted hashes of models that the plan has no more."""
    return replace(options, accept_hash=fetching.accepted_hashes(plan, options.accept_hash))


def dry_run(plan: Plan, options: Options, out: Output, change: Change | None = None) -> Result:
    """What `up` would do; nothing is changed."""
    record = running.record_of(plan.instance)
    adoption.refuse_half(record)
    first, old = unfinished.cut_off(record), unfinished.foresee(record)
    if record is not None and record.unfinished and record.command:
        out.note(f"An earlier `{record.command}` was cut off; `cf up` puts that right first")
    restored = bool(first) and old is not None and old.phase == "running"
    plan = _settled_plan(plan, old, change)
    if old is not None and old.phase == "running":
        if restored and observe.wanted_as(plan, old, options) is not None:
            return Result(plan, "dry run", operations=first)
        same = None if restored else observe.unchanged(plan, old, options)
        if same is not None:
            return _as_it_is(same, (), out)
    left = unfinished.deployments(record) if record is not None and first else ()
    replaced = change is not None and change.replaces_data
    look = preflight.inspect(plan, old, options, out, left=left, other_data=replaced)
    if look.plan.in_containers:
        from compreface_cli.deploy import render_place

        render_place.warn_of_password(look.plan, paths.project_dir(plan.instance), look.facts, out)
    look = _settled(look, *fetching.foreseen(look.plan, out), out)
    seen = observe.observe(look, old, _of_models(look.plan, options), restored=restored)
    terms = licences.foresee(look.plan)
    preflight.say(terms, out)
    return Result(
        look.plan,
        "dry run",
        operations=(*first, *operations(look.plan, seen, options)),
        replaces=seen.runs,
        away=away(seen),
        left_out=look.choice.leaves_out,
        findings=(*look.warnings, *terms),
        downloads=look.downloads,
    )


def _as_it_is(same: observe.Unchanged, done: tuple[Operation, ...], out: Output) -> Result:
    """The result for an instance that is left unchanged, with the warnings of its plan."""
    findings = (*bind.judge(same.plan), *apis.judge(same.plan))
    preflight.say(findings, out)
    return Result(
        same.plan,
        "already running",
        same.deployment,
        same.services,
        same.proof,
        operations=done,
        findings=findings,
    )


def _execute(
    look: Preflight,
    old: Record | None,
    listed: tuple[Operation, ...],
    options: Options,
    out: Output,
    done: tuple[Operation, ...],
    data_back: Callable[[], None] | None,
    change: Change | None,
) -> Result:
    """Carry out the operations; a failure rolls them back and restores the previous instance."""
    plan, executed = look.plan, list(done)
    with CleanUp(out.note, out.waiting) as undo, ExitStack() as beside:
        previous = Previous(old, out, options.timeout_s)
        if previous.runs:
            undo.left = f"'{plan.instance}' runs as before"
        record = RunRecord(plan, old, change.command if change else "")
        images = CleanUp(out.note)
        # Registered first, so undone last, after the old project folder is back in place.
        undo.push("the record", lambda: record.put_back(undo.failures, out))
        record.begin()
        # Images are removed only after this run's containers, when the old ones run again.
        undo.push("the image", lambda: _forget_images(images, record))
        undo.push("the previous instance", lambda: previous.start_again(record.touched))
        if data_back is not None:
            undo.push("the database", data_back)

        preparation = steps.Preparation(plan, options, out, undo, images)
        for verb, group in steps.grouped(each for each in listed if each.verb in steps.PREPARING):
            steps.PREPARING[verb](preparation, [each.target for each in group])
            executed += group

        answer = steps.answer(preparation)
        previous.refuse_other_model(answer, plan.calculator)
        inputs = steps.launch_inputs(plan)
        launcher = running.launcher(observe.settled_kind(plan))
        new = launcher.prepare(plan, inputs, undo, out.note)
        record.prepared(new, answer, inputs.python.parent.parent.name if inputs.python else "")

        limit_s = options.timeout_s or running.TIMEOUT_S[new.launcher]
        new_images = any(each.verb in ("build image", "pull image") for each in listed)
        launch = steps.Launch(
            new, answer, previous, record, limit_s, out, undo, beside, new_images=new_images
        )
        if change is not None:
            change.begin(record, undo)
        for verb, group in steps.grouped(each for each in listed if each.verb in steps.LAUNCHING):
            steps.LAUNCHING[verb](launch, [each.target for each in group])
            executed += group
        if change is not None:
            change.check(new)

        runs = versions.present(new, plan.as_dict(), plan.build)
        record.finish(launch.start_s, runs, change.images if change else None)
        undo.commit(f"'{plan.instance}' runs")
        _discard(previous, new, plan)
        return Result(
            plan,
            "replaced" if previous.runs else "started",
            new,
            launcher.services(new),
            launch.proof,
            operations=tuple(executed),
            left_out=look.choice.leaves_out,
            findings=look.warnings,
            downloads=look.downloads,
        )


def _forget_images(images: CleanUp, record: RunRecord) -> None:
    images.undo()
    if record.image:
        from compreface_cli.docker import image

        image.drop_nameless(record.image)  # the previous image has its name again


def _discard(previous: Previous, new: Deployment, plan: Plan) -> None:
    """Remove what only the previous instance needed, once the new one has passed its check."""
    previous.discard(new.launcher)
    if new.launcher != "process":
        from compreface_cli.deploy import project_folder
        from compreface_cli.docker import image

        image.drop_superseded(plan.build)
        project_folder.forget_old(paths.project_dir(plan.instance))
    home = paths.engine_environments_dir()
    if home.is_dir():
        records, _ = running.instances().all()
        used = [each for record in records for each in (record, record.previous) if each]
        current = [venv.inputs(row).key() for row in {"cpu", plan.wheels}]
        venv.remove_unused(home, [*current, *(each.engine_env for each in used)])
