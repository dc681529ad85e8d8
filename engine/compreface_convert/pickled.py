"""Carries out the few pickle opcodes that build a dict of tensors; every other one is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from compreface_convert.errors import ConvertError

# The opcodes are those of protocol 2 in CPython's Lib/pickletools.py, which torch.save writes.
# Nothing is imported and nothing is called: a global is a name in the caller's table.
MAX_STEPS: Final = 1 << 20
"""Opcodes, and items that a call copies, of one file; FaceNet's state dict takes 28 000."""
_MAX_LINE: Final = 200
_MAX_LONG: Final = 16
_SHOWN: Final = 80
_HINT: Final = "save the model's state_dict()"


@dataclass(frozen=True, slots=True)
class Global:
    """A name of the table. `call` builds the value from the arguments; None: it is a mere name."""

    name: str
    call: Callable[[tuple[Any, ...]], Any] | None = None


@dataclass(slots=True)
class Dict:
    """A dict, or an OrderedDict, whose attributes are dropped."""

    items: dict[str | int, Any] = field(default_factory=dict)
    ordered: bool = False


class _Mark:
    """The opcode MARK on the stack."""


_MARK: Final = _Mark()


class Machine:
    """Reads one pickle after another from a file.

    `globals_` maps `module.name` to what it stands for; `persistent` makes a value of a persistent
    id. Values are None, bool, int, float, str, tuple, list, Dict, Global and what these two return.
    """

    def __init__(
        self,
        data: memoryview,
        where: str,
        globals_: Mapping[str, Global],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.at = 0
        self._data, self._where = data, where
        self._globals, self._persistent = globals_, persistent
        self._steps = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def read(self) -> Any:
        """The value of the next pickle; `at` is behind it then. Raises ConvertError."""
        self._stack, self._memo = [], {}
        while True:
            start = self.at
            try:
                code = self._take(1)[0]
                if code == _STOP:
                    return self._last()
                operation = _OPERATIONS.get(code)
                if operation is None:
                    raise ConvertError(f"{_named(code)} is no part of a state dict; {_HINT}")
                self._spend(1)
                operation(self)
            except ConvertError as error:
                raise ConvertError(f"{self._where}, byte {start}: {error}") from error

    def _spend(self, count: int) -> None:
        self._steps += count
        if self._steps > MAX_STEPS:
            raise ConvertError(f"the pickle takes more than {MAX_STEPS} steps")

    # --- bytes -----------------------------------------------------------------------------------

    def _take(self, size: int) -> memoryview:
        if size > len(self._data) - self.at:
            raise ConvertError("the file is cut short")
        self.at += size
        return self._data[self.at - size : self.at]

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _line(self) -> str:
        end = bytes(self._data[self.at : self.at + _MAX_LINE]).find(b"\n")
        if end < 0:
            raise ConvertError("a name does not end")
        return _text(self._take(end + 1)[:end])

    # --- stack -----------------------------------------------------------------------------------

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise ConvertError("the stack is empty")
        return self._stack.pop()

    def _last(self) -> Any:
        value = self._pop()
        if self._stack:
            raise ConvertError("the pickle ends with values left over")
        return value

    def _several(self) -> list[Any]:
        """What lies above the last mark, without the mark."""
        for i in range(len(self._stack) - 1, -1, -1):
            if self._stack[i] is _MARK:
                values = self._stack[i + 1 :]
                del self._stack[i:]
                return values
        raise ConvertError("there is no mark")

    def _top(self, kind: type[Any]) -> Any:
        if not self._stack or not isinstance(self._stack[-1], kind):
            raise ConvertError(f"there is no {kind.__name__.lower()} to fill")
        return self._stack[-1]

    # --- operations ------------------------------------------------------------------------------

    def proto(self) -> None:
        version = self._take(1)[0]
        if version != 2:
            raise ConvertError(f"pickle protocol {version}; torch.save writes 2")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def push_number(self, form: str) -> None:
        self.push(self._number(form))

    def push_long(self) -> None:
        size = self._take(1)[0]
        if size > _MAX_LONG:
            raise ConvertError(f"an integer of {size} bytes")
        self.push(int.from_bytes(self._take(size), "little", signed=True))

    def push_text(self, form: str) -> None:
        self.push(_text(self._take(self._number(form))))

    def push_tuple(self, size: int) -> None:
        self.push(tuple([self._pop() for _ in range(size)][::-1]))

    def push_marked_tuple(self) -> None:
        self.push(tuple(self._several()))

    def append(self) -> None:
        value = self._pop()
        self._top(list).append(value)

    def appends(self) -> None:
        values = self._several()
        self._top(list).extend(values)

    def set_item(self) -> None:
        value, key = self._pop(), self._pop()
        set_item(self._top(Dict), key, value)

    def set_items(self) -> None:
        values = self._several()
        if len(values) % 2:
            raise ConvertError("a key without a value")
        target = self._top(Dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            set_item(target, key, value)

    def put(self, form: str) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise ConvertError("the stack is empty")
        self._memo[self._number(form)] = self._stack[-1]

    def get(self, form: str) -> None:
        index = self._number(form)
        if index not in self._memo:
            raise ConvertError(f"there is no memo {index}")
        self.push(self._memo[index])

    def global_(self) -> None:
        name = f"{self._line()}.{self._line()}"
        if name not in self._globals:
            raise ConvertError(f"{name[:_SHOWN]!r} is no part of a state dict; {_HINT}")
        self.push(self._globals[name])

    def reduce(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or function.call is None:
            raise ConvertError("a call of something that is no function")
        if not isinstance(arguments, tuple):
            raise ConvertError("a call without a tuple of arguments")
        self._spend(sum(len(value) for value in arguments if isinstance(value, list | tuple)))
        try:
            self.push(function.call(arguments))
        except ConvertError as error:
            raise ConvertError(f"{function.name}: {error}") from error

    def build(self) -> None:
        """The attributes of an OrderedDict (`_metadata`) are dropped."""
        self._pop()
        if not self._top(Dict).ordered:
            raise ConvertError("attributes of something that has none")

    def persistent(self) -> None:
        self.push(self._persistent(self._pop()))


def set_item(target: Dict, key: Any, value: Any) -> None:
    """`target[key] = value`. Only text and whole numbers are keys, so no hash takes long."""
    if type(key) not in (str, int):
        raise ConvertError("a key of a dict is neither text nor a whole number")
    if key in target.items:
        raise ConvertError("a dict has two values of one key")
    target.items[key] = value


def _text(raw: memoryview) -> str:
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise ConvertError("a text is not UTF-8") from error


def _named(code: int) -> str:
    from pickletools import opcodes  # a table of names; only a file that is refused needs it

    names = {known.code: known.name for known in opcodes}
    name = names.get(chr(code))
    return f"the opcode {name}" if name else f"the byte 0x{code:02x}"


_STOP: Final = ord(".")
_OPERATIONS: Final[Mapping[int, Callable[[Machine], None]]] = {
    0x80: Machine.proto,
    ord("c"): Machine.global_,
    ord("R"): Machine.reduce,
    ord("b"): Machine.build,
    ord("Q"): Machine.persistent,
    ord("("): lambda machine: machine.push(_MARK),
    ord("N"): lambda machine: machine.push(None),
    0x88: lambda machine: machine.push(True),
    0x89: lambda machine: machine.push(False),
    ord("K"): lambda machine: machine.push_number("<B"),
    ord("M"): lambda machine: machine.push_number("<H"),
    ord("J"): lambda machine: machine.push_number("<i"),
    0x8A: Machine.push_long,
    ord("G"): lambda machine: machine.push_number(">d"),
    ord("X"): lambda machine: machine.push_text("<I"),
    ord("U"): lambda machine: machine.push_text("<B"),  # what Python 2 writes for a str
    ord("T"): lambda machine: machine.push_text("<I"),
    ord(")"): lambda machine: machine.push(()),
    0x85: lambda machine: machine.push_tuple(1),
    0x86: lambda machine: machine.push_tuple(2),
    0x87: lambda machine: machine.push_tuple(3),
    ord("t"): Machine.push_marked_tuple,
    ord("]"): lambda machine: machine.push([]),
    ord("a"): Machine.append,
    ord("e"): Machine.appends,
    ord("}"): lambda machine: machine.push(Dict()),
    ord("s"): Machine.set_item,
    ord("u"): Machine.set_items,
    ord("q"): lambda machine: machine.put("<B"),
    ord("r"): lambda machine: machine.put("<I"),
    ord("h"): lambda machine: machine.get("<B"),
    ord("j"): lambda machine: machine.get("<I"),
}
