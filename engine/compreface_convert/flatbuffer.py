"""A reader of flatbuffers that trusts no offset and no length of the file."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array


class Buffer:
    """The bytes of one file; every read is checked against its end."""

    def __init__(self, data: bytes | memoryview) -> None:
        self.data = memoryview(data)

    def scalar(self, code: str, at: int) -> int:
        size = struct.calcsize(code)
        if at < 0 or at + size > len(self.data):
            raise ConvertError(f"broken flatbuffer: an offset points outside the file ({at})")
        value: int = struct.unpack_from(code, self.data, at)[0]
        return value

    def follow(self, at: int) -> int:
        """The place the unsigned offset at `at` points to; offsets only ever point forward."""
        step = self.scalar("<I", at)
        if step == 0:
            raise ConvertError(f"broken flatbuffer: an empty offset at {at}")
        self.scalar("<B", at + step)
        return at + step

    def root(self) -> Table:
        return Table(self, self.follow(0))


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a flatbuffer: fields by their index in the schema."""

    buffer: Buffer
    at: int

    def _place(self, index: int) -> int | None:
        vtable = self.at - self.buffer.scalar("<i", self.at)
        entry = 4 + 2 * index
        if entry + 2 > self.buffer.scalar("<H", vtable):
            return None
        offset = self.buffer.scalar("<H", vtable + entry)
        return self.at + offset if offset else None

    def scalar(self, index: int, code: str, default: int = 0) -> int:
        place = self._place(index)
        return default if place is None else self.buffer.scalar(code, place)

    def table(self, index: int) -> Table | None:
        place = self._place(index)
        return None if place is None else Table(self.buffer, self.buffer.follow(place))

    def _vector(self, index: int, item: int) -> tuple[int, int]:
        place = self._place(index)
        if place is None:
            return 0, 0
        start = self.buffer.follow(place)
        length = self.buffer.scalar("<I", start)
        if start + 4 + length * item > len(self.buffer.data):
            raise ConvertError(f"broken flatbuffer: a list of {length} items ends behind the file")
        return start + 4, length

    def tables(self, index: int) -> list[Table]:
        start, length = self._vector(index, 4)
        return [Table(self.buffer, self.buffer.follow(start + 4 * i)) for i in range(length)]

    def array(self, index: int, dtype: str) -> Array:
        kind = np.dtype(dtype)
        start, length = self._vector(index, kind.itemsize)
        return np.frombuffer(self.buffer.data, kind, length, start)

    def text(self, index: int) -> str:
        return bytes(self.array(index, "<u1")).decode("utf-8", errors="replace")
