"""Writes PyTorch's two file formats without PyTorch, opcode by opcode, for good and bad files."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

KINDS = {
    "<f4": "FloatStorage", "<f8": "DoubleStorage", "<f2": "HalfStorage", "<i8": "LongStorage",
    "<i4": "IntStorage", "<i2": "ShortStorage", "|i1": "CharStorage", "|u1": "ByteStorage",
    "|b1": "BoolStorage", "<u2": "BFloat16Storage",
}  # fmt: skip
PROTO, STOP, MARK, TUPLE, REDUCE = b"\x80\x02", b".", b"(", b"t", b"R"
MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: Sequence[int]) -> bytes:
    return MARK + b"".join(map(number, values)) + TUPLE


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def ordered_dict(items: Mapping[str, bytes] | None = None) -> bytes:
    result = name("collections", "OrderedDict") + b")R"
    if items:
        result += MARK + b"".join(text(key) + value for key, value in items.items()) + b"u"
    return result


def storage(kind: str, key: str, count: int, *, old: bool = False) -> bytes:
    """A persistent id; `old` as the older format has it, with a sixth value."""
    last = b"N" if old else b""
    inside = text("storage") + name("torch", kind) + text(key) + text("cpu") + number(count) + last
    return MARK + inside + TUPLE + b"Q"


def tensor(
    memory: bytes, shape: Sequence[int], strides: Sequence[int] | None = None, offset: int = 0
) -> bytes:
    """A call that makes a tensor; without strides it lies as it is, row by row."""
    if strides is None:
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    inside = memory + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + ordered_dict()
    return name("torch._utils", "_rebuild_tensor_v2") + MARK + inside + TUPLE + REDUCE


def zipped(pickle: bytes, storages: Mapping[str, bytes], **members: bytes) -> bytes:
    """The zip archive around a pickle; `members` lie beside it and replace what it has."""
    every = {"data.pkl": pickle, "byteorder": b"little", "version": b"3\n", **members}
    every |= {f"data/{key}": raw for key, raw in storages.items()}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for member, raw in every.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{member}"), raw)
    return made.getvalue()


def stream(
    pickle: bytes, storages: Mapping[str, tuple[int, bytes]], *, little: bool = True
) -> bytes:
    """The older format around a pickle; each storage with its number of values."""
    version = PROTO + number(1001) + STOP
    endian = text("little_endian") + (b"\x88" if little else b"\x89")
    system = PROTO + b"}(" + text("protocol_version") + number(1001) + endian + b"u" + STOP
    keys = PROTO + b"](" + b"".join(map(text, storages)) + b"e" + STOP
    raws = (struct.pack("<q", count) + raw for count, raw in storages.values())
    return MAGIC + version + system + pickle + keys + b"".join(raws)


def saved(arrays: Mapping[str, Any], *, old: bool = False, wrapped: bool = False) -> bytes:
    """The arrays as a state dict, each in a storage of its own. `wrapped`: below `state_dict`."""
    items, raws = {}, {}
    for i, (key, array) in enumerate(arrays.items()):
        raws[str(i)] = (array.size, np.ascontiguousarray(array).tobytes())
        memory = storage(KINDS[array.dtype.str], str(i), array.size, old=old)
        items[key] = tensor(memory, array.shape)
    # `_metadata`, an attribute of the OrderedDict that Module.state_dict() returns
    value = ordered_dict(items) + b"}" + text("_metadata") + ordered_dict() + b"sb"
    if wrapped:
        value = b"}(" + text("epoch") + number(7) + text("state_dict") + value + b"u"
    pickle = PROTO + value + STOP
    if old:
        return stream(pickle, raws)
    return zipped(pickle, {key: raw for key, (_, raw) in raws.items()})


def compressed() -> bytes:
    """An archive whose pickle is compressed."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", PROTO + ordered_dict() + STOP)
    return made.getvalue()
