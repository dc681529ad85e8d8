"""What `cf up` wants, with every number settled, and everything that stands in its way."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from compreface_cli import __version__, plugin_table
from compreface_cli.checks import Finding, OtherInstance, OwnedResources, model_files
from compreface_cli.checks.base import CONFIGURATION, fail
from compreface_cli.config import paths
from compreface_cli.deploy import preflight, running, unfinished
from compreface_cli.engine import venv
from compreface_cli.errors import ConfigurationError
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.plan.plan import KEYS_WAY_OUT, Plan, Port
from compreface_cli.terminal.output import Output

_DATA = 5  # exit code of the finding
# What a calculator's entry says of its input: with another value one file gives other embeddings.
_INPUT = ("size", "layout", "colour", "mean", "scale", "align")


def digest(plan: Plan) -> str:
    """Over all that decides what runs: the plan, its models, this cf, the engine's wheel."""
    from compreface_cli.models import store

    document = {**plan.as_dict(), "origins": None, "api_keys": ["in a file", plan.api_keys]}
    engine = venv.inputs(plan.wheels).key()
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
        # Beside no UI the engine has one port only, and the second number means nothing.
        core_port=settle(plan.core_port, "127.0.0.1", core, 3000) if full else 0,
    )


def other_instances(but: str) -> tuple[OtherInstance, ...]:
    """The other instances of this user that run, or are being started."""
    found = []
    for record in running.instances().all()[0]:
        if record.name == but or record.phase == "stopped" or not record.deployment:
            continue
        try:
            known = running.deployment(record)
        except ConfigurationError:
            continue  # a damaged record is in nobody's way
        ours = unfinished.deployments(record) if record.unfinished else [known]
        ends = [end for one in ours for end in (one.engine, one.ui)]
        ports = frozenset(end.port for end in ends if end is not None)
        if known.launcher == "process":
            found.append(OtherInstance(record.name, ports, pids=_pids(known)))
        else:
            found.append(
                OtherInstance(record.name, ports, folder=str(known.data.get("folder", "")))
            )
    return tuple(found)


def _pids(process: Deployment) -> frozenset[int]:
    services = running.launcher("process").services(process)
    return frozenset(one.pid for one in services if one.pid is not None)


def look(
    plan: Plan,
    old: Record | None,
    out: Output,
    *,
    may_build: bool,
    must_build: bool = False,
) -> preflight.Preflight:
    before = running.deployment(old) if old is not None and old.deployment else None
    pids = _pids(before) if before and before.launcher == "process" else frozenset[int]()
    # What was started from this user's folder of that name is ours, with a record or without one.
    folder = str(paths.project_dir(plan.instance))
    if before and before.launcher == "compose":
        folder = str(before.data["folder"])
    own = OwnedResources(
        folder,
        pids,
        calculator=old.calculator if old is not None and old.services == "full" else "",
        others=other_instances(plan.instance),
        may_build=may_build,
        must_build=must_build,
    )
    folders = [paths.data_dir(), paths.state_dir(), *([paths.cache_dir()] if plan.models else [])]
    if plan.launcher != "process":
        folders.append(paths.project_dir(plan.instance))
    seen = preflight.run(plan, own=own, folders=folders)
    if plan.launcher == "auto":
        chosen = seen.choice
        left_out = f"; {chosen.leaves_out}" if chosen.leaves_out else ""
        out.note(f"Launcher: {chosen.kind}, because {chosen.reason}{left_out}")
        if os.environ.get("CF_DEBUG") and chosen.detail:
            out.note(f"  {chosen.detail}")
    say(seen.warnings, out)
    if before is not None and before.engine.key and not plan.api_keys:
        out.warning(f"instance '{plan.instance}' asked for API keys and will ask for none now.")
    if old is not None and old.calculator != plan.calculator and not _volume_decides(seen, old):
        refused = Finding(
            "calculator",
            "fail",
            f"instance '{old.name}' has the calculator {old.calculator}, the build wants "
            f"{plan.calculator}: their embeddings cannot be compared",
            "Start the build as another instance (--instance NAME), or remove this one first: "
            f"cf down {old.name}" + (" --volumes" if old.services == "full" else ""),
            _DATA,
        )
        seen = replace(seen, findings=(*seen.findings, refused))
    elif old is not None and (changed := changed_input(plan, old)):
        refused = Finding(
            "calculator",
            "fail",
            f"the build gives {plan.calculator} its pictures in another way than instance "
            f"'{old.name}' does ({', '.join(changed)}): their embeddings cannot be compared",
            "Set it back, give the model another name in the build, or start it as another "
            "instance (--instance NAME).",
            _DATA,
        )
        seen = replace(seen, findings=(*seen.findings, refused))
    return replace(
        seen, findings=(*seen.findings, *_keys(seen.plan), *model_files.out_of_reach(plan))
    )


def say(warnings: Sequence[Finding], out: Output) -> None:
    for finding in warnings:
        out.warning(f"{finding.message}. {finding.hint}".rstrip(". ") + ".")


def _volume_decides(seen: preflight.Preflight, old: Record) -> bool:
    """Whether the calculator is a matter of the database alone, which checks/volume.py judges."""
    plan, docker = seen.plan, seen.facts.docker
    both = plan.services == old.services == "full" and plan.launcher == "compose"
    return both and docker is not None and docker.reachable


def _keys(plan: Plan) -> list[Finding]:
    fault = plan.keys_fault()
    return [fail("api keys", CONFIGURATION, fault, KEYS_WAY_OUT)] if fault else []


def changed_input(plan: Plan, old: Record) -> list[str]:
    """What the calculator's entry says otherwise than the record's, as "input.colour: rgb -> bgr".

    What a record does not say (an older cf wrote it) is not compared.
    """
    name = plugin_table.model_of(plan.calculator)
    wanted = next((asdict(one) for one in plan.models if one.name == name), None)
    models: list[Mapping[str, Any]] = old.plan.get("models") or []
    had = next((one for one in models if one.get("name") == name), None)
    if wanted is None or had is None:
        return []
    pairs = {key: (_value(had[key]), _value(wanted[key])) for key in _INPUT if key in had}
    return [
        f"{key if key == 'align' else f'input.{key}'}: {before} -> {now}"
        for key, (before, now) in pairs.items()
        if before != now
    ]


def _value(value: Any) -> Any:
    """One number for all three channels is the number alone, however it was written."""
    if not isinstance(value, list | tuple):
        return value
    return value[0] if len(set(value)) == 1 else list(value)
