"""Runs the `docker` program with a timeout, interruptibly; its failures become errors of `cf`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import IO, Any, TypeAlias

from compreface_cli import causes
from compreface_cli.child_processes import die_with
from compreface_cli.errors import CfError, DockerError

Line: TypeAlias = Callable[[str], None]
Watch: TypeAlias = Callable[[], CfError | None]

_SHOWN_BYTES = 1 << 16  # of stderr, for an error
_SHORT_S = 2.0


def failure(doing: str, output: str, *, code: int, lines: int = 8) -> CfError:
    """The error for a docker command that ended with `code`: the cause, then its last lines."""
    tail = [line for line in output.splitlines() if line.strip()][-lines:] if lines else []
    cause = causes.of("docker", output)
    what = cause.what if cause else f"docker ended with exit code {code}"
    message = f"{doing}: {what}" + "".join(f"\n    {line}" for line in tail)
    details = {"exit_code": code, "output": tail}
    if cause is None:
        return CfError(message, details=details)
    return cause.error(message, hint=cause.hint, details=details, topic=cause.topic)


def run(
    *arguments: str,
    doing: str,
    timeout_s: float | None = 60.0,
    check: bool = True,
    on_line: Line | None = None,
    environment: Mapping[str, str] | None = None,
    watch: Watch | None = None,
) -> str:
    """Run `docker ARGUMENTS` and return its stdout; with `on_line` and in errors stderr as well.

    `watch` is called every second in a thread; an error that it returns ends the command.

    The child has its own session, so that Ctrl-C reaches only `cf`; whatever ends the wait (a
    signal, the timeout, the end of `cf`) also ends the child and the plugin that it started.
    `check=False` accepts any exit code and returns stdout.
    """
    merged = on_line is not None
    lines: list[str] = []
    # Closed at once if a signal interrupts the loop: a traceback must not keep the child alive.
    with closing(
        _lines(
            arguments, doing, timeout_s, merged=merged, env=environment, check=check, watch=watch
        )
    ) as source:
        for line in source:
            lines.append(line)
            if on_line is not None:
                on_line(line)
    return "\n".join(lines)


def ask(*arguments: str, doing: str, timeout_s: float = 30.0) -> Any:
    """The JSON document that `docker ARGUMENTS` prints; None if it prints nothing."""
    text = run(*arguments, doing=doing, timeout_s=timeout_s)
    return json.loads(text) if text.strip() else None


def stream(*arguments: str, doing: str) -> Generator[str, None, None]:
    """The lines of a command as they arrive, stderr too; closing the iterator ends the command.

    The error of a failed command does not repeat them.
    """
    yield from _lines(arguments, doing, None, merged=True, env=None, check=True, shown=0)


@contextmanager
def output(*arguments: str, doing: str, timeout_s: float) -> Iterator[IO[bytes]]:
    """The stdout of a command, as bytes; the command ends with the block.

    Its failure is raised in place of an error that its cut output has caused in the block.
    """
    with tempfile.TemporaryFile() as errors:
        child = _started(arguments, doing, None, stderr=errors.fileno())
        watcher = _Watcher(child, doing, timeout_s, None)

        def failed() -> CfError | None:
            if watcher.error is not None or not child.poll():
                return watcher.error
            errors.seek(0)
            return failure(
                doing, errors.read(_SHOWN_BYTES).decode(errors="replace"), code=child.returncode
            )

        try:
            assert child.stdout is not None  # noqa: S101 - it is a pipe
            yield child.stdout
            while child.stdout.read(1 << 16):  # else it would end by SIGPIPE
                pass
            child.wait()
        except Exception:
            with suppress(subprocess.TimeoutExpired):
                child.wait(_SHORT_S)
            if (error := failed()) is not None:
                raise error from None
            raise
        finally:
            watcher.stop()
            _end(child)
        if (error := failed()) is not None:
            raise error


@contextmanager
def process(
    *arguments: str, doing: str, errors: IO[bytes], environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A command with pipes to its stdin and from its stdout; it ends with the block.

    `errors` gets its stderr. `environment` is added to that of `cf`.
    """
    child = _started(arguments, doing, environment, stderr=errors.fileno(), stdin=subprocess.PIPE)
    try:
        yield child
    finally:
        if child.stdin is not None:
            with suppress(OSError):
                child.stdin.close()  # what it still has to send has no reader any more
        with suppress(subprocess.TimeoutExpired):
            child.wait(_SHORT_S)
        _end(child)


