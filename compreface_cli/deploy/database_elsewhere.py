"""The database elsewhere that an instance uses: which one, and its password."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from compreface_cli.config import paths
from compreface_cli.config.settings import Settings
from compreface_cli.deploy import running
from compreface_cli.errors import ConflictError, UsageError
from compreface_cli.plan.plan import DATABASE, Plan
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import ENV_FILE
from compreface_cli.terminal.output import Output

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
        return plan
    record = running.instances().load(plan.instance)
    known = of_plan(record.plan) if record is not None else None
    if known is None or plan.origins.get("postgres_host", "default") != "default":
        return plan
    kept = {f"postgres_{part}": str(known[f"postgres_{part}"]) for part in _PARTS}
    origins = dict.fromkeys(kept, f"instance {plan.instance}")
    return replace(plan, stack={**plan.stack, **kept}, origins={**plan.origins, **origins})


def of_plan(plan: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The values `postgres_host`, ... in the plan of a record; None without one elsewhere."""
    stack = plan.get("stack") or {}
    host = stack.get("postgres_host", DATABASE)
    if plan.get("services") != "full" or host == DATABASE:
        return None
    return {"postgres_sslmode": "prefer", "postgres_sslrootcert": "", **stack}


def password(plan: Plan) -> str:
    """The password that is set, else the one in the instance's project; "" if neither is."""
    folder = paths.project_dir(plan.instance)
    kept = writer.read_env(folder / ENV_FILE).get("POSTGRES_PASSWORD", "")
    return plan.secrets.get("postgres_password") or kept


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
