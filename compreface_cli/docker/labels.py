"""How Docker knows what belongs to `cf`: the image's name and the labels."""

from __future__ import annotations

IMAGE = "compreface-core"

# What they say must never change its meaning: things of earlier versions carry them.
LABEL_INSTANCE = "compreface-cli.instance"
LABEL_BUILD = "compreface-cli.build"
LABEL_DETECTOR = "compreface-cli.detector"
LABEL_CALCULATOR = "compreface-cli.calculator"
LABEL_MODELS = "compreface-cli.models"
LABEL_RUNTIME = "compreface-cli.runtime"
LABEL_KEYS = "compreface-cli.keys"
LABEL_ROUTES = "compreface-cli.routes"
LABEL_BASE = "compreface-cli.base"  # id of the image that the engine's was built upon
