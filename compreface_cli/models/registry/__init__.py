"""Reads files out of a container image by the registry's own protocol, without Docker."""

from compreface_cli.models.registry.image import Local, fetch, layers_folder
from compreface_cli.models.registry.reference import Image
from compreface_cli.models.tar_stream import Bounds, Readable

__all__ = ["Bounds", "Image", "Local", "Readable", "fetch", "layers_folder"]
