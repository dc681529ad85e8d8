"""Files of people: what is read, and the clear refusal of everything else."""

from __future__ import annotations

from pathlib import Path

import pytest

from compreface_cli.config import textfile
from compreface_cli.config.yamlfile import parse, read
from compreface_cli.errors import ConfigurationError
from tests.cli.names import assert_named


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, "my.yaml")
    assert caught.value.code == 3
    return caught.value.message


def test_a_value_knows_its_line_and_column() -> None:
    document = parse("a: 1\nb:\n  - x\n  - {c: 2}\n", "my.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": 2}]}
    assert document.position(["b", 1, "c"]) == (4, 6)
    assert document.position(["b", 1, "nothing", "there"]) == (4, 5)


def test_an_empty_file_is_no_data() -> None:
    assert parse("# nothing\n", "my.yaml").data is None
    assert parse("", "my.yaml").position([]) == (1, 1)


def test_a_key_that_stands_twice_is_refused_with_both_lines() -> None:
    assert_named(refusal("a: 1\nb: 2\na: 3\n"), "my.yaml:3: ", "'a'", "line 1")


def test_all_faults_are_reported_together() -> None:
    message = refusal("a: 1\na: 2\nb: !!python/object:os.system x\n<<: {c: 1}\n[k]: 1\n")
    assert [line.split(":")[1] for line in message.splitlines()] == ["2", "3", "4", "5"]


def test_invalid_yaml_is_refused_with_its_line() -> None:
    assert_named(refusal("a: 1\nb: [1, 2\n"), "my.yaml:3: ", "YAML")
    assert_named(refusal("a:\tb: c\n"), "my.yaml:1: ", "YAML")
    assert_named(refusal("a: b\x07c\n"), "my.yaml:1: ", "YAML")


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert refusal("\n".join(lines)).startswith("my.yaml:")


def test_an_alias_of_itself_is_refused() -> None:
    assert refusal("a: &a [*a]").startswith("my.yaml:1: ")


def test_a_file_that_is_nested_without_end_is_refused() -> None:
    assert refusal("[" * 200 + "]" * 200).startswith("my.yaml:1: ")
    assert refusal("[" * 100_000).startswith("my.yaml:1: ")


def test_values_that_yaml_makes_something_else_of_stay_text() -> None:
    assert parse("a: 2024-01-01\nb: " + "1" * 64, "x").data == {
        "a": "2024-01-01",
        "b": "1" * 64,
    }


def test_a_number_that_cannot_be_read_is_a_fault() -> None:
    assert_named(refusal("a: !!int x\n"), "my.yaml:1: ", "'x'")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path / "no.yaml")):
        read(tmp_path / "no.yaml")


def test_a_folder_is_not_accepted_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        read(tmp_path)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a" * (textfile.MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match=r"big\.yaml.*256 KiB"):
        read(path)


def test_bytes_that_are_no_utf8_name_their_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: 1\nb: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"latin.yaml:2: .*UTF-8"):
        read(path)


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes("﻿a: 1\n".encode())
    assert read(path).data == {"a": 1}


def test_a_fault_is_data_too() -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse("a: 1\na: 2\n", "my.yaml")
    [fault] = caught.value.details["faults"]
    assert (fault["file"], fault["line"], fault["column"], fault["hint"]) == ("my.yaml", 2, 1, "")
    assert_named(fault["message"], "'a'", "line 1")
