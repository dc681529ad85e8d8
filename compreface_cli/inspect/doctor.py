"""Look at everything that `cf` depends on here; changes nothing."""

from __future__ import annotations

import importlib.util
from contextlib import suppress

from compreface_cli import checks, engine_python, facts
from compreface_cli.checks import Finding, ui_routes
from compreface_cli.checks.base import fail
from compreface_cli.checks.machine import Environment, Machine, ModelState
from compreface_cli.config import paths
from compreface_cli.deploy import routes
from compreface_cli.errors import CfError
from compreface_cli.inspect import doctor_settings

_PROOF_S = 30.0


def run() -> tuple[list[Finding], int]:
    """The rows of the report and the exit code by the worst of them."""
    rows = checks.doctor(look())
    return rows, checks.exit_code(rows)


def look() -> Machine:
    """Ask the host, Docker, the NVIDIA side, the store of models, the environment, the records."""
    broken: dict[str, str] = {}
    trouble: list[Finding] = []
    chosen, wrong = doctor_settings.read()
    ports, more = doctor_settings.ports(chosen)
    folders = (paths.data_dir(), paths.state_dir(), paths.cache_dir())
    asked = facts.Questions(ports=tuple(ports), paths=tuple(map(str, folders)), gpu=True)
    seen = facts.gather(asked)
    return Machine(
        facts=seen,
        ports={number: wanted for (_, number), wanted in ports.items()},
        settings=(*wrong, *more),
        ui=doctor_settings.of_ui(chosen, seen),
        models=_models(broken, trouble),
        environment=_environment(),
        instances=_instances(broken),
        uis=_uis(),
        databases=_databases(),
        broken=broken,
        trouble=trouble,
    )


def _models(broken: dict[str, str], trouble: list[Finding]) -> dict[str, ModelState]:
    """The state of every model that any build names, by hash."""
    from compreface_cli.builds import builds
    from compreface_cli.models import accepted, store
    from compreface_cli.plan.resolve import plan_of

    try:
        accepted.read(store.Places().accepted)
    except CfError as error:
        trouble.append(fail("models", error.code, error.message, error.hint or ""))
        return {}
    found: dict[str, ModelState] = {}
    for name in builds.names():
        try:
            resolved = plan_of(name)
        except CfError as error:
            broken[f"the build {name}"] = error.message
            continue
        for model in resolved.models:
            found[model.name] = store.state(model, by_hash=True)
    return found


def _environment() -> Environment:
    """Find the environment of this version; import the engine in it and check its networks."""
    from compreface_cli.engine import venv

    possible = any(importlib.util.find_spec(name) for name in ("pip", "ensurepip"))
    try:
        found = venv.find(paths.engine_environments_dir(), venv.inputs("cpu"))
    except (OSError, CfError) as error:
        return Environment(None, f"the engine's own parts cannot be read: {error}", possible)
    if found is None:
        return Environment(None, "", possible)
    trouble = ""
    try:
        engine_python.run(
            found.python, "compreface_engine", "check", "--installation", timeout_s=_PROOF_S
        )
    except (engine_python.Failed, TimeoutError) as error:
        trouble = str(error)
    return Environment(str(found.folder), trouble, possible)


def _uis() -> list[Finding]:
    """One row for the UI of each running instance that has one."""
    from compreface_cli.instance.records import Instances
    from compreface_cli.instance.state import Deployment

    found = []
    for record in Instances(paths.instances_dir()).all()[0]:
        if record.phase != "running" or not record.deployment.get("ui"):
            continue
        with suppress(KeyError, TypeError):  # a damaged record has a row of its own
            ui = Deployment.from_dict(record.deployment).ui
            if ui is not None:
                found.append(ui_routes.judge(record.name, ui.url, routes.silent(ui.url)))
    return found


def _databases() -> list[Finding]:
    """The rows for the database of each running instance that has one."""
    from compreface_cli.deploy import databases
    from compreface_cli.instance.records import Instances
    from compreface_cli.instance.state import Deployment

    found = []
    for record in Instances(paths.instances_dir()).all()[0]:
        with suppress(KeyError, TypeError):  # a damaged record has a row of its own
            if record.deployment:
                found += databases.look(record, Deployment.from_dict(record.deployment))
    return found


def _instances(broken: dict[str, str]) -> dict[int, str]:
    """Port -> the running instance of this user that has it."""
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
