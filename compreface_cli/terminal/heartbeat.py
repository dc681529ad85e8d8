"""Progress of a long step as periodic lines of text, where no bar can be drawn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from compreface_cli.terminal.output import Output

PAUSE_S = 20.0


class Heartbeat:
    """Has the `progress` of `out`, and prints a line every `pause_s` seconds where no bar moves."""

    def __init__(self, out: Output, pause_s: float = PAUSE_S) -> None:
        self._out = out
        self._pause_s = pause_s

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """Like `Output.progress`; the lines end with the block."""
        bar = not (self._out.quiet or self._out.json_mode)
        if bar and self._out.console(stderr=True).is_terminal:
            with self._out.progress(label, total) as advance:
                yield advance
            return
        ended, begun = threading.Event(), time.monotonic()

        def beat() -> None:
            while not ended.wait(self._pause_s):
                self._out.note(f"  {label}: {time.monotonic() - begun:.0f} s so far ...")

        thread = threading.Thread(target=beat, daemon=True)
        with self._out.progress(label, total) as advance:
            thread.start()
            try:
                yield advance
            finally:
                ended.set()
                thread.join()
