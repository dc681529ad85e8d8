"""Reads small YAML files that users write: plain data, with the line of every value and fault."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compreface_cli.config.textfile import read_bytes
from compreface_cli.errors import ConfigurationError

if TYPE_CHECKING:
    import yaml

MAX_NODES = 20_000  # aliases are counted each time, so that they cannot multiply in memory
MAX_DEPTH = 32


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in a file, at a line and column counted from 1."""

    origin: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.origin}:{self.line}: {self.message}{tail}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "file": self.origin,
            "line": self.line,
            "column": self.column,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a file, and the position of each value by its path of keys and indexes."""

    data: Any
    origin: str
    marks: dict[tuple[str | int, ...], tuple[int, int]]

    def position(self, location: Sequence[str | int]) -> tuple[int, int]:
        """Line and column of that value, or of the innermost mapping or list around it."""
        for length in range(len(location), -1, -1):
            mark = self.marks.get(tuple(location[:length]))
            if mark:
                return mark
        return 1, 1


def refuse(faults: Iterable[Fault]) -> ConfigurationError:
    """All faults as one error."""
    faults = list(faults)
    return ConfigurationError(
        "\n".join(str(fault) for fault in faults),
        details={"faults": [fault.as_dict() for fault in faults]},
    )


_SYNONYMS = {"gpu": "cuda"}  # words whose nearest match by spelling would be wrong


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    from difflib import get_close_matches

    words, known_as = list(known), _SYNONYMS.get(word.lower())
    if known_as in words:
        return f"did you mean {known_as!r}?"
    close = get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else None


def read(path: Path) -> Document:
    """Parse a file; raises ConfigurationError if it cannot be read or parsed."""
    origin = str(path)
    return parse_bytes(read_bytes(path, origin), origin)


def parse_bytes(raw: bytes, origin: str) -> Document:
    """As `parse`, of a file's content."""
    try:
        return parse(raw.decode("utf-8-sig"), origin)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise refuse([Fault(origin, line, 1, "is not UTF-8 text", "save it as UTF-8")]) from error


def parse(text: str, origin: str) -> Document:
    """Parse YAML text into plain data; refuses duplicate keys, tags and alias bombs."""
    import yaml  # late: what `parsed` has kept needs no parser

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        node = yaml.compose(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise refuse([Fault(origin, line, column, f"not YAML: {error.problem}")]) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise refuse([Fault(origin, 1, 1, f"not YAML: {error}")]) from error
    builder = _Builder(origin)
    data = None if node is None else builder.build(node, ())
    if builder.faults:
        raise refuse(builder.faults)
    return Document(data, origin, builder.marks)


class _Builder:
    """Converts YAML nodes to plain data and records their positions."""

    def __init__(self, origin: str) -> None:
        import yaml

        self._yaml = yaml
        self.origin = origin
        self.marks: dict[tuple[str | int, ...], tuple[int, int]] = {}
        self.faults: list[Fault] = []
        self._scalars = yaml.constructor.SafeConstructor()
        self._nodes = 0

    def build(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self._nodes += 1
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        self.marks.setdefault(path, (line, column))
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            message = "too many values (aliases count)"
            if len(path) > MAX_DEPTH:
                message = f"nested more than {MAX_DEPTH} levels deep"
            raise refuse([Fault(self.origin, line, column, message)])
        if isinstance(node, self._yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, self._yaml.SequenceNode):
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        return self._scalar(node, line, column)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line, column = key_node.start_mark.line + 1, key_node.start_mark.column + 1
            if not isinstance(key_node, self._yaml.ScalarNode):
                self.faults.append(Fault(self.origin, line, column, "a key must be a word"))
                continue
            key = str(key_node.value)
            if key_node.tag == "tag:yaml.org,2002:merge":
                hint = "write the keys out"
                self.faults.append(
                    Fault(self.origin, line, column, "merge keys (<<) are not supported", hint)
                )
                continue
            if key in result:
                first = self.marks[(*path, key)][0]
                message = f"key {key!r} is duplicated, first in line {first}"
                self.faults.append(Fault(self.origin, line, column, message))
                continue
            self.marks[(*path, key)] = (line, column)
            result[key] = self.build(value_node, (*path, key))
        return result

    def _scalar(self, node: yaml.Node, line: int, column: int) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind in ("timestamp", "str"):  # a date is text here
            return str(node.value)
        if kind not in ("null", "bool", "int", "float"):
            self.faults.append(Fault(self.origin, line, column, f"tag {node.tag!r} is not allowed"))
            return None
        if kind == "int" and len(node.value) >= 40:
            return str(node.value)  # a hash of digits only; no number is that long
        try:
            return self._scalars.construct_object(node)
        except (ValueError, self._yaml.YAMLError) as error:
            self.faults.append(Fault(self.origin, line, column, f"cannot be read: {error}"))
            return None
