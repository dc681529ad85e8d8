"""What `cf up` wants, with every number settled, and everything that stands in its way."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace

from compreface_cli import __version__, engine_env, paths
from compreface_cli.checks import Finding, Neighbour, Own
from compreface_cli.errors import ConfigurationError
from compreface_cli.flows import preflight, reach, running
from compreface_cli.instances import Record
from compreface_cli.launch.base import Deployment, Endpoint
from compreface_cli.output import Output
from compreface_cli.plan import Plan, Port

_DATA = 5  # exit code of the finding


def digest(plan: Plan) -> str:
    """Over all that decides what runs: the plan, its models, this cf, the engine's wheel."""
    from compreface_cli.models import store

    document = {**plan.as_dict(), "origins": None}
    engine = engine_env.inputs(plan.wheels).key()
    weights = [store.fingerprint(model) for model in plan.models]
    text = json.dumps([document, __version__, engine, weights], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def keeping_ports(plan: Plan, old: Record | None) -> Plan:
    """The plan with the ports that its instance has, where nobody gave another number."""
    if old is None or not old.deployment:
        return plan
    before = running.deployment(old)

    def kept(key: str, wanted: Port, door: Endpoint | None, *binds: str) -> Port:
        given = plan.origins.get(key, "default") != "default"
        return wanted if given or door is None or door.bind not in binds else door.port

    if plan.services == "core" or plan.launcher == "process":
        return replace(plan, port=kept("port", plan.port, before.engine, plan.bind))
    # The engine's port is also that of a process, if `auto` becomes one.
    return replace(
        plan,
        port=kept("port", plan.port, before.ui, plan.bind),
        core_port=kept("core_port", plan.core_port, before.engine, "127.0.0.1", plan.bind),
    )


def with_ports(plan: Plan, old: Record | None) -> Plan:
    """The plan with a number for every `auto`: the one it has, its usual one, or a free one."""
    from compreface_cli.facts.host import free_port, port

    before = running.deployment(old) if old is not None and old.deployment else None
    taken: set[int] = {one for one in (plan.port, plan.core_port) if isinstance(one, int)}

    def settle(wanted: int | str, bind: str, kept: Endpoint | None, usual: int) -> int:
        if isinstance(wanted, int):
            return wanted
        if kept is not None and kept.bind == bind:
            number = kept.port
        elif usual not in taken and port(bind, usual).free:
            number = usual
        else:
            number = free_port(bind)
        taken.add(number)
        return number

    full = plan.services == "full"
    kept = (before.ui if full else before.engine) if before else None
    core = before.engine if before and full else None
    return replace(
        plan,
        port=settle(plan.port, plan.bind, kept, 8000 if full else 3000),
        # Beside no UI the engine has one door only, and the second number means nothing.
        core_port=settle(plan.core_port, "127.0.0.1", core, 3000) if full else 0,
    )


def neighbours(but: str) -> tuple[Neighbour, ...]:
    """The other instances of this user that run, or are being started."""
    found = []
    for record in running.instances().all()[0]:
        if record.name == but or record.phase == "stopped" or not record.deployment:
            continue
        try:
            known = running.deployment(record)
        except ConfigurationError:
            continue  # a damaged record is in nobody's way
        doors = frozenset(door.port for door in (known.engine, known.ui) if door is not None)
        if known.launcher == "process":
            found.append(Neighbour(record.name, doors, pids=_pids(known)))
        else:
            found.append(Neighbour(record.name, doors, folder=str(known.data.get("folder", ""))))
    return tuple(found)


def _pids(process: Deployment) -> frozenset[int]:
    services = running.launcher("process").services(process)
    return frozenset(one.pid for one in services if one.pid is not None)


def look(plan: Plan, old: Record | None, out: Output, *, may_build: bool) -> preflight.Preflight:
    before = running.deployment(old) if old is not None and old.deployment else None
    pids = _pids(before) if before and before.launcher == "process" else frozenset[int]()
    folder = str(before.data["folder"]) if before and before.launcher == "compose" else None
    own = Own(folder, pids, others=neighbours(plan.instance), may_build=may_build)
    folders = [paths.data_dir(), paths.state_dir(), *([paths.cache_dir()] if plan.models else [])]
    seen = preflight.run(plan, own=own, folders=folders)
    if plan.launcher == "auto":
        chosen = seen.choice
        left_out = f"; {chosen.leaves_out}" if chosen.leaves_out else ""
        out.note(f"Launcher: {chosen.kind}, because {chosen.reason}{left_out}")
        if os.environ.get("CF_DEBUG") and chosen.detail:
            out.note(f"  {chosen.detail}")
    for finding in seen.warnings:
        out.warning(f"{finding.message}. {finding.hint}".rstrip(". ") + ".")
    if old is not None and old.calculator != plan.calculator:
        refused = Finding(
            "calculator",
            "fail",
            f"instance '{old.name}' has the calculator {old.calculator}, the build wants "
            f"{plan.calculator}: their embeddings cannot be compared",
            f"Start the build as another instance (--instance NAME), or `cf down {old.name}` first"
            + (" and remove its volume." if old.services == "full" else "."),
            _DATA,
        )
        seen = replace(seen, findings=(*seen.findings, refused))
    return replace(seen, findings=(*seen.findings, *reach.out_of_reach(plan)))
