"""The `cf` command: configure, build and launch custom builds of CompreFace."""

__version__ = "0.1.0"
