"""Puts the engine's wheel, its requirements, templates and builds into the wheel of `cf`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilder

BUNDLE = "compreface_cli/_bundle"


class BundleHook(BuildHookInterface):  # type: ignore[type-arg]
    """Runs for the wheel only; an editable install finds the same files in the checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        root = Path(self.root)
        self._folder = tempfile.TemporaryDirectory(prefix="cf-engine-wheel-")
        (wheel,) = WheelBuilder(str(root / "engine")).build(
            directory=self._folder.name, versions=["standard"]
        )
        include = build_data["force_include"]
        include[wheel] = f"{BUNDLE}/engine/{Path(wheel).name}"
        include[str(root / "engine" / "requirements")] = f"{BUNDLE}/engine/requirements"
        include[str(root / "templates")] = f"{BUNDLE}/templates"
        include[str(root / "builds")] = f"{BUNDLE}/builds"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        folder = getattr(self, "_folder", None)
        if folder is not None:
            folder.cleanup()
