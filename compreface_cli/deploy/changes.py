"""The containers that a start of a running stack would recreate, according to Docker Compose."""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli.instance.state import Deployment


def of(
    deployment: Deployment, *, rendered: str | None = None, beside: bool = True
) -> Mapping[str, str]:
    """Service ("core", "api", ...) -> why a start of this Compose project recreates it.

    `rendered`: a compose.yaml that is not in the project's folder yet. `beside`: whether the new
    engine starts next to the running one.
    """
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher().changes(deployment, rendered=rendered, beside=beside)


def start_seconds(deployment: Deployment) -> Mapping[str, float]:
    """Seconds from the start of each service until it was healthy, where that is known."""
    if deployment.launcher == "process":
        return {}
    if deployment.launcher == "swarm":
        from compreface_cli.launchers import swarm

        return swarm.start_seconds(deployment)
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher().start_seconds(deployment)
