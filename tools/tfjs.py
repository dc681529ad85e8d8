"""Reads TensorFlow.js weights: a manifest in JSON and the shards of bytes that it names."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Levels

# The format: tensorflow/tfjs, tfjs-core/src/io (types.ts and io_utils.ts). A manifest is a list of
# groups, `{"paths": [...], "weights": [...]}`; the shards of a group, concatenated, are its weights
# without gaps, little-endian.
MAX_MANIFEST: Final = 1 << 20
"""Bytes of a manifest; a weight takes about 150."""
MAX_BYTES: Final = 1 << 29
"""Bytes of all shards together, and of all weights as float32; FaceNet has 1 << 27."""
_MAX_WEIGHTS: Final = 10_000
_MAX_RANK: Final = 8
_DTYPES: Final[Mapping[str, str]] = {"float32": "<f4", "int32": "<i4"}
_STORED: Final[Mapping[str, str]] = {"uint8": "|u1", "uint16": "<u2", "float16": "<f2"}


@dataclass(frozen=True, slots=True)
class Weight:
    """The values of a tensor, and the levels that they were rounded to, if any."""

    values: Array
    levels: Levels | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A weight as the manifest describes it; `stored` is the dtype of its bytes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    stored: str
    levels: Levels | None

    @property
    def count(self) -> int:
        return math.prod(self.shape)


def read_tfjs(manifest: bytes, shards: Mapping[str, bytes]) -> dict[str, Weight]:
    """The weights by name; `shards` are the bytes of the manifest's files by their names.

    Read are float32 and int32, as they are or rounded to uint8, uint16 or float16. Raises
    ConvertError if the manifest is wrong, or does not account for every shard and byte.
    """
    weights: dict[str, Weight] = {}
    left, used = MAX_BYTES, set[str]()
    for number, group in enumerate(_groups(manifest)):
        at = f"group {number} of the manifest"
        data = b"".join(_shard(name, shards, used) for name in _paths(group, at))
        entries = _entries(group, at)
        left -= sum(entry.count for entry in entries) * 4
        if left < 0:
            raise ConvertError(f"the manifest's weights take more than {MAX_BYTES} bytes")
        _check_length(entries, data, at)
        offset = 0
        for entry in entries:
            if entry.name in weights:
                raise ConvertError(f"the manifest names the weight '{entry.name}' twice")
            size = entry.count * np.dtype(entry.stored).itemsize
            weights[entry.name] = _weight(entry, data[offset : offset + size])
            offset += size
    unnamed = sorted(set(shards) - used)
    if unnamed:
        raise ConvertError(f"the manifest names no shard '{unnamed[0]}'")
    return weights


def _groups(manifest: bytes) -> Sequence[Any]:
    if len(manifest) > MAX_MANIFEST:
        raise ConvertError(f"a manifest of more than {MAX_MANIFEST} bytes is not supported")
    try:
        document = json.loads(manifest.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise ConvertError(f"the manifest of the weights is not JSON: {error}") from error
    if isinstance(document, dict) and "weightsManifest" in document:
        raise ConvertError("this is a whole model.json; expected is a list of groups of weights")
    return _list(document, "the manifest")


def _list(value: Any, what: str) -> Sequence[Any]:
    if not isinstance(value, list) or not value:
        raise ConvertError(f"{what} must be a list that is not empty")
    return value


def _field(entry: Any, key: str, what: str) -> Any:
    if not isinstance(entry, dict):
        raise ConvertError(f"{what} is not an object")
    if key not in entry:
        raise ConvertError(f"{what} has no '{key}'")
    return entry[key]


def _paths(group: Any, at: str) -> list[str]:
    names = []
    for name in _list(_field(group, "paths", at), f"'paths' in {at}"):
        if not isinstance(name, str) or not name or not name.isprintable():
            raise ConvertError(f"'paths' in {at} holds {_short(name)}, which is not a file name")
        # Shards are beside their manifest; a path could lead anywhere.
        if "/" in name or "\\" in name or ":" in name or name in (".", ".."):
            raise ConvertError(f"the shard {_short(name)} must be a file name without a folder")
        names.append(name)
    return names


def _shard(name: str, shards: Mapping[str, bytes], used: set[str]) -> bytes:
    if name in used:
        raise ConvertError(f"the manifest names the shard '{name}' twice")
    if name not in shards:
        raise ConvertError(f"the manifest's shard '{name}' is missing")
    used.add(name)
    if sum(len(shards[name]) for name in used) > MAX_BYTES:
        raise ConvertError(f"shards of more than {MAX_BYTES} bytes are not supported")
    return shards[name]


def _entries(group: Any, at: str) -> list[_Entry]:
    items = _list(_field(group, "weights", at), f"'weights' in {at}")
    if len(items) > _MAX_WEIGHTS:
        raise ConvertError(f"{at} has more than {_MAX_WEIGHTS} weights")
    return [_entry(item, f"weight {i} of {at}") for i, item in enumerate(items)]


def _entry(described: Any, at: str) -> _Entry:
    name = _field(described, "name", at)
    if not isinstance(name, str) or not name:
        raise ConvertError(f"the name of {at} is {_short(name)}")
    at = f"the weight {_short(name)}"
    dtype = _known(_field(described, "dtype", at), _DTYPES, f"the dtype of {at}")
    shape = _shape(_field(described, "shape", at), at)
    if "quantization" not in described:
        return _Entry(name, shape, dtype, _DTYPES[dtype], None)
    rounded = described["quantization"]
    kept = _known(
        _field(rounded, "dtype", f"'quantization' of {at}"), _STORED, f"the stored dtype of {at}"
    )
    if dtype != "float32":
        raise ConvertError(f"{at} is {dtype} stored as {kept}; only float32 can be stored rounded")
    if kept == "float16":
        return _Entry(name, shape, dtype, _STORED[kept], None)
    scale, least = (_number(rounded, key, at) for key in ("scale", "min"))
    if scale <= 0:
        raise ConvertError(f"'scale' of {at} is {scale:g}; it must be more than 0")
    return _Entry(name, shape, dtype, _STORED[kept], Levels(scale, least, _STORED[kept]))


def _known(value: Any, known: Mapping[str, str], what: str) -> str:
    if not isinstance(value, str) or value not in known:
        raise ConvertError(f"{what} is {_short(value)}; supported are {', '.join(known)}")
    return value


def _number(rounded: Any, key: str, at: str) -> float:
    value = _field(rounded, key, f"'quantization' of {at}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConvertError(f"'{key}' of {at} is not a number")
    # The weights become float32.
    if not abs(value) <= float(np.finfo(np.float32).max):
        raise ConvertError(f"'{key}' of {at} is not finite")
    return float(value)


def _shape(value: Any, at: str) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(size) is int for size in value)
    if not whole or len(value) > _MAX_RANK or any(not 0 < size <= MAX_BYTES for size in value):
        raise ConvertError(f"the shape of {at} is {_short(value)}")
    if math.prod(value) * 4 > MAX_BYTES:
        raise ConvertError(f"{at} takes more than {MAX_BYTES} bytes")
    return tuple(value)


def _check_length(entries: Sequence[_Entry], data: bytes, at: str) -> None:
    needed = sum(entry.count * np.dtype(entry.stored).itemsize for entry in entries)
    if needed > len(data):
        raise ConvertError(f"the weights in {at} take {needed} bytes, its shards hold {len(data)}")
    if needed < len(data):
        raise ConvertError(
            f"the shards in {at} hold {len(data) - needed} bytes after the last weight"
        )


def _weight(entry: _Entry, data: bytes) -> Weight:
    stored = np.frombuffer(data, entry.stored).reshape(entry.shape)
    if entry.levels is None:
        values = stored.astype(entry.dtype)
    else:
        values = entry.levels.values(stored)
    if not np.isfinite(values).all():
        raise ConvertError(f"the weight {_short(entry.name)} has values that are not finite")
    return Weight(values, entry.levels)


def _short(value: Any) -> str:
    return reprlib.repr(value)  # short for a nested value of any depth
