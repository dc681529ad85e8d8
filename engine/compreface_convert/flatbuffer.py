"""The tables of a FlatBuffers file; their fields are named by their place in the schema, from 0."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from flatbuffers import encode, number_types, packer, table

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array

INT8: Final = number_types.Int8Flags
UINT8: Final = number_types.Uint8Flags
INT32: Final = number_types.Int32Flags
UINT32: Final = number_types.Uint32Flags


@contextmanager
def _checked() -> Iterator[None]:
    """Turns the library's errors for an offset or a length outside the file into ConvertError."""
    try:
        yield
    except (struct.error, TypeError, ValueError, OverflowError) as error:
        raise ConvertError("broken flatbuffer: an offset points outside the file") from error


class Table(table.Table):  # type: ignore[misc]
    """One table of the file. Reading a broken file raises ConvertError."""

    @classmethod
    @_checked()
    def root(cls, data: bytes | memoryview) -> Table:
        """The root table of the file."""
        return cls(data, encode.Get(packer.uoffset, data, 0))

    def _place(self, field: int) -> int:
        """The offset of a field from the table's start; 0 if the file leaves the field out."""
        return int(self.Offset(4 + 2 * field))  # the vtable begins with two lengths of 2 bytes

    @_checked()
    def scalar(self, field: int, kind: Any, default: int = 0) -> int:
        place = self._place(field)
        return int(self.Get(kind, self.Pos + place)) if place else default

    @_checked()
    def table(self, field: int) -> Table | None:
        """The table that a field, or the value of a union, refers to."""
        place = self._place(field)
        return Table(self.Bytes, self.Indirect(self.Pos + place)) if place else None

    @_checked()
    def tables(self, field: int) -> list[Table]:
        place = self._place(field)
        count, start = (self.VectorLen(place), self.Vector(place)) if place else (0, 0)
        return [Table(self.Bytes, self.Indirect(start + 4 * i)) for i in range(count)]

    @_checked()
    def array(self, field: int, kind: Any) -> Array:
        place = self._place(field)
        empty = np.zeros(0, number_types.to_numpy_type(kind))
        return np.asarray(self.GetVectorAsNumpy(kind, place)) if place else empty

    def text(self, field: int) -> str:
        return bytes(self.array(field, UINT8)).decode("utf-8", errors="replace")
