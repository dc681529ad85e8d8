"""Reads a sorted table in LevelDB's format, the index of TensorFlow's checkpoints."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

import google_crc32c

from compreface_convert.errors import ConvertError

_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER: Final = 48
_TRAILER: Final = 5  # the compression in a byte, the checksum in four
_MAX_BLOCK: Final = 16 << 20
_MAX_BYTES: Final = 64 << 20
"""Bytes that all blocks may take together."""
_MAX_KEY: Final = 4096
_MAX_ENTRIES: Final = 100_000
_MASK_DELTA: Final = 0xA282EAD8


def read_table(data: bytes) -> dict[bytes, memoryview]:
    """The values of all entries by key, sorted. Raises ConvertError for a broken table."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ConvertError("not a table in LevelDB's format (no magic number at its end)")
    whole = memoryview(data)
    footer = whole[-_FOOTER:-8]
    _, after = _handle(footer, 0)  # the meta index, which TensorFlow leaves empty
    index, _ = _handle(footer, after)
    values: dict[bytes, memoryview] = {}
    last: bytes | None = None
    left = _MAX_BYTES
    for _, place in _entries(_block(whole, index)):
        handle, _ = _handle(place, 0)
        block = _block(whole, handle)
        left -= len(block)
        if left < 0:
            raise ConvertError("the table is too large, or lists a block many times")
        for key, value in _entries(block):
            if last is not None and key <= last:
                raise ConvertError("broken table: its keys do not ascend")
            if len(values) >= _MAX_ENTRIES:
                raise ConvertError(f"the table has more than {_MAX_ENTRIES} entries")
            values[key] = value
            last = key
    return values


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(data, at)
    size, at = varint(data, at)
    return (offset, size), at


def _block(data: memoryview, handle: tuple[int, int]) -> memoryview:
    offset, size = handle
    if size > _MAX_BLOCK or offset + size + _TRAILER > len(data) - _FOOTER:
        raise ConvertError("broken table: a block ends after the file")
    content = data[offset : offset + size]
    kind = data[offset + size]
    (stored,) = struct.unpack("<I", data[offset + size + 1 : offset + size + _TRAILER])
    if masked_crc(data[offset : offset + size + 1]) != stored:
        raise ConvertError("broken table: the checksum of a block does not match")
    if kind != 0:
        raise ConvertError(
            "the table is compressed; save the checkpoint again with TensorFlow 1.2 or newer, "
            "which writes it uncompressed"
        )
    return content


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """The entries of a block; a key is stored as its difference from the previous key."""
    if len(block) < 4:
        raise ConvertError("broken table: a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ConvertError("broken table: a block has more restarts than bytes")
    body, at, key = block[:end], 0, b""
    while at < end:
        shared, at = varint(body, at)
        fresh, at = varint(body, at)
        size, at = varint(body, at)
        if shared > len(key) or shared + fresh > _MAX_KEY or fresh + size > end - at:
            raise ConvertError("broken table: an entry ends after its block")
        key = key[:shared] + bytes(body[at : at + fresh])
        at += fresh
        yield key, body[at : at + size]
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned number at `at`, seven bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ConvertError("broken table: a number is cut short or too long")


def masked_crc(data: bytes | memoryview) -> int:
    """The CRC-32C of `data` as LevelDB's format stores it: rotated, plus a constant."""
    crc = int(google_crc32c.value(bytes(data)))
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF
