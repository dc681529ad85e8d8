"""The only printer: results on stdout, the rest on stderr, for people or as one JSON document."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compreface_cli.errors import CfError, InterruptedByUser

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
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

    return Harmless(stderr=stderr, highlight=False, emoji=False, soft_wrap=not stderr)


class Output:
    """Prints for one run of `cf`; `json_mode` decides for whom."""

    def __init__(self, *, json_mode: bool = False, quiet: bool = False) -> None:
        self.json_mode = json_mode
        self.quiet = quiet
        self._consoles: dict[bool, Console] = {}

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
            human(self.console())

    def write_json(self, document: Mapping[str, Any]) -> None:
        text = json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=2, default=str)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

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

    def _say(self, text: str, style: str | None = None) -> None:
        self.console(stderr=True).print(text, style=style, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        """A bar (a pulse without `total`) on a terminal, else a line; yields `advance(amount)`."""
        console = self.console(stderr=True)
        if self.quiet or self.json_mode or not console.is_terminal:
            self.note(f"{label} ...")
            yield lambda amount: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        with bar:
            task = bar.add_task(_shown(label), total=total)
            yield lambda amount: bar.advance(task, amount)
