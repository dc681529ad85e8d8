"""Encrypts and decrypts backups in age's format (age-encryption.org/v1); the owner of pyrage."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from compreface_cli.config.textfile import read_bytes, read_text
from compreface_cli.data.plain_tar import BrokenArchive, Source
from compreface_cli.errors import CfError, ConfigurationError, DataRefusedError, UsageError

MAGIC = b"age-encryption.org/v1\n"
_PIPE_S = 2.0  # for the end of a thread whose stream has ended
_TRIES, _PAUSE_S = 12, 5.0
_SSH = ("ssh-ed25519 ", "ssh-rsa ")
_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - how an identity begins


class Sink(Protocol):
    """Where bytes are written."""

    def write(self, data: bytes, /) -> object: ...


def recipients(given: Sequence[str]) -> list[Any]:
    """The recipients: each `age1...`, an SSH public key, or a file with one of them a line.

    Raises ConfigurationError for what is none, UsageError without any.
    """
    found = []
    for text in given:
        if text.startswith(("age1", *_SSH)):
            found.append(_recipient(text, "--encrypt-to"))
            continue
        lines = read_text(Path(text), text).splitlines()
        kept = [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
        if not kept:
            raise ConfigurationError(f"{text}: it names no recipient")
        found += [_recipient(line, text) for line in kept]
    if not found:
        raise UsageError("nobody is named to encrypt to", hint="--encrypt-to age1...")
    return found


def _recipient(text: str, where: str) -> Any:
    import pyrage

    kind = pyrage.ssh if text.startswith(_SSH) else pyrage.x25519
    try:
        return kind.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise ConfigurationError(
            f"{where}: {text[:80]!r} is no recipient: {error}",
            hint="A recipient is age1..., as `age-keygen` prints it, or an SSH public key.",
        ) from error


def identities(path: Path, passphrase: Callable[[str], str]) -> list[Any]:
    """The identities in a file of `age-keygen` (with a passphrase, too), or an SSH private key.

    `passphrase(name)` is asked if the file itself is encrypted. Raises ConfigurationError.
    """
    import pyrage

    raw = read_bytes(path, str(path))
    if raw.startswith(MAGIC):
        raw = opened(raw, passphrase(str(path)), str(path))
    text = raw.decode("utf-8", errors="replace")
    try:
        if "PRIVATE KEY-----" in text:
            return [pyrage.ssh.Identity.from_buffer(raw)]
        lines = [line.strip() for line in text.splitlines()]
        found = [pyrage.x25519.Identity.from_str(each) for each in lines if each[:1] not in "#"]
    except pyrage.IdentityError as error:
        raise ConfigurationError(f"{path}: it is no identity: {error}") from error
    if not found:
        raise ConfigurationError(f"{path}: it has no identity", hint="age-keygen makes one.")
    return found


def new_key(passphrase: str) -> tuple[Any, bytes]:
    """A new recipient, and its identity, encrypted with the passphrase, as `age -p` does."""
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    key: bytes = pyrage.passphrase.encrypt(f"{identity}\n".encode(), passphrase)
    return identity.to_public(), key


def opened(key: bytes, passphrase: str, name: str) -> bytes:
    """What is encrypted with a passphrase; raises DataRefusedError for a wrong one.

    The library refuses what would take much longer than a second at the speed that it measures
    first. On a busy machine that is too little, so it is tried again for a while.
    """
    import pyrage

    for left in reversed(range(_TRIES)):
        try:
            text: bytes = pyrage.passphrase.decrypt(key, passphrase)
            return text
        except pyrage.DecryptError as error:
            # In any language only this message has a second line: how long it would take.
            if "\n" not in str(error):
                raise DataRefusedError(
                    f"{name}: the passphrase is wrong, or the file is damaged",
                    hint="Nothing was changed. Try again with the passphrase it was made with.",
                    details={"path": name},
                ) from error
        if left:
            time.sleep(_PAUSE_S)
    raise CfError(
        f"{name}: this machine is too busy now to open what a passphrase locks",
        hint="Nothing was changed. Run the command again when less runs here.",
        details={"path": name},
    )


def parsed(key: bytes) -> list[Any]:
    """The identity in an opened key of `new_key`; raises BrokenArchive."""
    import pyrage

    text = key.decode("ascii", errors="replace").strip()
    try:
        if not text.startswith(_SECRET):
            raise BrokenArchive("its key is none")
        return [pyrage.x25519.Identity.from_str(text)]
    except pyrage.IdentityError as error:
        raise BrokenArchive("its key is none") from error


def encrypt(pieces: Iterator[bytes], target: Sink, to: Sequence[Any]) -> None:
    """Write the pieces to `target`, encrypted; what they or it raise is raised."""
    import pyrage

    reader, writer = _Reader(pieces), _Writer(target)
    try:
        pyrage.encrypt_io(reader, writer, list(to))
    except BaseException as error:
        # The library words an error of a stream anew, and would lose a signal's.
        cause = reader.error or writer.error or error
        raise cause from None


@contextmanager
def decrypted(stream: Source, keys: Sequence[Any]) -> Iterator[Source]:
    """What an encrypted stream holds, as it comes; nothing of it is kept.

    Raises, while it is read, BrokenArchive for a stream that is damaged, cut off, or not for one of
    these identities, and what the stream raises.
    """
    inside, outside = os.pipe()
    kept = _Kept(stream)
    failures: list[BaseException] = []

    def work() -> None:
        import pyrage

        with os.fdopen(outside, "wb", buffering=0) as pipe:
            try:
                pyrage.decrypt_io(kept, pipe, list(keys))
            except BaseException as error:
                failures.append(kept.error or error)

    thread = threading.Thread(target=work, daemon=True)
    with os.fdopen(inside, "rb", buffering=0) as pipe:
        thread.start()
        try:
            yield _Checked(pipe, thread, failures)
        finally:
            pipe.close()  # ends a thread that still writes
            thread.join(_PIPE_S)


class _Checked:
    """The thread's output; its end is one only if the thread has not failed."""

    def __init__(
        self, pipe: Source, thread: threading.Thread, failures: list[BaseException]
    ) -> None:
        self._pipe, self._thread, self._failures = pipe, thread, failures

    def read(self, size: int, /) -> bytes:
        piece = self._pipe.read(size)
        if piece or not size:
            return piece
        self._thread.join()
        if not self._failures:
            return b""
        import pyrage

        error = self._failures[0]
        # The library's OSError for a damaged piece has no number.
        damaged = isinstance(error, OSError) and error.errno is None
        if damaged or isinstance(error, pyrage.DecryptError):
            raise BrokenArchive(f"it cannot be decrypted: {error}") from error
        raise error


