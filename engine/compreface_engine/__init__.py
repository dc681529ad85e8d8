"""The engine: detects faces and computes embeddings behind the compreface-core contract."""

import os
from importlib import metadata

try:
    __version__ = metadata.version("compreface-engine")
except metadata.PackageNotFoundError:  # run from a checkout's sources
    __version__ = "0+source"

# ONNX Runtime's Linux wheels (seen in 1.32) keep a device id in the home folder and report the
# process to their maker. The library reads this variable once, when it is loaded; the call
# `disable_telemetry_events()` comes too late and prevents neither.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
