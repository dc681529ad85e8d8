"""A backup that a passphrase locks: a tar of `key.age` and of the encrypted backup in pieces.

A passphrase of age works on a whole file in memory, so it locks a key only, and the key the backup.
By hand: `tar xOf FILE key.age > key.age`, then `tar xOf FILE --wildcards 'backup.age/*' | age -d -i
key.age`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from compreface_cli.data import archive, encryption
from compreface_cli.data.encryption import Sink
from compreface_cli.data.plain_tar import Source, TarReader, end_of, member

KEY = "key.age"
PIECES = "backup.age/"
MAGIC = KEY.encode() + b"\0"  # how the file begins
_MAX_KEY = 4 << 10


def write(pieces: Iterator[bytes], target: Sink, passphrase: str) -> None:
    """Write the pieces, locked; raises what they and `target` raise."""
    recipient, key = encryption.new_key(passphrase)
    tar = _Pieces(target)
    tar.member(KEY, key)
    encryption.encrypt(pieces, tar, [recipient])
    tar.close()


@contextmanager
def read(stream: Source, passphrase: Callable[[str], str], name: str) -> Iterator[Source]:
    """The backup in it; raises BrokenArchive as `encryption.decrypted`, and for a wrong tar."""
    tar = TarReader(stream)
    key = tar.text(tar.header(), KEY, _MAX_KEY)
    identity = encryption.parsed(encryption.opened(key, passphrase(name), name))
    with encryption.decrypted(_Joined(tar), identity) as content:
        yield content


class _Pieces:
    """Writes a stream as the members of a tar."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self._buffer = bytearray()
        self._number, self._size = 0, 0

    def write(self, data: bytes, /) -> None:
        self._buffer += data
        while len(self._buffer) >= archive.CHUNK:
            self._piece(bytes(self._buffer[: archive.CHUNK]))
            del self._buffer[: archive.CHUNK]

    def close(self) -> None:
        if self._buffer:
            self._piece(bytes(self._buffer))
        self._target.write(end_of(self._size))

    def _piece(self, content: bytes) -> None:
        self._number += 1
        self.member(f"{PIECES}{self._number:06d}", content)

    def member(self, name: str, content: bytes) -> None:
        for part in member(name, content):
            self._target.write(part)
            self._size += len(part)


class _Joined:
    """The content of the members as one stream, whose end is that of a whole tar."""

    def __init__(self, tar: TarReader) -> None:
        self._tar = tar
        self._rest = memoryview(b"")
        self._number, self._ended = 0, False

    def read(self, size: int, /) -> bytes:
        if not self._rest and not self._ended:
            self._number += 1
            found = self._tar.header()
            if found is None:
                self._tar.end()
                self._ended = True
            else:
                name = f"{PIECES}{self._number:06d}"
                self._rest = memoryview(self._tar.text(found, name, archive.CHUNK))
        part, self._rest = self._rest[:size], self._rest[size:]
        return bytes(part)
