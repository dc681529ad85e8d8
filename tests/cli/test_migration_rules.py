"""What the user's rules make of faces that cannot be migrated; batches and times of a plan."""

from __future__ import annotations

from typing import Any

import pytest

from compreface_cli.data.migration import compute, foresight, rules, tables
from compreface_cli.data.migration.rules import Rules
from compreface_cli.data.migration.tables import Target
from compreface_cli.errors import UsageError

TALLY = {"one face": 90, "several faces": 4, "no face": 3, "unreadable": 1, "no image": 2}


def test_without_rules_each_face_that_is_kept_out_is_a_failure() -> None:
    verdict = rules.judge(TALLY, Rules())
    assert (verdict.faces, verdict.taken, verdict.kept_out, verdict.failures) == (100, 90, 10, 10)
    assert verdict.share == 0.1
    assert verdict.refused == ()
    (reason,) = rules.judge({**TALLY, "no face": 4}, Rules()).refused
    assert "11 of 101 faces" in reason


def test_a_rule_takes_faces_out_of_the_failures() -> None:
    by = Rules(no_face="keep-out", several="largest", without_image="keep-out", max_failures=0.0)
    verdict = rules.judge(TALLY, by)
    assert (verdict.taken, verdict.kept_out, verdict.failures) == (94, 6, 0)
    assert verdict.refused == ()
    kept = rules.judge(TALLY, Rules(several="keep-out"))
    assert (kept.taken, kept.kept_out, kept.failures) == (90, 10, 6)


@pytest.mark.parametrize(
    ("by", "named"),
    [
        (Rules(no_face="refuse"), ["3 faces", "1 face"]),
        (Rules(without_image="refuse"), ["2 faces"]),
    ],
)
def test_refuse_allows_none(by: Rules, named: list[str]) -> None:
    verdict = rules.judge(TALLY, by)
    assert len(verdict.refused) == len(named)
    for reason, count in zip(verdict.refused, named, strict=True):
        assert reason.startswith(count)


def test_a_collection_is_never_emptied_and_an_empty_one_is_fine() -> None:
    by = Rules(without_image="keep-out")
    assert rules.judge({"no image": 5}, by).refused == ("no face would be left",)
    assert rules.judge({"no image": 5, "pending": 1}, by).refused == ()
    empty = rules.judge({}, Rules())
    assert (empty.refused, empty.share) == ((), 0.0)


def test_what_is_pending_may_still_work() -> None:
    verdict = rules.judge({"pending": 95, "no image": 5}, Rules())
    assert (verdict.refused, verdict.failures, verdict.share) == ((), 5, 0.05)
    assert rules.judge({"pending": 80, "no image": 20}, Rules()).refused


def test_a_run_that_goes_on_keeps_its_rules_unless_new_ones_are_given() -> None:
    kept = Rules(no_face="keep-out", max_failures=0.3).as_dict()
    by = Rules(several="largest", max_failures=0.5).over(kept)
    assert by == Rules(no_face="keep-out", several="largest", max_failures=0.5)
    assert Rules().limit == 0.1


@pytest.mark.parametrize(("text", "value"), [("10%", 0.1), ("0.25", 0.25), ("0", 0), ("100%", 1)])
def test_a_share_is_read(text: str, value: float) -> None:
    assert rules.share(text) == value


@pytest.mark.parametrize("text", ["many", "110%", "-1", "1.5", "", "nan"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        rules.share(text)


def test_a_batch_is_bounded_in_bytes_but_takes_one_image_of_any_size() -> None:
    rows: list[dict[str, Any]] = [{"id": n, "bytes": size} for n, size in enumerate([5, 4, 3, 90])]
    assert [row["id"] for row in compute.bounded(rows, 9)] == [0, 1]
    assert [row["id"] for row in compute.bounded(rows[3:], 9)] == [3]
    assert compute.bounded([], 9) == []


def test_an_embedding_is_written_with_all_its_digits() -> None:
    values = [0.1, 1 / 3, -1e-17, 5e-324, 2.0]
    text = compute.array(values)
    assert [float(part) for part in text[1:-1].split(",")] == values


def test_names_in_sql_are_quoted() -> None:
    assert tables.texts(["it's", 'x"']) == "array['it''s', 'x\"']::text[]"
    target = Target("o'Calculator", ("o'Calculator",))
    assert "o''Calculator" in target.other
    assert "o'C" not in target.source.replace("o''C", "")


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (99, "99 s"), (720, "12 min"), (12_600, "3.5 h")]
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    assert foresight.duration(seconds) == words
