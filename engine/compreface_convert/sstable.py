"""Reads a sorted table in LevelDB's format, which TensorFlow's checkpoints are listed in."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from compreface_convert import crc32c, wire
from compreface_convert.errors import ConvertError

_MAGIC: Final = 0xDB4775248B80FB57
_FOOTER: Final = 48
_TRAILER: Final = 5  # one byte for the compression, four for the checksum
_MAX_BLOCK: Final = 16 << 20
_MAX_BYTES: Final = 64 << 20
"""What all blocks may take together, unpacked."""
_MAX_KEY: Final = 4096
_MAX_ENTRIES: Final = 100_000


def read_table(data: bytes) -> dict[bytes, memoryview]:
    """Key and value of every entry, keys ascending. Raises ConvertError for a broken table."""
    if len(data) < _FOOTER or struct.unpack("<Q", data[-8:])[0] != _MAGIC:
        raise ConvertError("this is no table in LevelDB's format (no magic number at its end)")
    whole = memoryview(data)
    footer = whole[-_FOOTER:-8]
    _, behind = _handle(footer, 0)  # the meta index, which TensorFlow leaves empty
    index, _ = _handle(footer, behind)
    found: dict[bytes, memoryview] = {}
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
            if len(found) >= _MAX_ENTRIES:
                raise ConvertError(f"the table has more than {_MAX_ENTRIES} entries")
            found[key] = value
            last = key
    return found


def _handle(data: memoryview, at: int) -> tuple[tuple[int, int], int]:
    offset, at = wire.varint(data, at)
    size, at = wire.varint(data, at)
    return (offset, size), at


def _block(data: memoryview, handle: tuple[int, int]) -> memoryview:
    offset, size = handle
    if size > _MAX_BLOCK or offset + size + _TRAILER > len(data) - _FOOTER:
        raise ConvertError("broken table: a block ends behind the file")
    content = data[offset : offset + size]
    kind = data[offset + size]
    (stored,) = struct.unpack("<I", data[offset + size + 1 : offset + size + _TRAILER])
    if crc32c.masked(data[offset : offset + size + 1]) != stored:
        raise ConvertError("broken table: the checksum of a block does not hold")
    if kind == 0:
        return content
    if kind == 1:
        return memoryview(snappy(content))
    raise ConvertError(f"the table is compressed in a way that is not supported ({kind})")


def _entries(block: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Entries of a block; each key repeats the start of the one before it."""
    if len(block) < 4:
        raise ConvertError("broken table: a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 - 4 * restarts
    if end < 0:
        raise ConvertError("broken table: a block has more restarts than bytes")
    body, at, key = block[:end], 0, b""
    while at < end:
        shared, at = wire.varint(body, at)
        fresh, at = wire.varint(body, at)
        size, at = wire.varint(body, at)
        if shared > len(key) or shared + fresh > _MAX_KEY or fresh + size > end - at:
            raise ConvertError("broken table: an entry ends behind its block")
        key = key[:shared] + bytes(body[at : at + fresh])
        at += fresh
        yield key, body[at : at + size]
        at += size


def snappy(data: memoryview) -> bytes:
    """Snappy's raw format unpacked; at most `_MAX_BLOCK` bytes."""
    size, at = wire.varint(data, 0)
    if size > _MAX_BLOCK:
        raise ConvertError("broken table: a block is too large")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            length, extra = (tag >> 2) + 1, max(0, (tag >> 2) - 59)
            if extra:
                length = int.from_bytes(data[at : at + extra], "little") + 1
            at += extra
            out += data[at : at + length]
            at += length
        else:
            width = (1, 2, 4)[(tag & 3) - 1]
            back = int.from_bytes(data[at : at + width], "little")
            length = (tag >> 2) + 1
            if width == 1:
                back, length = back | tag >> 5 << 8, (tag >> 2 & 7) + 4
            at += width
            if not 0 < back <= len(out):
                raise ConvertError("broken table: a copy from before the block")
            start = bytes(out[-back : len(out) - back + length])
            out += (start * (length // len(start) + 1))[:length]  # repeats where it overlaps
        if at > len(data) or len(out) > size:
            raise ConvertError("broken table: a compressed block does not fit its size")
    if len(out) != size:
        raise ConvertError("broken table: a compressed block does not fit its size")
    return bytes(out)
