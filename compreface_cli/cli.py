"""The entry point of `cf` (its commands: app.py); turns errors into exit codes."""

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
    if name == "app":  # the whole app, for tools and tests
        from compreface_cli.app import make_app

        return make_app()
    raise AttributeError(name)


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interruption(signal.Signals(number).name)


def main() -> None:
    """Run `cf`; report every error that is meant for the user and exit with its code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name) or open(os.devnull, "w")  # closed by the parent process
        setattr(sys, name, stream)
        if isinstance(stream, io.TextIOWrapper):  # an unencodable file name must not end a command
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _stop)
    code = _exit_code(_print_version if sys.argv[1:] == ["--version"] else _run)
    flush_code = _exit_code(_flush)
    if code or flush_code:
        sys.exit(code or flush_code)


def _exit_code(work: Callable[[], int]) -> int:
    try:
        return work()
    except KeyboardInterrupt:
        return _report(InterruptedByUser("interrupted"))
    except Interruption as signal_error:
        by = "" if str(signal_error) in ("", "SIGINT") else f" by {signal_error}"
        outcome = f"; {signal_error.outcome}" if signal_error.outcome else ""
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
    """The error for a user folder that cannot be used, else one that reports a bug in cf."""
    if isinstance(error, OSError):
        from compreface_cli.config import paths

        if refused := paths.refused(error):
            return refused
    text = f"{type(error).__name__}: {error}"
    hint = "This is a bug in cf. `cf --debug ...` prints the traceback."
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
        error.message = str(error.message).removeprefix("Value error, ")  # pydantic's
        if not _wants_json():
            error.show()
            return int(error.exit_code)
        command = error.ctx.command_path if error.ctx else "cf"
        raise UsageError(error.format_message(), hint=f"{command} --help") from error
    if code == _INTERRUPTED:  # Typer returns this code for a KeyboardInterrupt
        raise InterruptedByUser("interrupted")
    return code if isinstance(code, int) else 0


def _report(error: CfError) -> int:
    from compreface_cli.terminal.output import Output

    # A second Ctrl-C must not cut off the report of the first.
    previous = {
        number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        if os.environ.get("CF_DEBUG"):
            import traceback

            traceback.print_exc()
        with suppress(OSError):  # of stderr: the exit code stays
            try:
                in_json = _wants_json() and not isinstance(error, OutputError)
                Output(json_mode=in_json).error(error)
            except OutputError as unwritten:
                Output().error(error)
                Output().error(unwritten)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return error.code


def _wants_json() -> bool:
    options = takewhile(lambda argument: argument != "--", sys.argv[1:])
    return any(option.partition("=")[0] == "--json" for option in options)


def _ignore(number: int, frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    main()
