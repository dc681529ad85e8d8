"""The error of this package."""

from __future__ import annotations


class ConvertError(Exception):
    """A model file or its entry is refused; the message says what is wrong, and where."""
