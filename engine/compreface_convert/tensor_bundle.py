"""Reads the tensors of a TensorFlow checkpoint (V2: `.index` and `.data-…`) without TensorFlow."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array
from compreface_convert.graphdef import DTYPES, MAX_ELEMENTS, read_shape
from compreface_convert.sstable import masked_crc, read_table, varint
from compreface_convert.tensorflow_proto import parse

_MAX_INDEX: Final = 64 << 20
_MAX_SHARDS: Final = 1000
MAX_BYTES: Final = 1 << 30
"""Bytes that all tensors may take together: four times the largest face network."""
_STRING: Final = 7


@dataclass(frozen=True, slots=True)
class _Entry:
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    sliced: bool


class Bundle:
    """The tensors of a checkpoint; each is read, and its checksum verified, on demand."""

    def __init__(
        self, prefix: str, files: Mapping[str, Path], *, max_bytes: int = MAX_BYTES
    ) -> None:
        """`files`: paths by base name; `prefix`: the part of the names before `.index`.

        Raises ConvertError for an index that is missing or broken.
        """
        self._prefix, self._files = prefix, files
        self._left = max_bytes
        self._tensors: dict[str, Array] = {}
        index = _file(files, f"{prefix}.index")
        if _size(index) > _MAX_INDEX:
            raise ConvertError(f"{index.name} is too large for an index")
        try:
            data = index.read_bytes()
        except OSError as error:
            raise ConvertError(f"{index} cannot be read: {error}") from error
        try:
            table = read_table(data)
            self._shards = _header(table.pop(b"", None))
            self._entries = {_name(key): _entry(value) for key, value in table.items()}
        except ConvertError as error:
            raise ConvertError(f"{index.name}: {error}") from error

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def tensor(self, name: str) -> Array:
        """The tensor `name`. Raises ConvertError if it is missing, damaged or of unknown type."""
        if name not in self._tensors:
            self._tensors[name] = self._tensor(name)
        return self._tensors[name]

    def _tensor(self, name: str) -> Array:
        entry = self._entries.get(name)
        if entry is None:
            raise ConvertError(f"the checkpoint has no tensor '{name}'")
        if entry.sliced:
            raise ConvertError(f"the tensor '{name}' is stored in parts, which is not supported")
        if entry.dtype not in DTYPES:
            raise ConvertError(f"the tensor '{name}' has the type {entry.dtype}, not supported")
        dtype = np.dtype(DTYPES[entry.dtype])
        count = math.prod(entry.shape)
        if count > MAX_ELEMENTS or entry.size != count * dtype.itemsize:
            raise ConvertError(
                f"the tensor '{name}' of shape {list(entry.shape)} has {entry.size} bytes"
            )
        data = self._read(name, entry)
        if masked_crc(data) != entry.crc:
            raise ConvertError(f"the checksum of the tensor '{name}' does not match")
        return np.frombuffer(data, dtype).reshape(entry.shape)

    def text(self, name: str) -> bytes:
        """The only string of the tensor `name`, stored as length, checksum, bytes."""
        entry = self._entries.get(name)
        if entry is None or entry.dtype != _STRING or entry.shape or entry.size > _MAX_INDEX:
            raise ConvertError(f"the checkpoint has no string '{name}'")
        data = self._read(name, entry)
        length, at = varint(memoryview(data), 0)
        body = data[at + 4 :]
        sums = struct.pack("<Q" if length > 0xFFFFFFFF else "<I", length) + data[at : at + 4]
        if len(body) != length or masked_crc(sums + body) != entry.crc:
            raise ConvertError(f"the checksum of the string '{name}' does not match")
        return body

    def _read(self, name: str, entry: _Entry) -> bytes:
        if entry.shard >= self._shards:
            raise ConvertError(f"the tensor '{name}' is in the unknown shard {entry.shard}")
        path = _file(self._files, f"{self._prefix}.data-{entry.shard:05d}-of-{self._shards:05d}")
        if entry.offset + entry.size > _size(path):
            raise ConvertError(f"the tensor '{name}' ends after {path.name}")
        self._left -= entry.size
        if self._left < 0:
            raise ConvertError("the tensors of the checkpoint take too much memory")
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                data = file.read(entry.size)
        except OSError as error:
            raise ConvertError(f"{path} cannot be read: {error}") from error
        if len(data) != entry.size:
            raise ConvertError(f"the tensor '{name}' ends after {path.name}")
        return data


def by_base_name(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files of a folder by base name. Raises ConvertError for two of the same name."""
    by_name: dict[str, Path] = {}
    for listed, path in files.items():
        name = re.split(r"[/\\]", listed)[-1]
        if name in by_name:
            raise ConvertError(f"two files are named '{name}'")
        by_name[name] = path
    return by_name


def _file(files: Mapping[str, Path], name: str) -> Path:
    path = files.get(name)
    if path is None:
        raise ConvertError(f"the file '{name}' is missing; list all files of the folder")
    return path


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise ConvertError(f"{path} cannot be read: {error}") from error


def _name(key: bytes) -> str:
    """The name of a tensor; the keys of slices are not text, and are never looked up."""
    return key.decode("utf-8", "backslashreplace")


def _header(value: memoryview | None) -> int:
    if value is None:
        raise ConvertError("the index of the checkpoint has no header")
    header = parse("BundleHeaderProto", value)
    if header.endianness != 0:
        raise ConvertError("the checkpoint is big-endian, which is not supported")
    if not 1 <= header.num_shards <= _MAX_SHARDS:
        raise ConvertError(f"the checkpoint claims {header.num_shards} data files")
    return int(header.num_shards)


def _entry(value: memoryview) -> _Entry:
    entry = parse("BundleEntryProto", value)
    shape = read_shape(entry.shape)
    known = tuple(side for side in shape if side is not None)
    if len(known) != len(shape) or min(entry.shard_id, entry.offset, entry.size) < 0:
        raise ConvertError("an entry of the checkpoint has a size below zero")
    return _Entry(
        dtype=entry.dtype,
        shape=known,
        shard=entry.shard_id,
        offset=entry.offset,
        size=entry.size,
        crc=entry.crc32c,
        sliced=bool(entry.slices),
    )
