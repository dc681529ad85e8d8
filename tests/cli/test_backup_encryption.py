"""Encrypted backups: what was written is read again, and nothing else is."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from compreface_cli.data import archive, encryption, locked, protection
from compreface_cli.data.plain_tar import BrokenArchive
from compreface_cli.errors import CfError, ConfigurationError, DataRefusedError, UsageError

_CONTENT = [b"one" * 1000, b"", b"two" * 100_000]


@pytest.fixture(scope="module")
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture
def key(tmp_path: Path, identity: pyrage.x25519.Identity) -> Path:
    path = tmp_path / "key.txt"
    path.write_text(f"# created: today\n# public key: {identity.to_public()}\n{identity}\n")
    return path


def _for(to: str) -> bytes:
    target = io.BytesIO()
    protection.chosen(False, [to], None).write(iter(_CONTENT), target)
    return target.getvalue()


def _read(raw: bytes, key: Path | None, words: Path | None = None) -> bytes:
    opened = protection.unlock(key, words, "faces.cfbackup")
    stream = io.BytesIO(raw)
    with opened(stream, raw[:64]) as content:
        return b"".join(iter(lambda: content.read(1 << 16), b""))


def test_a_recipients_key_opens_it(key: Path, identity: pyrage.x25519.Identity) -> None:
    raw = _for(str(identity.to_public()))
    assert b"oneone" not in raw
    assert _read(raw, key) == b"".join(_CONTENT)


def test_recipients_may_be_in_a_file(
    tmp_path: Path, key: Path, identity: pyrage.x25519.Identity
) -> None:
    other = pyrage.x25519.Identity.generate()
    path = tmp_path / "recipients"
    path.write_text(f"# us\n{other.to_public()}\n\n{identity.to_public()}\n")
    assert _read(_for(str(path)), key) == b"".join(_CONTENT)


def test_a_key_of_another_and_none_are_refused(
    tmp_path: Path, identity: pyrage.x25519.Identity
) -> None:
    raw = _for(str(identity.to_public()))
    other = tmp_path / "other.txt"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(BrokenArchive):
        _read(raw, other)
    with pytest.raises(UsageError):
        _read(raw, None)


def test_a_changed_or_cut_encrypted_backup_is_refused(
    key: Path, identity: pyrage.x25519.Identity
) -> None:
    raw = _for(str(identity.to_public()))
    places = {*range(400), *range(400, len(raw), 4093), len(raw) - 1}
    for place in places:
        damaged = bytearray(raw)
        damaged[place] ^= 1
        with pytest.raises(BrokenArchive):
            _whole(bytes(damaged), key)
    for length in {*range(64, 400), *range(400, len(raw), 8191), len(raw) - 1}:
        with pytest.raises(BrokenArchive):
            _read(raw[:length], key)


def _whole(raw: bytes, key: Path) -> None:
    """Read it; a head that is no longer one of age is that of no backup."""
    if not raw.startswith(encryption.MAGIC):
        raise BrokenArchive("it is not a backup of cf")
    assert _read(raw, key) != b"".join(_CONTENT)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("words") / "words"
    path.write_text("correct horse\nsecond line\n")
    return path


@pytest.fixture(scope="module")
def sealed(words: Path) -> bytes:
    target = io.BytesIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive, "CHUNK", 1 << 16)
        protection.chosen(False, (), words).write(iter(_CONTENT), target)
    return target.getvalue()


@pytest.mark.slow
def test_a_passphrase_opens_it_and_another_does_not(
    tmp_path: Path, sealed: bytes, words: Path
) -> None:
    assert sealed.startswith(locked.MAGIC)
    assert _read(sealed, None, words) == b"".join(_CONTENT)
    other = tmp_path / "other"
    other.write_text("wrong\n")
    with pytest.raises(DataRefusedError):
        _read(sealed, None, other)


def test_a_busy_machine_is_not_taken_for_a_wrong_passphrase(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The library's answer to a work factor that is too high for the speed that it has measured."""
    key = pyrage.passphrase.encrypt(b"x", "words")
    line = key.split(b"\n")[1]
    hard = key.replace(line, line.rsplit(b" ", 1)[0] + b" 40", 1)
    monkeypatch.setattr(encryption, "_PAUSE_S", 0.0)
    monkeypatch.setattr(encryption, "_TRIES", 2)
    with pytest.raises(CfError) as refused:
        encryption.opened(hard, "words", "it")
    assert refused.value.code == 1


