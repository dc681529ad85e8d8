"""What a plan can be rendered for: a module for each target, and a row here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from compreface_cli.plan.plan import Plan
    from compreface_cli.project.rendered import RenderedProject


class Render(Protocol):
    """The function `render` of a target's module; the same plan and version give equal bytes."""

    def __call__(
        self,
        plan: Plan,
        models: Mapping[str, Path] | None = None,
        *,
        with_models: bool = True,
        revision: str | None = None,
    ) -> RenderedProject: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A kind of project that `cf render` writes; `next`: what starts it.

    `{folder}` is quoted, `{project}` the instance's name as the target has it.
    """

    module: str
    help: str
    next: str
    on_docker: bool = True  # its volume is one of Docker

    def render(self) -> Render:
        return cast("Render", import_module(f"{__name__}.{self.module}").render)


TARGETS: Mapping[str, Target] = {
    "compose": Target(
        "compose", "Docker Compose", "docker compose --project-directory {folder} up -d --wait"
    ),
    "swarm": Target("swarm", "Docker Swarm", "sh {folder}/deploy.sh"),
    "helm": Target(
        "helm",
        "Helm",
        "helm upgrade --install {project} {folder}/chart -f {folder}/secrets.yaml --wait",
        on_docker=False,
    ),
    "kubernetes": Target("kubernetes", "Kubernetes", "kubectl apply -k {folder}", on_docker=False),
}
