"""The streams of this process: they take every sign, and say in one line why they take no more."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from compreface_cli.errors import OutputError


class _Stdout(io.TextIOWrapper):
    """Raises OutputError where it cannot be written; BrokenPipeError when nobody reads on."""

    def write(self, text: str, /) -> int:
        if text == "":  # how Typer tries what kind of stream it has: no failure may pass there
            return 0
        with _told():
            return super().write(text)

    def flush(self) -> None:
        with _told():
            super().flush()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop(sys.stdout)
        why = error.strerror or str(error)
        raise OutputError(f"the output cannot be written: {why}") from error


def prepare() -> None:
    """Make the streams of this process fit for `cf`; those of a test or of a caller stay."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, so the next file would get its number
            setattr(sys, name, open(os.devnull, mode))
    # No name and no sign may end a command because the terminal or the file cannot show it.
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors="backslashreplace")
    old = sys.stdout
    if type(old) is io.TextIOWrapper:
        encoding, by_line, at_once = old.encoding, old.line_buffering, old.write_through
        sys.stdout = _Stdout(
            old.detach(),
            encoding,
            "backslashreplace",
            line_buffering=by_line,
            write_through=at_once,
        )


def drop(stream: TextIO) -> None:
    """Nothing more comes out of this stream, or the interpreter would fail once more at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
