"""What a plugin's factory gets: the parsed notation, and access to models and sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from compreface_engine.core.errors import ConfigurationError
from compreface_engine.core.parallel import ParallelMap, no_idle_workers, serial_map
from compreface_engine.models.prepared import PreparedModel, Role, read_prepared
from compreface_engine.runtimes.base import Session


@dataclass(frozen=True, slots=True)
class Notation:
    """`<package>.<Class>[@<model>]`, parsed.

    `model` is the name of the model to load: the one in `text`, else (from the registry on) the
    plugin's default; empty where there is none.
    """

    text: str
    package: str
    name: str
    model: str = ""

    @property
    def plugin(self) -> str:
        """The notation without its model."""
        return f"{self.package}.{self.name}"

    @property
    def version(self) -> str:
        """What `/status` shows: the last package name, the class, the model if `text` has one."""
        base = f"{self.package.rpartition('.')[2]}.{self.name}"
        return f"{base}@{self.model}" if "@" in self.text else base


def parse(text: str) -> Notation:
    """Parses a notation. Raises ConfigurationError for any other text."""
    plugin, at, model = text.strip().partition("@")
    package, _, name = plugin.rpartition(".")
    if not package or not name or (at and not model) or "@" in model or "." in model:
        raise ConfigurationError(
            f"`{text}` is not a plugin. Write `<package>.<Class>` or `<package>.<Class>@<model>`, "
            "for example `facenet.Calculator@20180402-114759`."
        )
    return Notation(text, package, name, model)


@dataclass(frozen=True, slots=True)
class Context:
    """What factories get from the pipeline.

    `open_session` loads an ONNX file; `open_model` loads a prepared model with the runtime chosen
    for it (by default its ONNX file). `length_limit`: px of the longer side for detection, 0 for
    none. `rows`: the most faces of one run; None for the plugin's own limit, the best on a CPU.
    """

    open_session: Callable[[Path], Session]
    models_dir: Path | None
    length_limit: int
    parallel_map: ParallelMap = serial_map
    idle_workers: Callable[[], int] = no_idle_workers
    open_model: Callable[[PreparedModel], Session] | None = None
    rows: int | None = None
    opened: dict[Path, Session] = field(default_factory=dict, compare=False, repr=False)

    def model(self, name: str, plugin: str, role: Role) -> PreparedModel:
        """The prepared model `name` for the notation `plugin`, its role and hash checked.

        Raises ConfigurationError where it is missing, damaged or prepared for another role.
        """
        return read_prepared(self.models_dir, name, plugin, role)

    def open(self, model: PreparedModel) -> Session:
        """The session over a prepared model, shared by all plugins that name it."""
        if model.path not in self.opened:
            self.opened[model.path] = (
                self.open_session(model.path) if self.open_model is None else self.open_model(model)
            )
        return self.opened[model.path]
