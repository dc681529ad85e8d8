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
    """Raises OutputError where it cannot be written; drops the rest when its reader has left.

    So `cf ... | head -1` ends with the command's own exit code: 0 when nothing else is wrong, which
    `set -o pipefail` needs. A SIGPIPE (141) would call a good answer a failure.
    """

    unread = False

    def write(self, text: str, /) -> int:
        if text == "":  # how Typer tries what kind of stream it has: no failure may pass there
            return 0
        with self._told():
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with self._told():
            super().flush()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.unread = True
            drop(self)
        except OSError as error:
            drop(self)
            why = error.strerror or str(error)
            raise OutputError(f"the output cannot be written: {why}") from error


class _Stderr(io.TextIOWrapper):
    """Drops what cannot be written: a line that nobody can read must not end what it tells of."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError:
            drop(self)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            drop(self)


def unread() -> bool:
    """Whether the reader of stdout has left: what writes without end can end."""
    return isinstance(sys.stdout, _Stdout) and sys.stdout.unread


def prepare() -> None:
    """Make the streams of this process fit for `cf`; those of a test or of a caller stay."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed, so the next file would get its number
            nowhere = open(os.devnull, mode)
            setattr(sys, name, nowhere)
            setattr(sys, f"__{name}__", nowhere)
    sys.stdout = _as(_Stdout, sys.stdout)
    sys.stderr = _as(_Stderr, sys.stderr)


def _as(kind: type[io.TextIOWrapper], old: TextIO) -> TextIO:
    """The stream as that kind; no name and no sign ends a command because it cannot be shown.

    The old one lives on as `sys.__stdout__`, or it would close what the two share.
    """
    if type(old) is not io.TextIOWrapper or old not in (sys.__stdout__, sys.__stderr__):
        return old
    return kind(
        old.buffer,
        old.encoding,
        "backslashreplace",
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )


def drop(stream: TextIO) -> None:
    """Nothing more comes out of this stream, or the interpreter would fail once more at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
