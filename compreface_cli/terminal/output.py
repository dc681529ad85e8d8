"""The only printer: results on stdout as text or one JSON document, everything else on stderr."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compreface_cli import topics
from compreface_cli.errors import CfError, InterruptedByUser
from compreface_cli.terminal.stdout import written

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.progress import Progress, Task, TaskID
    from rich.segment import Segment
    from rich.text import Text

SCHEMA_VERSION = 1


# All but line feed and tab; line separators, and what changes the direction of text.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def _escaped(text: str) -> str:
    """The text with its control characters escaped, which a terminal would execute."""
    return _CONTROLS.sub(lambda match: _code(match[0]), text)


def _code(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def one_line(text: str) -> str:
    """Text of another origin within a line: its line feeds and tabs are escaped as well."""
    return text.replace("\n", "\\n").replace("\t", "\\t")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _console(stderr: bool) -> Console:
    from rich.console import Console

    class Harmless(Console):
        """Applies its own styles, and escapes the control characters of what it prints."""

        def render_str(self, text: str, **options: Any) -> Text:  # before it is measured
            return super().render_str(_escaped(text), **options)

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=_escaped(segment.text))

        def on_broken_pipe(self) -> None:
            """Overrides Rich, which would end the command with exit code 1."""
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
        """The only column that is shortened on a narrow terminal."""

        def render(self, task: Task) -> Text:
            return Text(task.description, no_wrap=True, overflow="ellipsis")

    class Bar(BarColumn):
        """Empty for an unknown total."""

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
    """The output of one run of `cf`, as JSON with `json_mode`; `quiet` drops notes and progress."""

    def __init__(self, *, json_mode: bool = False, quiet: bool = False) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self._consoles: dict[bool, Console] = {}
        self._display: Progress | None = None
        self._drawing = threading.Lock()

    def console(self, *, stderr: bool = False) -> Console:
        """The Rich console of that stream, created on first use: Rich is slow to import."""
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

    def lines(
        self,
        document: Callable[[], Mapping[str, Any]],
        human: Callable[[int], Iterable[tuple[str, str]]],
    ) -> None:
        """As `result`, of lines with the name of a style or "", drawn for a width in characters.

        Only a terminal shows styles, so elsewhere Rich need not be imported.
        """
        if self.json_mode:
            self.write_json(document())
            return
        with written():
            if sys.stdout.isatty() or os.environ.get("FORCE_COLOR"):
                console = self.console()
                for text, style in human(console.width):
                    console.print(text, style=style or None, markup=False)
            else:
                lines = human(shutil.get_terminal_size().columns)
                sys.stdout.writelines(f"{_escaped(text)}\n" for text, _ in lines)

    def write_json(self, document: Mapping[str, Any]) -> None:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=2, default=str)
        with written():
            sys.stdout.write(text + "\n")

    def note(self, text: str, *, style: str | None = None) -> None:
        """Print a line about the progress on stderr; Rich markup is not interpreted."""
        if not self.quiet:
            self._print(text, style)

    def warning(self, text: str) -> None:
        self._print(f"warning: {text}", "yellow")

    def error(self, error: CfError) -> None:
        """Print the error and its hint on stderr; with `--json` as the one document on stdout."""
        if self.json_mode:
            self.write_json({"error": error.as_dict()})
            return
        # An interruption was asked for.
        label = "" if isinstance(error, InterruptedByUser) else "error: "
        self._print(f"{label}{error.message}", "bold red")
        if error.hint:
            self._print(error.hint)
        if more := topics.more(*error.topics):
            self._print(more)

    def ask(self, question: str) -> str | None:
        """The user's answer; None without a terminal, and with `--json`."""
        if self.json_mode or not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        self.console(stderr=True).print(question, end="", markup=False, soft_wrap=True)
        return sys.stdin.readline().strip()

    def _print(self, text: str, style: str | None = None) -> None:
        self.console(stderr=True).print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """A progress bar with the time on a terminal (without `total` only the time), else a line.

        Yields `advance(amount)`. A step of a second or more leaves a line with its seconds.
        """
        if not self._draws():
            self.note(f"{label} ...")
            yield lambda amount: None
            return
        with self._bar(label, total) as (bar, task):
            yield lambda amount: bar.advance(task, amount)

    @contextmanager
    def counted(
        self, label: str, total: int, *, pause_s: float = 10.0
    ) -> Iterator[Callable[[int, str], None]]:
        """Progress in whole things, with the rate and the time left.

        Yields `advance(number, note)`. A bar on a terminal, elsewhere a line every `pause_s`.
        """
        begun = last = time.monotonic()
        done = 0

        def text(note: str) -> str:
            rate = done / max(1e-6, time.monotonic() - begun)
            left = f", {_duration((total - done) / rate)} left" if 0 < done < total else ""
            return f"{label}: {done} of {total}, {rate:.1f}/s{left}{f' ({note})' if note else ''}"

        if self._draws():
            with self._bar(label, total, begun) as (bar, task):

                def draw(number: int, note: str = "") -> None:
                    nonlocal done
                    done += number
                    bar.update(task, advance=number, description=_escaped(text(note)))

                yield draw
            self.note(text(""))
            return

        def tell(number: int, note: str = "") -> None:
            nonlocal done, last
            done += number
            if time.monotonic() - last >= pause_s:
                last = time.monotonic()
                self.note(f"  {text(note)}")

        self.note(f"{label} ...")
        yield tell
        self.note(text(""))

    @contextmanager
    def waiting(self, label: str, *, after_s: float = 1.0) -> Iterator[Callable[[str], None]]:
        """A wait that is shown after `after_s` seconds; yields `set_label(text)`.

        On a terminal a spinner with the seconds since the start, which leaves no line behind;
        elsewhere one line.
        """
        begun, ended = time.monotonic(), threading.Event()
        labels = [label]

        def show() -> None:
            if ended.wait(after_s):
                return
            if not self._draws():
                self.note(f"{labels[0]} ...")
                return
            with self._bar(labels[0], None, begun) as (bar, task):
                while not ended.wait(0.1):
                    bar.update(task, description=_escaped(labels[0]))

        def set_label(text: str) -> None:
            labels[0] = text

        thread = threading.Thread(target=show, daemon=True)
        thread.start()
        try:
            yield set_label
        finally:
            ended.set()
            thread.join()

    def _draws(self) -> bool:
        return not (self.quiet or self.json_mode) and self.console(stderr=True).is_terminal

    @contextmanager
    def _bar(
        self, label: str, total: float | None, begun: float | None = None
    ) -> Iterator[tuple[Progress, TaskID]]:
        """A row in the one display of the terminal; `begun`: start of a wait, on time.monotonic."""
        with self._drawing:
            if self._display is None:
                self._display = _display(self.console(stderr=True))
                self._display.start()
            bar = self._display
            task = bar.add_task(_escaped(label), total=total)
            row = next(row for row in bar.tasks if row.id == task)
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
