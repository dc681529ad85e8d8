"""How often people are recognised by their other photographs, with one calculator and another."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from compreface_engine import __main__ as program
from compreface_engine import recognition

FIRST, SECOND = (1.1, 6.0), (1.2, 5.0)


def line(service: str, subject: str, before: Iterable[float], after: Iterable[float]) -> str:
    first, second = ("{" + ",".join(str(float(v)) for v in row) + "}" for row in (before, after))
    return f"{service}\t{subject}\t{first}\t{second}\n"


def asked(lines: Iterable[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, Any]:
    arguments = ["--before", *map(str, FIRST), "--after", *map(str, SECOND)]
    code = recognition.main(arguments, io.StringIO("".join(lines)))
    return code, json.loads(capsys.readouterr().out)


def test_a_subject_that_the_new_calculator_mixes_up_is_counted_and_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [
        line("1", "ada", (1, 0, 0), (1, 0)),
        line("1", "ada", (0.9, 0.1, 0), (0, 1)),  # by now like Grace
        line("1", "grace", (0, 1, 0), (0.1, 0.9)),
        line("1", "grace", (0, 0.9, 0.1), (0.1, 0.8)),
        line("1", "alone", (0, 0, 1), (0.5, 0.5)),  # by one photograph nobody can be tested
        line("2", "eve", (1, 0, 0), (1, 0)),
    ]
    code, document = asked(lines, capsys)
    assert code == 0
    first, second = document["services"]["1"], document["services"]["2"]
    assert (first["photographs"], first["subjects"]) == (5, 3)
    assert (first["tested"], first["tested_subjects"]) == (4, 2)
    assert (first["recognised_before"], first["recognised_after"]) == (4, 2)
    assert (first["subjects_better"], first["subjects_worse"]) == (0, 1)
    assert first["worse"] == {"ada": [2, 2, 0]}
    assert first["border_before"] is first["border_after"] is None  # far fewer than 1000 pairs
    assert (second["tested"], second["recognised_after"]) == (0, 0)


def test_the_border_is_the_similarity_of_one_pair_of_strangers_in_a_thousand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    random = np.random.default_rng(3)
    before, after = random.standard_normal((600, 16)), random.standard_normal((600, 64))
    rows = [line("1", str(n // 2), before[n], after[n]) for n in range(600)]
    _, document = asked(rows, capsys)
    service = document["services"]["1"]
    for vectors, (c0, c1), name in (
        (before, FIRST, "border_before"),
        (after, SECOND, "border_after"),
    ):
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = units @ units.T
        upper = np.triu_indices(600, 1)
        impostors = cosines[upper][(upper[0] // 2) != (upper[1] // 2)]
        distance = np.sqrt(2 - 2 * np.quantile(impostors, 0.999))
        exact = (np.tanh((c0 - distance) * c1) + 1) / 2
        assert service[name] == pytest.approx(exact, abs=0.003)
    # Leave one out, by hand, over more photographs than are compared at once.
    np.fill_diagonal(cosines, -1)
    right = (cosines.argmax(axis=1) // 2 == np.arange(600) // 2).sum()
    assert service["recognised_after"] == right


@pytest.mark.parametrize(
    "bad",
    ["1\tada\t{1,0}\n", "1\tada\t{1,x}\t{1}\n", "1\tada\t1,0\t{1}\n", "1\tada\t{0,0}\t{1}\n",
     "1\tada\t{1,0,0}\t{1}\n", "1\tada\t{nan,0}\t{1}\n", "1\tada\t{}\t{1}\n"],
)  # fmt: skip
def test_a_line_that_is_none_is_refused(bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, document = asked([line("1", "ada", (1, 0), (1,)), bad], capsys)
    assert code == 3
    assert "line 2" in document["error"]["message"]


def test_more_than_its_memory_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognition, "_MOST_NUMBERS", 8)
    code, document = asked([line("1", "ada", (1, 0), (1,))] * 3, capsys)
    assert (code, "8 numbers" in document["error"]["message"]) == (3, True)


def test_nothing_is_no_service_and_the_program_knows_the_word(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    words = ["recognition", "--before", "1", "2", "--after", "1", "2"]
    assert program.main(words) == 0
    assert json.loads(capsys.readouterr().out)["services"] == {}
