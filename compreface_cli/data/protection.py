"""How a backup is encrypted and opened again: for recipients, or with a passphrase."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from compreface_cli.data import encryption, locked
from compreface_cli.data.backup_source import Unlock
from compreface_cli.data.encryption import Sink
from compreface_cli.data.plain_tar import Source
from compreface_cli.errors import UsageError

Write: TypeAlias = Callable[[Iterator[bytes], Sink], None]


@dataclass(frozen=True, slots=True)
class Protection:
    """How the archive is written; `suffix` is what its file's name ends with, after SUFFIX."""

    suffix: str
    write: Write


def _plain(pieces: Iterator[bytes], target: Sink) -> None:
    for piece in pieces:
        target.write(piece)


PLAIN = Protection("", _plain)


def chosen(encrypt: bool, to: Sequence[str], passphrase_file: Path | None) -> Protection:
    """The protection that these flags ask for; asks for the passphrase.

    Raises UsageError for both kinds at once, ConfigurationError for no recipient.
    """
    if to and (encrypt or passphrase_file):
        raise UsageError(
            "a backup is encrypted either for recipients or with a passphrase",
            hint="Leave out --encrypt-to, or --encrypt and --passphrase-file.",
        )
    if to:
        recipients = encryption.recipients(to)
        return Protection(
            ".age", lambda pieces, target: encryption.encrypt(pieces, target, recipients)
        )
    if encrypt or passphrase_file:
        words = encryption.passphrase_from(passphrase_file, twice=True)("the backup")
        return Protection(".locked", partial(locked.write, passphrase=words))
    return PLAIN


def unlock(identity: Path | None, passphrase_file: Path | None, name: str) -> Unlock:
    """Opens a backup of any kind; the passphrase is asked for once.

    Raises, when a stream is opened, UsageError if what it takes was not given.
    """
    ask = encryption.passphrase_from(passphrase_file, twice=False)
    known: dict[str, Any] = {}

    def passphrase(of: str) -> str:
        if "passphrase" not in known:
            known["passphrase"] = ask(of)
        return str(known["passphrase"])

    @contextmanager
    def opened(stream: Source, head: bytes) -> Iterator[Source]:
        if head.startswith(locked.MAGIC):
            with locked.read(stream, passphrase, name) as content:
                yield content
        elif head.startswith(encryption.MAGIC):
            if identity is None:
                raise UsageError(
                    f"{name} is encrypted for the owner of a key",
                    hint="Name the file with the key: --identity FILE",
                )
            if "keys" not in known:
                known["keys"] = encryption.identities(identity, passphrase)
            with encryption.decrypted(stream, known["keys"]) as content:
                yield content
        else:
            yield stream

    return opened
