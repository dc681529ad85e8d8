"""The only printer: results on stdout, the rest on stderr, for people or as one JSON document."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compreface_cli.errors import CfError, InterruptedByUser
from compreface_cli.terminal.stdout import written

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress, Task, TaskID
    from rich.segment import Segment
    from rich.text import Text

SCHEMA_VERSION = 1


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but a line's end and a tab


def _shown(text: str) -> str:
    """The text with an escape for what a terminal would obey."""
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Harmless(Console):
        """Obeys its own styles, and shows the control characters of names and texts."""

        def render_str(self, text: str, **how: Any) -> Text:  # before it is measured
            return super().render_str(_shown(text), **how)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for one in super().render(renderable, options):
                yield one if one.control else one._replace(text=_shown(one.text))

        def on_broken_pipe(self) -> None:
            """Rich would end the command with exit code 1."""
            if not self.stderr:
                raise
            self.quiet = True

    return Harmless(stderr=stderr, highlight=False, emoji=False, soft_wrap=not stderr)


def _display(console: Console) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        TimeElapsedColumn,
    )
    from rich.table import Column
    from rich.text import Text

    class Words(ProgressColumn):
        """Alone gives way where the terminal is narrow."""

        def render(self, task: Task) -> Text:
            return Text(task.description, no_wrap=True, overflow="ellipsis")

    class Bar(BarColumn):
        """None where nobody knows how much there is."""

        def __call__(self, task: Task) -> RenderableType:
            return "" if task.total is None else super().__call__(task)

    return Progress(
        SpinnerColumn(table_column=Column(no_wrap=True)),
        Words(),
        Bar(bar_width=20, table_column=Column(no_wrap=True)),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        console=console,
        get_time=time.monotonic,
        transient=True,
    )


class Output:
    """Prints for one run of `cf`; `json_mode` decides for whom."""

    def __init__(self, *, json_mode: bool = False, quiet: bool = False) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self._consoles: dict[bool, Console] = {}
        self._display: Progress | None = None
        self._drawing = threading.Lock()

    def console(self, *, stderr: bool = False) -> Console:
        """The Rich console of that stream (made when first asked for: Rich is slow to import)."""
        if stderr not in self._consoles:
            self._consoles[stderr] = _console(stderr)
        return self._consoles[stderr]

    def result(self, document: Mapping[str, Any], human: Callable[[Console], None]) -> None:
        """The one result of a command: `document` with `--json`, else what `human` draws."""
        if self.json_mode:
            self.write_json(document)
        else:
            with written():
                human(self.console())

    def write_json(self, document: Mapping[str, Any]) -> None:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=2, default=str)
        with written():
            sys.stdout.write(text + "\n")

    def note(self, text: str, *, style: str | None = None) -> None:
        """A line about what happens, on stderr; Rich markup is not read in it."""
        if not self.quiet:
            self._say(text, style)

    def warning(self, text: str) -> None:
        self._say(f"warning: {text}", "yellow")

    def error(self, error: CfError) -> None:
        """The error, its hint and, with `--json`, the same as the one document on stdout."""
        if self.json_mode:
            self.write_json({"error": error.as_dict()})
            return
        # What the user has asked for is no error.
        label = "" if isinstance(error, InterruptedByUser) else "error: "
        self._say(f"{label}{error.message}", "bold red")
        if error.hint:
            self._say(error.hint)

    def ask(self, question: str) -> str | None:
        """What the user types; None where nobody can be asked: `--json`, or no terminal."""
        if self.json_mode or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        self.console(stderr=True).print(question, end="", markup=False, soft_wrap=True)
        return sys.stdin.readline().strip()

    def _say(self, text: str, style: str | None = None) -> None:
        self.console(stderr=True).print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """A bar with its time (without `total` the time) on a terminal, else a line.

        Yields `advance(amount)`. What took a second or more leaves a line with its seconds.
        """
        if not self._draws():
            self.note(f"{label} ...")
            yield lambda amount: None
            return
        with self._bar(label, total) as (bar, task):
            yield lambda amount: bar.advance(task, amount)

    @contextmanager
    def waiting(self, label: str, *, after_s: float = 1.0) -> Iterator[Callable[[str], None]]:
        """A wait that is shown once it has lasted `after_s` seconds; yields `say(label)`.

        A terminal shows a spinner with the seconds since the beginning; `say` changes its words,
        and it leaves no line behind. Elsewhere it is one line.
        """
        begun, ended = time.monotonic(), threading.Event()
        words = [label]

        def show() -> None:
            if ended.wait(after_s):
                return
            if not self._draws():
                self.note(f"{words[0]} ...")
                return
            with self._bar(words[0], None, begun) as (bar, task):
                while not ended.wait(0.1):
                    bar.update(task, description=_shown(words[0]))

        def say(text: str) -> None:
            words[0] = text

        voice = threading.Thread(target=show, daemon=True)
        voice.start()
        try:
            yield say
        finally:
            ended.set()
            voice.join()

    def _draws(self) -> bool:
        return not (self.quiet or self.json_mode) and self.console(stderr=True).is_terminal

    @contextmanager
    def _bar(
        self, label: str, total: float | None, begun: float | None = None
    ) -> Iterator[tuple[Progress, TaskID]]:
        """A line of the one display that a terminal has; `begun` (monotonic) for a wait."""
        with self._drawing:
            if self._display is None:
                self._display = _display(self.console(stderr=True))
                self._display.start()
            bar = self._display
            task = bar.add_task(_shown(label), total=total)
            row = next(one for one in bar.tasks if one.id == task)
            row.start_time = begun if begun is not None else row.start_time
        try:
            yield bar, task
        finally:
            took = time.monotonic() - (row.start_time or 0.0)
            with self._drawing:
                bar.remove_task(task)
                if not bar.tasks:
                    bar.stop()
                    self._display = None
            if begun is None and took >= 1:
                self.note(f"{label}: {took:.0f} s")
