"""The ports of an instance: those that were set, else its present ones; for `auto` a free one."""

from __future__ import annotations

from dataclasses import replace

from compreface_cli.deploy import running
from compreface_cli.instance.records import Record
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.plan.plan import ENGINE_PORT, UI_PORT, Plan, Port, with_launcher

_LOOPBACK = "127.0.0.1"


def settled(plan: Plan, old: Record | None) -> Plan:
    """The plan with the ports of its instance, and a number for each `auto`.

    `old` is the instance's record. With launcher `auto` an `auto` port is left as it is, since the
    default ports of the engine and of the UI differ; call it again with the decided launcher.
    """
    before = running.deployment(old) if old is not None and old.deployment else None
    if before is not None and before.launcher == "swarm":
        plan = _on_swarm(plan, before)
    if (
        old is not None
        and before is not None
        and _is_stack(old, before)
        and plan.launcher == "auto"
    ):
        plan = with_launcher(plan, "compose")
    plan = plan if before is None else _kept(plan, before)
    if plan.publish == "auto" and before is not None and before.launcher == "swarm":
        plan = replace(plan, publish=(old.plan if old else {}).get("publish", "auto"))
    return plan if plan.launcher == "auto" else _numbered(plan, before)


def _is_stack(old: Record, before: Deployment) -> bool:
    """Whether the full stack runs by Compose, which `auto` never replaces by the engine alone.

    Its images may be out of reach at present; the services behind them are the user's data.
    """
    return old.phase == "running" and before.launcher == "compose" and before.ui is not None


def _on_swarm(plan: Plan, before: Deployment) -> Plan:
    """The plan of a stack that stays one, open at all addresses, where no launcher is named."""
    if plan.launcher not in ("auto", "swarm"):
        return plan
    unset = plan.origins.get("bind", "default") == "default"
    bind = before.ui.bind if before.ui is not None and unset else plan.bind
    return replace(with_launcher(plan, "swarm"), bind=bind)


def _kept(plan: Plan, before: Deployment) -> Plan:
    """The plan with the instance's present ports where the user set none."""

    def kept(key: str, wanted: Port, had: Endpoint | None, *binds: str) -> Port:
        given = plan.origins.get(key, "default") != "default"
        return wanted if given or had is None or had.bind not in binds else had.port

    if plan.services == "core" or plan.launcher == "process":
        return replace(plan, port=kept("port", plan.port, before.engine, plan.bind))
    # The engine's port is also the process's, if `auto` becomes one.
    return replace(
        plan,
        port=kept("port", plan.port, before.ui, plan.bind),
        core_port=kept("core_port", plan.core_port, before.engine, _LOOPBACK, plan.bind),
    )


def _numbered(plan: Plan, before: Deployment | None) -> Plan:
    """The plan with a number for each `auto`: the present port, the default, or a free one."""
    from compreface_cli.facts.host import free_port, port

    taken: set[int] = {number for number in (plan.port, plan.core_port) if isinstance(number, int)}

    def number_of(wanted: Port, bind: str, had: Endpoint | None, usual: int) -> int:
        if isinstance(wanted, int):
            return wanted
        if had is not None and had.bind == bind:
            number = had.port
        elif usual not in taken and port(bind, usual).free:
            number = usual
        else:
            number = free_port(bind)
        taken.add(number)
        return number

    full = plan.services == "full"
    had = (before.ui if full else before.engine) if before else None
    had_core = before.engine if before and full else None
    return replace(
        plan,
        port=number_of(plan.port, plan.bind, had, UI_PORT if full else ENGINE_PORT),
        # An engine without the UI has only one port; the second number has no meaning.
        core_port=number_of(plan.core_port, _LOOPBACK, had_core, ENGINE_PORT) if full else 0,
    )
