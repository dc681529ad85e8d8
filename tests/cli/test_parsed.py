"""The data of a YAML file is parsed once for each content, and a cache that fails is none."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.config import parsed, paths
from compreface_cli.errors import ConfigurationError
from compreface_cli.models import catalogue


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


class Parser:
    """Counts its calls."""

    def __init__(self, result: Any = None) -> None:
        self.calls, self.result = 0, result

    def __call__(self, raw: bytes, origin: str) -> Any:
        self.calls += 1
        return self.result or {"text": raw.decode(), "of": origin}


def kept() -> list[Path]:
    return sorted((paths.cache_dir() / "parsed").iterdir())


def test_a_file_is_parsed_again_only_after_a_change(tmp_path: Path) -> None:
    path, parser = tmp_path / "a.yaml", Parser()
    for text, calls in (("one", 1), ("one", 1), ("two", 2), ("two", 2)):
        path.write_text(text)
        assert parsed.data(path, parser) == {"text": text, "of": str(path)}
        assert parser.calls == calls
    assert len(kept()) == 1
    other = tmp_path / "b.yaml"
    other.write_text("two")
    assert parsed.data(other, parser)["of"] == str(other)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"of": 1}', "null"])
def test_a_damaged_entry_is_written_anew(tmp_path: Path, damage: str) -> None:
    path, parser = tmp_path / "a.yaml", Parser()
    path.write_text("one")
    expected = parsed.data(path, parser)
    [entry] = kept()
    entry.write_text(damage)
    assert parsed.data(path, parser) == expected
    assert parser.calls == 2
    assert json.loads(entry.read_text())["data"] == expected


@pytest.mark.parametrize("result", [{1: "a number as a key"}, {"on": date(2026, 11, 30)}])
def test_what_json_cannot_hold_is_not_kept(tmp_path: Path, result: Any) -> None:
    path, parser = tmp_path / "a.yaml", Parser(result)
    path.write_text("one")
    for calls in (1, 2):
        assert parsed.data(path, parser) == result
        assert parser.calls == calls


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    path, parser = tmp_path / "a.yaml", Parser()
    path.write_text("one")
    (tmp_path / "cache").write_text("a file in the place of the folder")
    assert parsed.data(path, parser)["text"] == "one"


def test_a_fault_is_raised_each_time(tmp_path: Path) -> None:
    def refuse(raw: bytes, origin: str) -> Any:
        raise ConfigurationError(origin)

    path = tmp_path / "a.yaml"
    with pytest.raises(ConfigurationError):
        parsed.data(path, Parser())
    path.write_text("one")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            parsed.data(path, refuse)


def test_the_kept_catalogue_is_the_catalogue() -> None:
    first = parsed.data(catalogue.PATH, catalogue._parse)
    second = parsed.data(catalogue.PATH, Parser())
    assert first == second
    assert kept()
