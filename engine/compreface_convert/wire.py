"""Protobuf's wire format, read field by field without copying; lengths are checked before use."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from compreface_convert.errors import ConvertError

Field: TypeAlias = "tuple[int, int | memoryview]"
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned value at `at` and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise ConvertError("broken protobuf: a number is cut short or too long")


def fields(data: memoryview) -> Iterator[Field]:
    """Pairs of field number and raw value: an unsigned int, or the bytes of what has a length."""
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if number == 0:
            raise ConvertError("broken protobuf: field number 0")
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise ConvertError(f"broken protobuf: wire type {kind}")
        if size > end - at:
            raise ConvertError("broken protobuf: a field ends behind the file")
        yield number, data[at : at + size]
        at += size


def signed(value: int | memoryview) -> int:
    """A varint as int64."""
    if not isinstance(value, int):
        raise ConvertError("broken protobuf: bytes where a number belongs")
    return value - (1 << 64) if value >= 1 << 63 else value


def blob(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ConvertError("broken protobuf: a number where bytes belong")
    return value


def text(value: int | memoryview) -> str:
    try:
        return str(blob(value), "utf-8")
    except UnicodeDecodeError as error:
        raise ConvertError("broken protobuf: a name is not UTF-8") from error


def float32(value: int | memoryview) -> float:
    raw = blob(value)
    if len(raw) != 4:
        raise ConvertError("broken protobuf: a float has 4 bytes")
    number: float = struct.unpack("<f", raw)[0]
    return number


def varints(value: int | memoryview) -> list[int]:
    """A repeated integer field, packed or a single one."""
    if isinstance(value, int):
        return [signed(value)]
    found, at = [], 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(signed(number))
    return found


def entry(data: memoryview) -> tuple[str, memoryview]:
    """Key and message of one entry of a map whose keys are strings."""
    key, message = "", memoryview(b"")
    for number, value in fields(data):
        if number == 1:
            key = text(value)
        elif number == 2:
            message = blob(value)
    return key, message
