"""The table of runtimes, `runtimes.json`: what each computes, and which are installed here.

The runtime `name` is the module `name` of this package with an `OpenSession` in it. A row says what
the engine asks below; `cf` reads the same file for the pinned `requirements` of an image (and
`gpu_requirements` of one for a GPU), the `cpu_flags` needed beyond x86-64-v2, the `newest_python`
with wheels, and the container's `memory_limit`. `auto` is the choice among those with `precisions`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from compreface_engine.core.errors import ConfigurationError

if TYPE_CHECKING:  # the settings read this table before NumPy is loaded
    from compreface_engine.runtimes.base import Concurrency, OpenSession, Session

TABLE: Final = Path(__file__).with_name("runtimes.json")
AUTO: Final = "auto"


@dataclass(frozen=True, slots=True)
class Runtime:
    """One runtime. It runs either converted networks (ONNX files) or models' own files.

    `packages`: the distributions that contain it, of which one is installed. `precisions`: those
    it computes converted networks in, `fp32` or `bf16`; none where it runs models' own files, which
    have the `format` and are so many `files`. `gpu`: whether it computes on a GPU as well.
    """

    title: str
    packages: tuple[str, ...]
    gpu: bool
    precisions: tuple[str, ...] = ()
    format: str | None = None
    files: int = 1


def _read(table: Path) -> dict[str, Runtime]:
    rows: Mapping[str, Mapping[str, Any]] = json.loads(table.read_bytes())
    return {
        name: Runtime(
            title=row["title"],
            packages=tuple(row["packages"]),
            gpu=row["gpu"],
            precisions=tuple(row.get("precisions", ())),
            format=row.get("format"),
            files=row.get("files", 1),
        )
        for name, row in rows.items()
        if name != AUTO
    }


RUNTIMES: Final[Mapping[str, Runtime]] = _read(TABLE)

Version: TypeAlias = Callable[[str], str | None]
"""From the name of a runtime to its installed version, None where it is not installed."""


def version_of(runtime: str) -> str | None:
    """The installed version, read without importing it; None where it is not installed."""
    for package in RUNTIMES[runtime].packages:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return None


def require(runtime: str, version_of: Version = version_of) -> str:
    """The installed version. Raises ConfigurationError where the runtime is not installed."""
    version = version_of(runtime)
    if version is None:
        raise ConfigurationError(
            f"CF_RUNTIME={runtime}, but it is not installed. Install the engine with its "
            f"`{runtime}` extra, or set CF_RUNTIME=onnxruntime."
        )
    return version


def open_session(
    runtime: str,
    files: Sequence[Path],
    *,
    outputs: Sequence[str] = (),
    precision: str = "fp32",
    concurrency: Concurrency,
) -> Session:
    """A session of `runtime`; see `OpenSession`. Raises ConfigurationError where it fails."""
    # Imported where it is chosen: each runtime costs memory and time at start.
    module: Any = import_module(f"{__package__}.{runtime}")
    opening: OpenSession = module.open_session
    return opening(files, outputs=outputs, precision=precision, concurrency=concurrency)
