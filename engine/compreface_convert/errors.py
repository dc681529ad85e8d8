"""What a conversion says when it refuses a file."""

from __future__ import annotations


class ConvertError(Exception):
    """A model file was refused; the text says to the user what was found, and where."""
