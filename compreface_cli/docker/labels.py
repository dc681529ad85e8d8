"""Labels of containers, images and volumes in Docker: those of `cf`, and those of Compose."""

from __future__ import annotations

IMAGE = "compreface-core"

# Their meaning must never change: what earlier versions created carries them.
LABEL_INSTANCE = "compreface-cli.instance"
LABEL_BUILD = "compreface-cli.build"
LABEL_DETECTOR = "compreface-cli.detector"
LABEL_CALCULATOR = "compreface-cli.calculator"
LABEL_MODELS = "compreface-cli.models"
LABEL_RUNTIME = "compreface-cli.runtime"
LABEL_KEYS = "compreface-cli.keys"
LABEL_ROUTES = "compreface-cli.routes"
LABEL_BASE = "compreface-cli.base"  # id of the image that the engine's was built on
LABEL_RENDER = "compreface-cli.render"  # hash of all that the image was built from
LABEL_TRIAL = "compreface-cli.trial"  # names the instance whose next engine is being proven
LABEL_COPY = "compreface-cli.copy"  # a container, never started, that files are copied out of
LABEL_PROBE = "compreface-cli.probe"  # a container that shows whether a GPU can be used

PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
VOLUME = "com.docker.compose.volume"
FOLDER = "com.docker.compose.project.working_dir"
CONFIG_HASH = "com.docker.compose.config-hash"
NUMBER = "com.docker.compose.container-number"
