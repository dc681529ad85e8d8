"""The database elsewhere that an instance uses: which one, and its password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compreface_cli.config import paths
from compreface_cli.config.settings import Settings
from compreface_cli.deploy import running
from compreface_cli.errors import ConflictError, UsageError
from compreface_cli.plan.plan import DATABASE, Plan
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.terminal.output import Output

if TYPE_CHECKING:
    from compreface_cli.facts import Facts
    from compreface_cli.facts.database_elsewhere import Elsewhere
    from compreface_cli.instance.records import Record

_PARTS = ("host", "port", "user", "db", "sslmode", "sslrootcert")


def on_database(plan: Plan, chosen: Settings, out: Output) -> Plan:
    """The plan with the database elsewhere that its instance has used so far, if none is set.

    Raises UsageError for one that a flag gives to an engine alone, ConflictError for an instance
    with data in a volume of its own.
    """
    given = chosen.given("database_url")
    if plan.services != "full" or plan.launcher == "process":
        if given is not None and given.layer == "flag":
            raise UsageError(
                "--database needs the full stack, and this is the engine alone, which has none",
                hint="Leave out --services core and --launcher process, or --database.",
            )
        if given is not None:
            out.warning(f"database_url ({given.where}) has no effect on an engine alone")
        return plan
    if plan.stack["postgres_host"] != DATABASE:
        _refuse_own_volume(plan)
        return _with_password(plan)
    record = running.instances().load(plan.instance)
    known = of_plan(record.plan) if record is not None else None
    if known is None or plan.origins.get("postgres_host", "default") != "default":
        return plan
    kept = {f"postgres_{part}": str(known[f"postgres_{part}"]) for part in _PARTS}
    origins = dict.fromkeys(kept, f"instance {plan.instance}")
    stack = {**plan.stack, **kept}
    return _with_password(replace(plan, stack=stack, origins={**plan.origins, **origins}))


def _with_password(plan: Plan) -> Plan:
    """The plan with the password that the instance has, where no setting gives one."""
    known = password(plan)
    return replace(plan, secrets={**plan.secrets, "postgres_password": known}) if known else plan


def of_plan(plan: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The values `postgres_host`, ... in the plan of a record; None without one elsewhere."""
    stack = plan.get("stack") or {}
    host = stack.get("postgres_host", DATABASE)
    if plan.get("services") != "full" or host == DATABASE:
        return None
    return {"postgres_sslmode": "prefer", "postgres_sslrootcert": "", **stack}


def look(plan: Plan, seen: Facts) -> Elsewhere | None:
    """The facts about the database elsewhere of a plan for containers; None with one of its own.

    Raises ConfigurationError where neither the settings nor the instance have its password.
    """
    if plan.services != "full" or plan.launcher == "process" or plan.owns_database:
        return None
    from compreface_cli.facts import database_elsewhere as facts
    from compreface_cli.launchers.database_elsewhere import of_plan

    target = of_plan(plan, password(plan) or writer.refuse_no_password())
    found = facts.look(target)
    docker = seen.docker
    images = (*plan.stack_images.values(), plan.image, plan.base_image)
    here = next((name for name in images if docker and docker.image(name)), None)
    if found.failure is not None or here is None:
        return found
    return replace(found, inside=facts.from_container(target, here))


def password(plan: Plan) -> str:
    """The password that is set, else the one in the instance's project; "" if neither is."""
    folder = paths.project_dir(plan.instance)
    kept = writer.read_env(folder / ENV_FILE).get("POSTGRES_PASSWORD", "")
    return plan.secrets.get("postgres_password") or kept


def of_record(record: Record) -> str:
    """The address of the database elsewhere that the instance works on; "" without one."""
    known = of_plan(record.plan)
    return address(known) if known else ""


def _refuse_own_volume(plan: Plan) -> None:
    """Raise ConflictError if the instance's faces are in a volume on this machine so far."""
    record = running.instances().load(plan.instance)
    data = (record.deployment.get("data") or {}) if record is not None else {}
    volume = data.get("volume") if data.get("database") else None
    if not volume:
        return
    raise ConflictError(
        f"the instance '{plan.instance}' has its data in the volume {volume}, and the settings name"
        f" the database {address(plan.stack)}",
        hint="Nothing was changed. Start on that database as another instance: --instance NEW. "
        "docs/database.md says how to move the data there.",
        details={"instance": plan.instance, "volume": volume},
    )


def address(stack: Mapping[str, str]) -> str:
    """Host, port and name of a database, as users see it: `db.example.org:5432/frs`."""
    host = stack["postgres_host"]
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{stack['postgres_port']}/{stack['postgres_db']}"
