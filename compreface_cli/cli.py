"""The entry point of `cf` (its commands: app.py), and where an error becomes an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import takewhile
from types import FrameType
from typing import Any

from compreface_cli import __version__
from compreface_cli.errors import CfError, InterruptedByUser, Interruption, OutputError, UsageError
from compreface_cli.terminal.stdout import written

_INTERRUPTED = 130


def __getattr__(name: str) -> Any:
    if name == "app":  # for tools and tests that want the whole app
        from compreface_cli.app import make_app

        return make_app()
    raise AttributeError(name)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interruption(signal.Signals(number).name)


def main() -> None:
    """Run `cf`; every error that is meant for the user ends here, with its exit code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # closed by who started `cf`
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):  # no name ends a command for its letters
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _stop)
    code = _ended(_print_version if sys.argv[1:] == ["--version"] else _run)
    unwritten = _ended(_flush)
    if code or unwritten:
        sys.exit(code or unwritten)


def _ended(work: Callable[[], int]) -> int:
    try:
        return work()
    except KeyboardInterrupt:
        return _report(InterruptedByUser("interrupted"))
    except Interruption as signalled:
        by = "" if str(signalled) in ("", "SIGINT") else f" by {signalled}"
        outcome = f"; {signalled.outcome}" if signalled.outcome else ""
        return _report(InterruptedByUser(f"interrupted{by}{outcome}"))
    except CfError as error:
        return _report(error)
    except Exception as error:
        return _report(_unexpected(error))


def _print_version() -> int:
    with written():
        print(f"cf {__version__}")  # needs no Typer
    return 0


def _flush() -> int:
    with written():
        return 0


def _unexpected(error: Exception) -> CfError:
    """A folder of this user that cannot be used, or else a fault of cf itself."""
    if isinstance(error, OSError):
        from compreface_cli.config import paths

        if refused := paths.refused(error):
            return refused
    text = f"{type(error).__name__}: {error}"
    hint = "This is a fault of cf. `cf --debug ...` shows where it is."
    return CfError(f"unexpected {text}", hint=hint)


def _run() -> int:
    import typer

    from compreface_cli.app import make_app, typed

    # The root of Typer's own errors, which it does not export by name.
    usage_error: type[Any] = typer.BadParameter.__mro__[2]
    try:
        code = make_app(typed())(prog_name="cf", standalone_mode=False)
    except typer.Abort as error:
        raise InterruptedByUser("aborted") from error
    except usage_error as error:
        if not _json_is_wanted():
            error.show()
            return int(error.exit_code)
        raise UsageError(error.format_message(), hint="cf --help") from error
    if code == _INTERRUPTED:  # how Typer hands a KeyboardInterrupt on
        raise InterruptedByUser("interrupted")
    return code if isinstance(code, int) else 0


def _report(error: CfError) -> int:
    from compreface_cli.terminal.output import Output

    # A second Ctrl-C must not cut the answer to the first.
    before = {one: signal.signal(one, _hear_nothing) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        if os.environ.get("CF_DEBUG"):
            import traceback

            traceback.print_exc()
        with suppress(OSError):  # of stderr: the exit code stays
            try:
                in_json = _json_is_wanted() and not isinstance(error, OutputError)
                Output(json_mode=in_json).error(error)
            except OutputError as unwritten:
                Output().error(error)
                Output().error(unwritten)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return error.code


def _json_is_wanted() -> bool:
    options = takewhile(lambda one: one != "--", sys.argv[1:])
    return any(one.partition("=")[0] == "--json" for one in options)


def _hear_nothing(number: int, frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    main()
