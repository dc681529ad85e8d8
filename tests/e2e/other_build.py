"""A second build with another calculator, prepared for one `cf` from the shared weights."""

from __future__ import annotations

from pathlib import Path

from tests.cli.local_cf import shared_environment
from tests.cli.prepared_models import prepared
from tests.e2e.machine import Cf

CALCULATOR = "custom.Calculator@mobilefacenet128"
_BUILD = f"""
schema: 1
name: other
summary: MTCNN and MobileFaceNet-128
detector: embedded.FaceDetector@mtcnn
calculator: {CALCULATOR}
plugins: [facenet.LandmarksDetector, facenet.PoseEstimator]
"""


def other_build(cf: Cf) -> Path:
    """The path of the build; its model and the environment that prepares it are `cf`'s by then."""
    environment = shared_environment()
    homes = cf.data / "engine-env"
    homes.mkdir(parents=True, exist_ok=True)
    link = homes / environment.key
    if not link.exists():
        link.symlink_to(environment.folder)
    build = cf.here / "other.yaml"
    build.write_text(_BUILD, "utf-8")
    prepared(str(build), cf.data / "models", environment)
    return build
