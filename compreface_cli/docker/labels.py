"""Labels of containers, images and volumes in Docker: those of `cf`, and those of Compose."""

from __future__ import annotations

IMAGE = "compreface-core"

# Their meaning must never change: what earlier versions created carries them.
LABEL_INSTANCE = "compreface-cli.instance"
LABEL_BUILD = "compreface-cli.build"
LABEL_DETECTOR = "compreface-cli.detector"
LABEL_CALCULATOR = "compreface-cli.calculator"
LABEL_PLUGINS = "compreface-cli.plugins"  # further ones, with commas between
LABEL_MODELS = "compreface-cli.models"  # NAME=SHA256 of each network in the image, likewise
LABEL_RUNTIME = "compreface-cli.runtime"  # runtime and precision
LABEL_MIN_COSINE = "compreface-cli.min-cosine"  # to fp32, at least
LABEL_DEVICE = "compreface-cli.device"  # cpu or cuda
LABEL_WHEELS = "compreface-cli.wheels"  # the engine's set of requirements
LABEL_LIMITS = "compreface-cli.limits"  # KEY=VALUE of those that the build sets
LABEL_ANSWER = "compreface-cli.answer"  # JSON: what the engine answers about the reference face
LABEL_TLS = "compreface-cli.tls"
LABEL_ROUTES = "compreface-cli.routes"
LABEL_DATABASE = "compreface-cli.database"  # digest of the certificate authority of one elsewhere
LABEL_BASE = "compreface-cli.base"  # id of the image that the engine's was built on
LABEL_RENDER = "compreface-cli.render"  # hash of all that the image was built from
LABEL_TRIAL = "compreface-cli.trial"  # names the instance whose next engine is being proven
LABEL_COPY = "compreface-cli.copy"  # a container, never started, that files are copied out of
LABEL_AT_REST = "compreface-cli.at-rest"  # names the volume that a temporary server works on
LABEL_PROBE = "compreface-cli.probe"  # a container that shows whether a GPU can be used
LABEL_RESTORE = "compreface-cli.restore"  # a volume: the id of the restore that has made it

STACK = "com.docker.stack.namespace"  # of Swarm: the stack's name
STACK_SERVICE = "com.docker.swarm.service.name"
PROJECT = "com.docker.compose.project"
SERVICE = "com.docker.compose.service"
VOLUME = "com.docker.compose.volume"
FOLDER = "com.docker.compose.project.working_dir"
CONFIG_HASH = "com.docker.compose.config-hash"
NUMBER = "com.docker.compose.container-number"