@pytest.mark.slow
def test_a_changed_byte_behind_the_key_is_refused(
    sealed: bytes, monkeypatch: pytest.MonkeyPatch, words: Path
) -> None:
    opened = encryption.opened(_key_of(sealed), "correct horse", "it")
    monkeypatch.setattr(encryption, "opened", lambda key, passphrase, name: opened)
    begin = 512 + 512  # the key and its header
    for place in {*range(begin, begin + 700), *range(begin, len(sealed), 997), len(sealed) - 1}:
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(BrokenArchive):
            _read(bytes(damaged), None, words)
    for length in range(begin, len(sealed), 1013):
        with pytest.raises(BrokenArchive):
            _read(sealed[:length], None, words)
    with pytest.raises(BrokenArchive):
        _read(sealed + b"\0", None, words)


def _key_of(raw: bytes) -> bytes:
    return raw[512 : 512 + int(raw[124:135], 8)]


@pytest.mark.slow
def test_a_key_may_have_a_passphrase(
    tmp_path: Path, identity: pyrage.x25519.Identity, words: Path
) -> None:
    path = tmp_path / "key.age"
    path.write_bytes(pyrage.passphrase.encrypt(f"{identity}\n".encode(), "correct horse"))
    assert _read(_for(str(identity.to_public())), path, words) == b"".join(_CONTENT)


def test_what_a_stream_raises_is_raised(identity: pyrage.x25519.Identity, key: Path) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x"
        raise KeyboardInterrupt

    to = [identity.to_public()]
    with pytest.raises(KeyboardInterrupt):
        encryption.encrypt(failing(), io.BytesIO(), to)

    class Full:
        def write(self, data: bytes, /) -> None:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        encryption.encrypt(iter(_CONTENT), Full(), to)

    raw = _for(str(identity.to_public()))

    class Breaking(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 100_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    opened = protection.unlock(key, None, "it")
    with pytest.raises(OSError, match="Input/output"), opened(Breaking(raw), raw[:64]) as content:
        for _ in iter(lambda: content.read(1 << 16), b""):
            pass


def test_reading_may_end_early(identity: pyrage.x25519.Identity, key: Path) -> None:
    target = io.BytesIO()
    pieces = itertools.repeat(bytes(1 << 20), 30)
    encryption.encrypt(pieces, target, [identity.to_public()])
    target.seek(0)
    opened = protection.unlock(key, None, "it")
    with opened(target, target.getvalue()[:64]) as content:
        assert content.read(10) == bytes(10)
    assert target.tell() < len(target.getvalue())


@pytest.mark.parametrize("text", ["age1nobody", "ssh-ed25519 nothing"])
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        protection.chosen(False, [text], None)


def test_flags_that_exclude_each_other_and_empty_files(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n# nothing\n")
    for arguments in ((True, ["age1x"], None), (False, [str(empty)], None), (False, (), empty)):
        with pytest.raises(CfError):
            protection.chosen(*arguments)
    with pytest.raises(ConfigurationError):
        encryption.identities(empty, lambda name: "")
    assert protection.chosen(False, (), None) is protection.PLAIN


def test_without_a_terminal_a_passphrase_needs_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(UsageError):
            protection.chosen(True, (), None)


def test_pyrage_is_imported_late() -> None:
    code = "import sys; import compreface_cli.data.restore; sys.exit('pyrage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
