"""Restores the record of an instance from its containers."""

from __future__ import annotations

from compreface_cli.config import paths
from compreface_cli.errors import CfError
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment, Endpoint


def instance(name: str) -> Record | None:
    """A record for containers that run from `cf`'s project folder without one, else None."""
    folder = paths.project_dir(name)
    try:
        from compreface_cli.launchers.compose_state import project_state

        state = project_state(f"cf-{name}", folder)
    except CfError:
        return None
    if state is None:
        return None
    full = len(state.services) > 1
    data = {
        "project": f"cf-{name}",
        "folder": str(folder),
        "services": list(state.services),
        "replicas": max(1, state.engines),
        "volume": f"cf-{name}_postgres-data" if full else None,
    }
    nowhere = Endpoint("127.0.0.1", 0)
    known = Deployment("compose", name, state.engine or nowhere, state.ui, data)
    return Record(
        name=name,
        build=state.build,
        calculator=state.calculator,
        services="full" if full else "core",
        phase="starting",
        created=state.created or now(),
        deployment=known.as_dict(),
    )
