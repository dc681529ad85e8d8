"""The share of the cores that each of several engines gets, where the user chose none."""

from __future__ import annotations

from dataclasses import replace

from compreface_cli.plan.plan import Plan


def settled(plan: Plan) -> Plan:
    """The plan with a number of CPUs for `auto`, if it has several engines on one host.

    Each engine takes its number of threads from this limit, so that together they have as many
    threads as there are cores.
    """
    if plan.cpus != "auto" or plan.replicas == 1 or plan.launcher != "compose":
        return plan
    from compreface_cli.docker import client

    cores = int(client.get("info").get("NCPU") or 1)
    return replace(plan, cpus=f"{max(0.1, int(100 * cores / plan.replicas) / 100):g}")
