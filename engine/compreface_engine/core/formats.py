"""Guesses a picture's format from its first bytes, for the log only."""

from __future__ import annotations

from typing import Final

_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"RIFF", "WEBP"),
    (b"BM", "BMP"),
    (b"II", "TIFF"),
    (b"MM", "TIFF"),
    (b"\0\0\0\x0cjP", "JPEG2000"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"8BPS", "PSD"),
    (b"\0\0\1\0", "ICO"),
    (b"P", "PPM"),
)


def format_of(data: bytes | memoryview) -> str:
    """Pillow's name of the format; "unknown" for rare formats and other data."""
    start = bytes(data[:8])
    return next((kind for mark, kind in _SIGNATURES if start.startswith(mark)), "unknown")
