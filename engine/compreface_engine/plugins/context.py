"""What a plugin's factory is given: the notation, taken apart, and its surroundings."""

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
    """`<package>.<Class>[@<model>]`, taken apart.

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
        """What `/status` says: the last package name, the class, the model if `text` has one."""
        base = f"{self.package.rpartition('.')[2]}.{self.name}"
        return f"{base}@{self.model}" if "@" in self.text else base


def parse(text: str) -> Notation:
    """Takes a notation apart; raises ConfigurationError where it is none."""
    plugin, at, model = text.strip().partition("@")
    package, _, name = plugin.rpartition(".")
    if not package or not name or (at and not model) or "@" in model or "." in model:
        raise ConfigurationError(
            f"`{text}` is no plugin. Write `<package>.<Class>` or `<package>.<Class>@<model>`, "
            "for example `facenet.Calculator@20180402-114759`."
        )
    return Notation(text, package, name, model)


@dataclass(frozen=True, slots=True)
class Context:
    """What factories need from outside.

    `open_session` loads an ONNX file, `open_model` a prepared model with the runtime chosen for it
    (by default its ONNX file). `length_limit` px of the longer side for detection, 0 for none.
    `rows`: the most faces of one run of a calculator; None where it knows best, as on a CPU.
    """

    open_session: Callable[[Path], Session]
    models_dir: Path | None
    length_limit: int
    spread: ParallelMap = serial_map
    idle: Callable[[], int] = no_idle_workers
    open_model: Callable[[PreparedModel], Session] | None = None
    rows: int | None = None
    opened: dict[Path, Session] = field(default_factory=dict, compare=False, repr=False)

    def model(self, name: str, plugin: str, role: Role) -> PreparedModel:
        """The prepared model `name` for the notation `plugin`, its role and hash checked.

        Raises ConfigurationError where it is absent, damaged or made for another role.
        """
        return read_prepared(self.models_dir, name, plugin, role)

    def open(self, model: PreparedModel) -> Session:
        """A session over a prepared model, the same one for all plugins that name it."""
        if model.path not in self.opened:
            self.opened[model.path] = (
                self.open_session(model.path) if self.open_model is None else self.open_model(model)
            )
        return self.opened[model.path]
