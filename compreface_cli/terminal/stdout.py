"""Writing to stdout: quiet once its reader has left, one line of error where it fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from compreface_cli.errors import OutputError


@contextmanager
def written() -> Iterator[None]:
    """Everything printed inside is out at the end; OutputError where it cannot be written.

    A reader that has left (`cf ... | head -1`) has what it wants: the rest is dropped, and the
    command ends with its own exit code. An error that names a file is not about stdout.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None:
            raise
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # or the interpreter would fail once more at its end
        os.close(nowhere)
        if not isinstance(error, BrokenPipeError):
            raise OutputError(f"the output cannot be written: {error.strerror}") from error
