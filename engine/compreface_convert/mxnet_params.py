"""Reads MXNet's `.params` files without MXNet: names, and arrays as views of the file."""

from __future__ import annotations

import math
import struct
from typing import Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import MAX_NODES, Array

_LIST: Final = 0x112
# The mark before an array. An older file has the number of dimensions there.
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_MAX_RANK: Final = 8
_DTYPES: Final = {
    0: "<f4", 1: "<f8", 2: "<f2", 3: "u1", 4: "<i4", 5: "i1", 6: "<i8",
}  # fmt: skip


def read_params(data: bytes | memoryview) -> dict[str, Array]:
    """The arrays by name, without the prefixes `arg:` and `aux:`, as views of `data`.

    Raises ConvertError for a broken file.
    """
    return _Reader(memoryview(data)).read()


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def read(self) -> dict[str, Array]:
        if self._number("<Q") != _LIST:
            raise ConvertError("not an MXNet .params file (its identifier 0x112 is missing)")
        self._number("<Q")  # reserved
        arrays = [self._array() for _ in range(self._count(12))]
        names = [self._name() for _ in range(self._count(8))]
        if len(names) != len(arrays):
            raise ConvertError(f"the .params file has {len(arrays)} arrays and {len(names)} names")
        if self._at != len(self._data):
            raise ConvertError("the .params file has data after its end")
        arrays_by_name: dict[str, Array] = {}
        for name, array in zip(names, arrays, strict=True):
            if name in arrays_by_name:
                raise ConvertError(f"the .params file has two arrays '{name}'")
            if array is not None:
                arrays_by_name[name] = array
        return arrays_by_name

    def _take(self, size: int) -> memoryview:
        if size > len(self._data) - self._at:
            raise ConvertError("the .params file is cut short, or not an MXNet file")
        self._at += size
        return self._data[self._at - size : self._at]

    def _number(self, form: str) -> int:
        value: int = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _count(self, least: int) -> int:
        """A number of items, each of at least `least` bytes."""
        count = self._number("<Q")
        if count > MAX_NODES or count * least > len(self._data) - self._at:
            raise ConvertError(f"the .params file has too many arrays ({count}) for its size")
        return count

    def _array(self) -> Array | None:
        magic = self._number("<I")
        if magic in (_V2, _V3) and self._number("<i") != 0:
            raise ConvertError("the .params file has sparse arrays; dense ones are supported")
        if magic in (_V1, _V2, _V3):
            rank, form = self._number("<i"), "<q"
        else:
            rank, form = magic, "<I"
        if rank == (-1 if magic == _V3 else 0):
            return None  # an array without a value
        if not 0 <= rank <= _MAX_RANK:
            raise ConvertError(f"broken .params file: an array of {rank} dimensions")
        shape = [self._number(form) for _ in range(rank)]
        self._take(8)  # the device that held it
        kind = self._number("<i")
        if kind not in _DTYPES:
            raise ConvertError(f"the .params file has arrays of the unknown type {kind}")
        if any(size < 0 for size in shape):
            raise ConvertError(f"broken .params file: an array of shape {shape}")
        dtype = np.dtype(_DTYPES[kind])
        raw = self._take(math.prod(shape) * dtype.itemsize)
        return np.frombuffer(raw, dtype).reshape(shape)

    def _name(self) -> str:
        raw = self._take(self._number("<Q"))
        try:
            name = str(raw, "utf-8")
        except UnicodeDecodeError as error:
            raise ConvertError("broken .params file: a name is not UTF-8") from error
        return name.removeprefix("arg:").removeprefix("aux:")
