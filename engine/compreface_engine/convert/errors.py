"""What a conversion says when it refuses a file."""

from __future__ import annotations


class ConvertError(Exception):
    """A model file was refused. The text is for the user: what was found, where, and what would work."""
