"""`cf doctor`: inspects everything on this machine that `cf` depends on; changes nothing."""

from __future__ import annotations

import importlib.util
from contextlib import suppress

from compreface_cli import checks, engine_python, facts
from compreface_cli.checks import Finding, model_files, ui_routes
from compreface_cli.checks.base import fail
from compreface_cli.checks.machine import Environment, Machine, ModelState
from compreface_cli.config import paths
from compreface_cli.deploy import routes
from compreface_cli.errors import CfError
from compreface_cli.inspect import doctor_settings

_CHECK_S = 30.0


def run() -> tuple[list[Finding], int]:
    """The rows of the report, and the exit code of the worst row."""
    rows = checks.doctor(look())
    return rows, checks.exit_code(rows)


def look() -> Machine:
    """Inspect the host, Docker, the GPU, settings, models, the engine's environment, instances."""
    broken: dict[str, str] = {}
    trouble: list[Finding] = []
    chosen, wrong = doctor_settings.read()
    ports, more = doctor_settings.ports(chosen)
    folders = (paths.data_dir(), paths.state_dir(), paths.cache_dir())
    questions = facts.Questions(ports=tuple(ports), paths=tuple(map(str, folders)), gpu=True)
    gathered = facts.gather(questions)
    return Machine(
        facts=gathered,
        ports={number: wanted for (_, number), wanted in ports.items()},
        settings=(*wrong, *more),
        ui=doctor_settings.of_ui(chosen, gathered),
        models=_models(broken, trouble),
        environment=_environment(),
        instances=_instances(broken),
        uis=_uis(),
        databases=_databases(),
        broken=broken,
        trouble=trouble,
    )


def _models(broken: dict[str, str], trouble: list[Finding]) -> dict[str, ModelState]:
    """The state of every model that a build names; verifies hashes."""
    from compreface_cli.builds import builds
    from compreface_cli.models import accepted, proofs, store
    from compreface_cli.plan.resolve import plan_of

    try:
        accepted.read(store.Places().accepted)
        proofs.check(store.Places())
    except CfError as error:
        trouble.append(
            fail(
                "models",
                error.code,
                error.message,
                error.hint or "",
                topic=error.topic or model_files.DAMAGED,
            )
        )
        return {}
    states: dict[str, ModelState] = {}
    for name in builds.names():
        try:
            resolved = plan_of(name)
        except CfError as error:
            broken[f"the build {name}"] = error.message
            continue
        for model in resolved.models:
            states[model.name] = store.state(model, by_hash=True)
    return states


def _environment() -> Environment:
    """The engine's environment of this version; imports the engine in it, checks its networks."""
    from compreface_cli.engine import venv

    possible = any(importlib.util.find_spec(name) for name in ("pip", "ensurepip"))
    try:
        environment = venv.find(paths.engine_environments_dir(), venv.inputs("cpu"))
    except (OSError, CfError) as error:
        return Environment(None, f"the engine's package cannot be read: {error}", possible)
    if environment is None:
        return Environment(None, "", possible)
    trouble = ""
    try:
        engine_python.run(
            environment.python, "compreface_engine", "check", "--installation", timeout_s=_CHECK_S
        )
    except (engine_python.Failed, TimeoutError) as error:
        trouble = str(error)
    return Environment(str(environment.folder), trouble, possible)


def _uis() -> list[Finding]:
    """A row for the UI of each running instance that has one."""
    from compreface_cli.instance.records import Instances
    from compreface_cli.instance.state import Deployment

    rows = []
    for record in Instances(paths.instances_dir()).all()[0]:
        if record.phase != "running" or not record.deployment.get("ui"):
            continue
        with suppress(KeyError, TypeError):  # a damaged record has a row of its own
            ui = Deployment.from_dict(record.deployment).ui
            if ui is not None:
                rows.append(
                    ui_routes.judge(
                        record.name, ui.url, routes.silent(ui.url, certificate=ui.certificate)
                    )
                )
    return rows


def _databases() -> list[Finding]:
    """The rows for the database of each running instance that has one."""
    from compreface_cli.deploy import databases
    from compreface_cli.instance.records import Instances
    from compreface_cli.instance.state import Deployment

    rows = []
    for record in Instances(paths.instances_dir()).all()[0]:
        with suppress(KeyError, TypeError):  # a damaged record has a row of its own
            if record.deployment:
                rows += databases.look(record, Deployment.from_dict(record.deployment))
    return rows


def _instances(broken: dict[str, str]) -> dict[int, str]:
    """The running instances of this user by port."""
    from compreface_cli.instance.records import Instances

    records, damaged = Instances(paths.instances_dir()).all()
    for item in damaged:
        broken[f"the record of the instance {item.name} ({item.path})"] = item.reason
    return {
        int(endpoint["port"]): record.name
        for record in records
        if record.phase != "stopped"
        for key in ("engine", "ui")
        if isinstance(endpoint := record.deployment.get(key), dict) and "port" in endpoint
    }
