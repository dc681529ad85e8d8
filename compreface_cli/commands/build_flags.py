"""The flags that change a build, shared by the commands that resolve one."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from compreface_cli.config.settings_table import MAX_REPLICAS
from compreface_cli.runtimes import RUNTIMES, joined

_OPTIONS: Mapping[str, Any] = {
    "gpu": Annotated[bool | None, typer.Option("--gpu", help="Build for an NVIDIA GPU.")],
    "gpu_index": Annotated[
        str | None,
        typer.Option("--gpu-index", help="Index of the GPU, or several like 0,1; implies --gpu."),
    ],
    "replicas": Annotated[
        int | None,
        typer.Option(
            "--replicas", min=1, max=MAX_REPLICAS, help="Number of engines that share the requests."
        ),
    ],
    "detector": Annotated[str | None, typer.Option("--detector", help="Detector plugin.")],
    "calculator": Annotated[str | None, typer.Option("--calculator", help="Calculator plugin.")],
    "plugins": Annotated[
        list[str] | None,
        typer.Option("--plugin", help="Further plugin, repeatable; replaces the build's list."),
    ],
    "runtime": Annotated[str | None, typer.Option("--runtime", help=f"{joined(RUNTIMES, 'or')}.")],
    "precision": Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16.")],
    "min_cosine": Annotated[
        float | None, typer.Option("--min-cosine", help="Lowest cosine to fp32 that auto accepts.")
    ],
    "base_image": Annotated[
        str | None, typer.Option("--base-image", help="Base image of the engine's image.")
    ],
}

AcceptLicence = Annotated[
    list[str] | None,
    typer.Option(
        "--accept-licence",
        metavar="MODEL",
        help="Accept the terms of the model's weights; all: of every model.",
    ),
]

PushTo = Annotated[
    str | None,
    typer.Option(
        "--push-to",
        metavar="REGISTRY/FOLDER",
        help="Where the nodes of a cluster pull the engine's image from.",
        show_default=False,
    ),
]

Tls = Annotated[
    tuple[str, str] | None,
    typer.Option(
        "--tls",
        metavar="CERT KEY",
        help="Serve the UI over TLS with this certificate and key, both in PEM.",
        show_default=False,
    ),
]

SeveralApis = Annotated[
    bool,
    typer.Option(
        "--several-apis",
        help="Allow several api processes, which drift apart after their database restarts.",
    ),
]


Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Use a PostgreSQL elsewhere: postgresql://USER@HOST/NAME; its password: see the docs.",
        show_default=False,
    ),
]


def takes_build_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add these options after the command's own, and pass their values as its `changes`.

    `changes` has keys of a build file, which are also keys of settings; None is no change.
    """

    @functools.wraps(command)
    def run(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in _OPTIONS}
        gpu = chosen.pop("gpu") or chosen["gpu_index"] is not None
        chosen["plugins"] = chosen["plugins"] or None  # Typer passes [] if none was named
        command(**given, changes={"device": "cuda" if gpu else None, **chosen})

    own = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
    ]
    others = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in own.parameters.items()
        if name != "changes"
    ]
    run.__signature__ = own.replace(parameters=[*others[:-1], *options, others[-1]])  # type: ignore[attr-defined]
    return run