def _started(
    arguments: Sequence[str],
    doing: str,
    env: Mapping[str, str] | None,
    *,
    stderr: int,
    stdin: int = subprocess.DEVNULL,
    **text: Any,
) -> subprocess.Popen[Any]:
    try:
        with warnings.catch_warnings():  # about a fork in a process with threads; see `die_with`
            warnings.simplefilter("ignore", DeprecationWarning)
            return subprocess.Popen(
                ["docker", *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
                env={**os.environ, **env} if env else None,
                **text,
            )
    except OSError as error:
        absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
        why = "is not installed" if absent else f"cannot be started: {error.strerror}"
        raise DockerError(
            f"{doing}: the program `docker` {why}",
            hint="Install Docker Engine with Compose v2, or run without it: --launcher process.",
        ) from error


def _lines(
    arguments: Sequence[str],
    doing: str,
    timeout_s: float | None,
    *,
    merged: bool,
    env: Mapping[str, str] | None,
    check: bool,
    watch: Watch | None = None,
    shown: int = 8,
) -> Generator[str, None, None]:
    stderr = subprocess.STDOUT if merged else subprocess.PIPE
    child = _started(arguments, doing, env, stderr=stderr, text=True, errors="replace")
    watcher = _Watcher(child, doing, timeout_s, watch)
    recent: deque[str] = deque(maxlen=200)
    try:
        if merged:
            for line in child.stdout or ():
                recent.append(line.rstrip("\n"))
                yield recent[-1]
            errors = "\n".join(recent)
        else:
            out, errors = child.communicate()
            yield from out.splitlines()
        code = child.wait()
    finally:
        watcher.stop()
        _end(child)
    if watcher.error is not None:
        raise watcher.error
    if check and code != 0:
        raise failure(doing, errors, code=code, lines=shown)


class _Watcher:
    """Ends a command that exceeds its timeout, or whose `watch` returns an error."""

    def __init__(
        self,
        child: subprocess.Popen[Any],
        doing: str,
        timeout_s: float | None,
        watch: Watch | None,
    ) -> None:
        self.error: CfError | None = None
        self._stopped = threading.Event()
        if timeout_s is not None or watch is not None:
            arguments = (child, doing, timeout_s, watch)
            threading.Thread(target=self._run, args=arguments, daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(
        self,
        child: subprocess.Popen[Any],
        doing: str,
        timeout_s: float | None,
        watch: Watch | None,
    ) -> None:
        end = time.monotonic() + timeout_s if timeout_s is not None else float("inf")
        while not self._stopped.wait(1.0 if watch else timeout_s):
            error = watch() if watch else None
            if error is None and time.monotonic() >= end:
                error = DockerError(
                    f"{doing}: not done after {timeout_s:g} s",
                    hint="Check the Docker engine: docker info.",
                    details={"timed_out": True},
                )
            if error is not None and not self._stopped.is_set():
                self.error = error
                _signal(child, signal.SIGINT)
                if not self._stopped.wait(10.0):
                    _signal(child, signal.SIGKILL)
                return


def _signal(child: subprocess.Popen[Any], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def _end(child: subprocess.Popen[Any]) -> None:
    """End the child and the plugin that it started: SIGINT first, so that a build can cancel."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if child.poll() is not None:
            break
        _signal(child, number)
        with suppress(subprocess.TimeoutExpired):
            child.wait(5.0)
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
