"""The database elsewhere of a deployment: its address, and whether the services may start on it."""

from __future__ import annotations

import time
from pathlib import Path

from compreface_cli.checks import Finding
from compreface_cli.checks import database as checks
from compreface_cli.checks import database_elsewhere as elsewhere
from compreface_cli.cleanup import Report
from compreface_cli.errors import CfError, ConfigurationError, DataRefusedError, UnhealthyError
from compreface_cli.facts import database_elsewhere as facts
from compreface_cli.facts.database_elsewhere import Elsewhere, Target
from compreface_cli.instance.state import Deployment
from compreface_cli.launchers.database import newer_schema
from compreface_cli.plan.plan import Plan
from compreface_cli.project import writer
from compreface_cli.project.targets.compose import DATABASE_CA, ENV_FILE

_ADMIN = "compreface-admin"
_UNHEALTHY = 8
_LOCK_WAIT_S = 300.0  # Liquibase itself gives up after five minutes
_POLL_S = 1.0


def of_plan(plan: Plan, password: str) -> Target:
    """The database elsewhere of a plan, whose `owns_database` is false."""
    stack = plan.stack
    return Target(
        stack["postgres_host"],
        int(stack["postgres_port"]),
        stack["postgres_user"],
        stack["postgres_db"],
        stack.get("postgres_sslmode", "prefer"),
        plan.database_root_cert,
        password,
    )


def parts(plan: Plan) -> dict[str, str | int] | None:
    """What a deployment keeps of it, which is all but the password; None with one of its own."""
    if plan.owns_database or plan.services != "full":
        return None
    known = of_plan(plan, "")
    return {key: getattr(known, key) for key in ("host", "port", "user", "name", "sslmode")}


def of_deployment(deployment: Deployment) -> Target | None:
    """The database elsewhere of a deployment, with the login in its project; None without one."""
    known = deployment.data.get("elsewhere")
    if not known:
        return None
    folder = Path(str(deployment.data["folder"]))
    authority = folder / DATABASE_CA  # the copy that the services have
    password = writer.read_env(folder / ENV_FILE).get("POSTGRES_PASSWORD", "")
    return Target(**known, sslrootcert=str(authority), password=password)


def look(deployment: Deployment, calculator: str) -> list[Finding]:
    """The findings about it while the instance runs; none with a database of its own."""
    target = of_deployment(deployment)
    if target is None:
        return []
    contents = facts.contents(target)
    if contents.failure is not None:
        return [elsewhere.failed(contents, contents.failure)]
    assert contents.contents is not None  # noqa: S101 - without a failure it is known
    place = checks.Place(deployment.instance, "")
    return checks.judge(place, contents.contents, calculator)


def ready(deployment: Deployment, report: Report) -> None:
    """Return when the services can use it; raises a CfError if they cannot.

    Liquibase's lock, whose holder is no longer connected, is freed before.
    """
    target = of_deployment(deployment)
    assert target is not None  # noqa: S101 - the caller has looked
    began, reported = time.monotonic(), False
    while True:
        seen = facts.contents(target)
        _refuse(deployment, seen)
        contents = seen.contents
        if contents is None or contents.lock is None:
            return
        holder = contents.lock.holder or "an unknown program"
        if contents.sessions == 0:
            error = facts.free_lock(target, contents.lock)
            if error:
                raise UnhealthyError(
                    f"the lock of the database's schema is held by {holder}, which is gone, and "
                    f"cannot be freed: {error}",
                    topic=checks.LOCK,
                )
            report(f"  freed the lock of an interrupted schema change: it was held by {holder}")
            return
        if time.monotonic() - began > _LOCK_WAIT_S:
            raise UnhealthyError(
                f"the database's schema is being changed by {holder}, which does not finish "
                f"(since {contents.lock.since})",
                hint="End that program; the next start frees its lock.",
                topic=checks.LOCK,
            )
        if not reported:
            reported = True
            report(f"  waiting for {holder}: it changes the database's schema")
        time.sleep(_POLL_S)


def _refuse(deployment: Deployment, seen: Elsewhere) -> None:
    """Raise for a database that does not answer, or whose content does not fit."""
    if seen.failure is not None:
        finding = elsewhere.failed(seen, seen.failure)
        kind: type[CfError] = UnhealthyError if finding.code == _UNHEALTHY else ConfigurationError
        raise kind(finding.message, hint=finding.hint, topic=finding.topic)
    changes = seen.contents.changes if seen.contents else None
    admin = (deployment.data.get("images") or {}).get(_ADMIN, "")
    calculator = str((deployment.data.get("calculator") or [""])[0])
    for refused in (
        newer_schema(deployment.instance, admin, changes),
        elsewhere.refused(seen, calculator) if calculator else None,
    ):
        if refused is not None:
            raise DataRefusedError(refused.message, hint=refused.hint, topic=refused.topic)
