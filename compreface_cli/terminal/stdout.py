"""Writing to stdout: a closed pipe is no error, and any other failure is one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from compreface_cli.errors import OutputError


@contextmanager
def written() -> Iterator[None]:
    """Flush stdout at the end of the block; raises OutputError if it cannot be written.

    When the reader has closed the pipe (`cf ... | head -1`), the rest is dropped and the command
    keeps its exit code. An OSError that names a file is not about stdout, and is raised as it is.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())  # or the interpreter would fail again at exit
        os.close(null)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"the output cannot be written: {error.strerror}") from error
