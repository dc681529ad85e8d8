"""Writes checkpoint indexes of any content with checksums that hold, for tests of the readers."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from compreface_convert.sstable import masked_crc

MAGIC = 0xDB4775248B80FB57


def varint(value: int) -> bytes:
    out = b""
    value &= (1 << 64) - 1
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, data: bytes | int) -> bytes:
    """A protobuf field: a varint, or bytes."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def shape(*dims: int) -> bytes:
    return b"".join(field(2, field(1, dim)) for dim in dims)


def header(shards: int = 1, endianness: int = 0) -> bytes:
    return field(1, shards) + field(2, endianness)


def entry(
    data: bytes, dims: tuple[int, ...], *, offset: int = 0, size: int | None = None, dtype: int = 1
) -> bytes:
    """A BundleEntryProto of `data`, which lies at `offset`; `size` may lie."""
    crc = struct.pack("<I", masked_crc(data))
    size = len(data) if size is None else size
    result = field(1, dtype) + field(2, shape(*dims)) + field(4, offset) + field(5, size)
    return result + varint(6 << 3 | 5) + crc


def block(content: bytes, *, kind: int = 0) -> bytes:
    """A block with its trailer; `content` stands as it is."""
    whole = content + bytes([kind])
    return whole + struct.pack("<I", masked_crc(whole))


def entries(pairs: Mapping[bytes, bytes]) -> bytes:
    """The content of a block: keys share nothing, one restart."""
    body = b"".join(
        varint(0) + varint(len(key)) + varint(len(value)) + key + value
        for key, value in pairs.items()
    )
    return body + struct.pack("<II", 0, 1)


def table_of(*blocks: bytes, listed: int = 1) -> bytes:
    """A table of ready blocks, each of which stands `listed` times in the table's index."""
    out = b""
    places: dict[bytes, bytes] = {}
    for made in blocks:
        for _ in range(listed):
            places[b"%08d" % len(places)] = varint(len(out)) + varint(len(made) - 5)
        out += made
    index = block(entries(places))
    footer = varint(0) + varint(0) + varint(len(out)) + varint(len(index) - 5)
    return out + index + footer.ljust(40, b"\0") + struct.pack("<Q", MAGIC)


def table(pairs: Mapping[bytes, bytes]) -> bytes:
    """A table of one block."""
    return table_of(block(entries(pairs)))
