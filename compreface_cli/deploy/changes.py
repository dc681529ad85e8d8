"""What a start of a running stack would make anew, asked of Docker Compose itself."""

from __future__ import annotations

from collections.abc import Mapping

from compreface_cli.instance.state import Deployment


def of(
    deployment: Deployment, *, rendered: str | None = None, beside: bool = True
) -> Mapping[str, str]:
    """Service ("core", "api", ...) -> why a start of this Compose project makes it anew.

    `rendered`: a compose.yaml that does not stand in the project's folder yet. `beside`: whether
    the engine is replaced beside the running one.
    """
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher().changes(deployment, rendered=rendered, beside=beside)


def start_seconds(deployment: Deployment) -> Mapping[str, float]:
    """How long each service took from its start until it was healthy, where that is known."""
    if deployment.launcher != "compose":
        return {}
    from compreface_cli.launchers.compose import ComposeLauncher

    return ComposeLauncher().start_seconds(deployment)
