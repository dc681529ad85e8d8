"""Puts the engine's wheels, requirements, tables, templates and builds into the wheel of `cf`."""

from __future__ import annotations

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUNDLE = "compreface_cli/_bundle"


class BundleHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs for wheel and sdist; an editable install finds the same files in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root = Path(self.root)
        resources = _resources(root)
        self._folder = tempfile.TemporaryDirectory(prefix="cf-build-")
        revision = Path(self._folder.name, "REVISION")
        revision.write_text(resources.revision() + "\n", encoding="utf-8")
        include = build_data["force_include"]
        if self.target_name == "sdist":
            include[str(revision)] = "REVISION"
            return
        # Packed as a checkout packs it: the same sources give the same image, wherever `cf` is.
        for package in resources.PROJECTS:
            wheel = resources.pack(root / "engine", package, Path(self._folder.name))
            include[str(wheel)] = f"{BUNDLE}/engine/{wheel.name}"
        include[str(revision)] = f"{BUNDLE}/revision"
        include[str(root / "engine" / "requirements")] = f"{BUNDLE}/engine/requirements"
        for table in map(resources.engine_table, resources.ENGINE_TABLES):
            include[str(table)] = f"{BUNDLE}/engine/{table.name}"
        include[str(root / "templates")] = f"{BUNDLE}/templates"
        include[str(root / "builds")] = f"{BUNDLE}/builds"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()


def _resources(root: Path) -> Any:
    """The module that packs the engine; loaded by its path, since nothing is installed yet."""
    path = root / "compreface_cli" / "resources.py"
    spec = importlib.util.spec_from_file_location("_cf_resources", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
