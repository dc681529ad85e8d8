"""Reads a PyTorch state dict, from both formats of torch.save, without PyTorch and its pickle."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from compreface_convert.errors import ConvertError
from compreface_convert.graph import Array, Graph
from compreface_convert.inception_resnet import inception_resnet_v1
from compreface_convert.pickled import Dict, Global, Machine, set_item

NETWORKS: Final[Mapping[str, Callable[[Mapping[str, Array]], Graph]]] = {
    "inception_resnet_v1": inception_resnet_v1
}
"""Values of an entry's `network`."""

# Both formats as torch/serialization.py writes them. The older stream begins with the pickle of
# its magic number, 0x1950a86a20f9469cfc6c.
_MAGIC: Final = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_VERSION: Final = 1001
_ZIP: Final = b"PK\x03\x04"
_ZIP_ENTRY: Final = b"PK\x01\x02"
_MAX_MEMBERS: Final = 20_000
"""A member for each tensor, and a few more; FaceNet's file has about 800."""
_MAX_RANK: Final = 8
_MAX_EMPTY: Final = 1 << 31
_SHOWN: Final = 100
_DTYPES: Final = {
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


def read_pytorch(data: bytes, network: str) -> Graph:
    """The network with the weights of a state dict. Raises ConvertError."""
    build = NETWORKS.get(network)
    if build is None:
        raise ConvertError(f"`network` {network!r} is not known: use {' or '.join(NETWORKS)}")
    return build(read_state_dict(data))


def read_state_dict(data: bytes) -> dict[str, Array]:
    """The tensors by name, as views of their storages; bfloat16 becomes float32.

    The file is a dict of tensors, or a dict that has such a dict under `state_dict`. Raises
    ConvertError for anything else.
    """
    if data.startswith(_ZIP):
        return _Zip(data).tensors()
    if data.startswith(_MAGIC):
        return _stream(data)
    raise ConvertError("not a file of torch.save (neither its zip archive nor its older format)")


@dataclass(slots=True)
class _Storage:
    """The memory that tensors lie in: `count` values, empty until the file's bytes are read."""

    kind: str
    count: int
    values: Array = field(default_factory=lambda: np.zeros(0, np.float32))

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * np.dtype(_DTYPES[self.kind]).itemsize

    def fill(self, raw: bytes | memoryview) -> None:
        if len(raw) != self.size:
            raise ConvertError(f"a storage of {self.size} bytes has {len(raw)} in the file")
        values = np.frombuffer(raw, _DTYPES[self.kind])
        if self.kind == "BFloat16Storage":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        self.values = values


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; the offset and the strides count values."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> Array:
        values = self.storage.values
        if 0 in self.shape:
            return np.zeros(self.shape, values.dtype)
        strides = [step * values.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(
            values[self.offset :], self.shape, strides, writeable=False
        )


# --- what the pickle may call ------------------------------------------------------------------


def _ordered_dict(arguments: tuple[Any, ...]) -> Dict:
    """Without arguments, or with a list of pairs, as Python 2 writes it."""
    result = Dict(ordered=True)
    pairs = arguments[0] if arguments else ()
    if len(arguments) > 1 or not isinstance(pairs, list | tuple):
        raise ConvertError("not a list of pairs")
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise ConvertError("not a list of pairs")
        set_item(result, *pair)
    return result


def _rebuild_tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """(storage, offset, shape, strides), then what matters to training only.

    The seventh argument of `_rebuild_tensor_v2` marks values stored negated or conjugated.
    """
    if not 4 <= len(arguments) <= 7 or (len(arguments) == 7 and arguments[6] is not None):
        raise ConvertError(f"{len(arguments)} arguments, or marks that are not supported")
    storage, offset, shape, strides = arguments[:4]
    if not isinstance(storage, _Storage):
        raise ConvertError("a tensor without a storage")
    numbers = (*_counts(shape), *_counts(strides), *_counts((offset,)))
    if len(shape) != len(strides) or len(shape) > _MAX_RANK or min(numbers) < 0:
        raise ConvertError(f"a tensor of shape {_some(shape)} and strides {_some(strides)}")
    # An empty tensor takes no memory, but NumPy limits its other sizes.
    count = math.prod(shape)
    largest = storage.count if count else _MAX_EMPTY
    # Where a dimension has one value, its stride is never taken and may be any number.
    steps = tuple(step if size > 1 else 0 for size, step in zip(shape, strides, strict=True))
    last = offset + sum((size - 1) * step for size, step in zip(shape, steps, strict=True))
    beyond = count > 0 and last >= storage.count
    if beyond or math.prod(size or 1 for size in shape) > largest or offset > storage.count:
        raise ConvertError(
            f"a tensor of shape {_some(shape)} at {offset} goes beyond its storage of "
            f"{storage.count} values"
        )
    return _Tensor(storage, offset, tuple(shape), steps)


def _counts(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or any(type(value) is not int for value in values):
        raise ConvertError("a shape, a stride or an offset is not of whole numbers")
    return values


def _some(values: tuple[int, ...]) -> str:
    return str(list(values[: _MAX_RANK + 1]))[:_SHOWN]


def _rebuild_parameter(arguments: tuple[Any, ...]) -> _Tensor:
    """(tensor, requires_grad, hooks)"""
    if not arguments or not isinstance(arguments[0], _Tensor):
        raise ConvertError("a parameter without a tensor")
    return arguments[0]


_GLOBALS: Final[Mapping[str, Global]] = {
    made.name: made
    for made in (
        Global("collections.OrderedDict", _ordered_dict),
        Global("torch._utils._rebuild_tensor", _rebuild_tensor),
        Global("torch._utils._rebuild_tensor_v2", _rebuild_tensor),
        Global("torch._utils._rebuild_parameter", _rebuild_parameter),
        *(Global(f"torch.{kind}") for kind in _DTYPES),
    )
}


class _Storages:
    """The storages of a file by key, as its persistent ids name them."""

    def __init__(self) -> None:
        self.by_key: dict[str, _Storage] = {}

    def of(self, pid: Any) -> _Storage:
        """('storage', type, key, device, number of values), and None in the older format."""
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6 or pid[0] != "storage":
            raise ConvertError("a reference to something other than a storage")
        made, key, count = pid[1], pid[2], pid[4]
        kind = made.name.removeprefix("torch.") if isinstance(made, Global) else ""
        if kind not in _DTYPES or type(key) is not str or type(count) is not int or count < 0:
            raise ConvertError("a storage without a type, a key or a size")
        if len(pid) == 6 and pid[5] is not None:
            raise ConvertError("a storage that is a part of another is not supported")
        storage = self.by_key.setdefault(key, _Storage(kind, count))
        if (storage.kind, storage.count) != (kind, count):
            raise ConvertError("a storage has two types or sizes")
        return storage


def _state(value: Any) -> dict[str, _Tensor]:
    """The tensors of the file's value."""
    if isinstance(value, Dict) and isinstance(value.items.get("state_dict"), Dict):
        value = value.items["state_dict"]
    if not isinstance(value, Dict):
        raise ConvertError("the file holds no dict of tensors; save the model's state_dict()")
    tensors: dict[str, _Tensor] = {}
    for name, tensor in value.items.items():
        if not isinstance(tensor, _Tensor) or not isinstance(name, str):
            raise ConvertError(f"'{str(name)[:_SHOWN]}' in the file is not a tensor")
        tensors[name] = tensor
    return tensors


# --- the two formats -----------------------------------------------------------------------------


def _stream(data: bytes) -> dict[str, Array]:
    """The older format: pickles of magic number, version, system, value and keys, then storages."""
    storages = _Storages()
    machine = Machine(memoryview(data), "the file", _GLOBALS, storages.of)
    machine.read()  # the magic number
    version, system = machine.read(), machine.read()
    if version != _VERSION or not isinstance(system, Dict):
        raise ConvertError("the file is of an unknown version of torch.save")
    if system.items.get("little_endian") is not True:
        raise ConvertError("the file was written on a big-endian machine; save it on another")
    tensors = _state(machine.read())
    keys = machine.read()
    if not isinstance(keys, list) or any(type(key) is not str for key in keys):
        raise ConvertError("the file has no list of its storages")
    if len(keys) != len(storages.by_key) or set(keys) != set(storages.by_key):
        raise ConvertError("the file's list of storages is not that of its tensors")
    at, view = machine.at, memoryview(data)
    for key in keys:
        storage = storages.by_key[key]
        head, at = view[at : at + 8], at + 8
        if len(head) == 8 and struct.unpack("<q", head)[0] != storage.count:
            raise ConvertError(f"a storage of {storage.count} values has another size in the file")
        if len(head) < 8 or storage.size > len(data) - at:
            raise ConvertError("the file is cut short")
        storage.fill(view[at : at + storage.size])
        at += storage.size
    if at != len(data):
        raise ConvertError("the file has data after its end")
    return {name: tensor.array() for name, tensor in tensors.items()}


class _Zip:
    """The format since PyTorch 1.6: FOLDER/data.pkl and FOLDER/data/KEY, none compressed."""

    def __init__(self, data: bytes) -> None:
        if data.count(_ZIP_ENTRY) > _MAX_MEMBERS:
            raise ConvertError(f"the archive has more than {_MAX_MEMBERS} members")
        try:
            self._archive = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN_ZIP as error:
            raise ConvertError(f"the archive cannot be read: {error}") from error
        self._members = self._checked(self._archive.infolist(), len(data))
        pickles = [name for name in self._members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ConvertError(f"the archive has {len(pickles)} members data.pkl, not a single one")
        self._folder = pickles[0].removesuffix("data.pkl")

    @staticmethod
    def _checked(members: Iterable[zipfile.ZipInfo], size: int) -> dict[str, zipfile.ZipInfo]:
        checked: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = member.filename
            if name in checked:
                raise ConvertError(f"the archive has two members '{name[:_SHOWN]}'")
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ConvertError(
                    f"the member '{name[:_SHOWN]}' is compressed or encrypted; torch.save "
                    "stores members as they are"
                )
            checked[name] = member
        # Together they fit into the file, so members that share their bytes are refused.
        total = sum(max(member.file_size, member.compress_size) for member in checked.values())
        if total > size:
            raise ConvertError("the members of the archive are larger than the archive")
        return checked

    def _read(self, name: str) -> bytes:
        member = self._members.get(self._folder + name)
        if member is None:
            raise ConvertError(f"the archive has no member '{name[:_SHOWN]}'")
        try:
            return self._archive.read(member)
        except _BROKEN_ZIP as error:
            raise ConvertError(
                f"the member '{name[:_SHOWN]}' cannot be read: {error or 'cut short'}"
            ) from error

    def tensors(self) -> dict[str, Array]:
        if f"{self._folder}byteorder" in self._members and self._read("byteorder") != b"little":
            raise ConvertError("the file was written on a big-endian machine; save it on another")
        storages = _Storages()
        pickle = memoryview(self._read("data.pkl"))
        machine = Machine(pickle, "data.pkl", _GLOBALS, storages.of)
        tensors = _state(machine.read())
        if machine.at != len(pickle):
            raise ConvertError("data.pkl has data after its end")
        for key, storage in storages.by_key.items():
            storage.fill(self._read(f"data/{key}"))
        return {name: tensor.array() for name, tensor in tensors.items()}


_BROKEN_ZIP: Final = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError,
    OverflowError, struct.error,
)  # fmt: skip