class _Kept:
    """Reads a stream, and keeps what that has raised."""

    def __init__(self, stream: Source) -> None:
        self._stream = stream
        self.error: BaseException | None = None

    def read(self, size: int, /) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as error:
            self.error = error
            raise


class _Reader:
    """Pieces as a stream to read."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self.error: BaseException | None = None

    def read(self, size: int, /) -> bytes:
        try:
            while not self._rest and (piece := next(self._pieces, None)) is not None:
                self._rest = memoryview(piece)
        except BaseException as error:
            self.error = error
            raise
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)


class _Writer:
    """Writes, and keeps what that has raised."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self.error: BaseException | None = None

    def write(self, data: bytes, /) -> int:
        try:
            self._target.write(data)
        except BaseException as error:
            self.error = error
            raise
        return len(data)

    def flush(self) -> None:
        """The library calls it."""


def passphrase_from(file: Path | None, *, twice: bool) -> Callable[[str], str]:
    """Asks for a passphrase on the terminal, or reads it from the first line of a file.

    Raises UsageError without both, ConfigurationError for an empty one.
    """

    def ask(name: str) -> str:
        if file is not None:
            text = (read_text(file, str(file)).splitlines() or [""])[0]
            if not text:
                raise ConfigurationError(f"{file}: its first line, the passphrase, is empty")
            return text
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                f"a passphrase is needed for {name}, and there is no terminal to ask on",
                hint="--passphrase-file FILE",
            )
        from getpass import getpass

        text = getpass(f"Passphrase for {name}: ")
        if not text:
            raise UsageError("the passphrase is empty")
        if twice and getpass("The same again: ") != text:
            raise UsageError("the two passphrases differ")
        return text

    return ask
