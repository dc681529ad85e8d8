"""`cf explain`: each ID that the code can give has a text, and each text is given by the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from compreface_cli import topics
from compreface_cli.causes.docker import PORT_TAKEN as TAKEN
from compreface_cli.checks.base import fail, ok, warn
from compreface_cli.checks.port import SHARED
from compreface_cli.errors import CfError, PreflightError, UsageError
from compreface_cli.inspect import explain
from compreface_cli.topics import Topic
from tests.cli.in_process import in_folder
from tests.cli.names import assert_named
from tests.shared import ROOT

CLI = ROOT / "compreface_cli"
ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def defined() -> Iterator[tuple[Path, str]]:
    """Each module of `cf` with the name of a topic that it defines."""
    for path in sorted(CLI.rglob("*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                if getattr(node.value.func, "id", "") == "Topic":
                    yield path, node.targets[0].id  # type: ignore[attr-defined]


def test_every_topic_of_the_code_is_listed_under_an_id_of_its_own() -> None:
    named = [path.relative_to(CLI).with_suffix("") for path, _ in defined()]
    assert {str(name).replace("/", ".") for name in named} <= set(explain.modules())
    assert len(explain.topics()) == len(named)
    assert all(ID.fullmatch(topic.id) for topic in explain.topics())


def test_every_topic_is_used_where_it_is_defined_or_imported() -> None:
    sources = {path: path.read_text("utf-8") for path in CLI.rglob("*.py")}
    for path, name in defined():
        own = len(re.findall(rf"\b{name}\b", sources[path])) - 1
        elsewhere = sum(
            len(re.findall(rf"\b{path.stem}\.{name}\b|import .*\b{name}\b", text))
            for other, text in sources.items()
            if other != path
        )
        assert own + elsewhere, f"{path}: {name}"


def test_a_text_is_made_of_sentences() -> None:
    for topic in explain.topics():
        assert topic.ways, topic.id
        for text in (topic.means, topic.why, topic.see, *topic.ways):
            assert text.strip() == text, topic.id
            ends = text[-1] in ".`?" or "://" in text.split()[-1]
            assert ends, f"{topic.id}: {text}"
            assert "  " not in text, f"{topic.id}: {text}"


def test_a_finding_shows_its_id_and_one_that_is_well_has_none() -> None:
    taken = fail("port", 4, "port 8000 is held by x", "hint", topic=TAKEN)
    assert (taken.id, taken.tagged) == ("port-taken", "port 8000 is held by x [port-taken]")
    assert taken.as_dict()["id"] == warn("port", "message", topic=TAKEN).as_dict()["id"]
    good = ok("port", "free")
    assert (good.id, good.tagged, good.as_dict()["id"]) == ("", "free", "")


def test_an_error_names_the_command_that_says_more() -> None:
    assert topics.more(TAKEN, None, SHARED, TAKEN) == "More: cf explain port-taken port-shared"
    assert topics.more() == ""
    error = CfError("message", topic=TAKEN)
    assert error.as_dict()["id"] == "port-taken"
    assert error.topics == (TAKEN,)
    assert CfError("message").as_dict()["id"] == ""
    assert not CfError("message").topics
    several = PreflightError("message", codes=(4, 4), topics=[SHARED, TAKEN])
    assert several.as_dict()["id"] == "port-shared"
    assert several.topics == (SHARED, TAKEN)


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("prt-taken", "port-taken"),
        ("[port-taken]", "port-taken"),
        ("other-calculator", "volume-other-calculator"),
        ("Schema-Lock", "schema-lock"),
    ],
)
def test_an_unknown_id_suggests_near_ones(asked: str, near: str) -> None:
    with pytest.raises(UsageError) as refused:
        explain.chosen([asked])
    assert near in refused.value.details["near"]
    assert_named(refused.value.hint, near)


def test_an_id_like_no_other_suggests_none() -> None:
    with pytest.raises(UsageError) as refused:
        explain.chosen(["port-taken", "xx"])
    assert refused.value.details["near"] == []


def test_the_command_lists_all_and_explains_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = in_folder(tmp_path, monkeypatch, capsys)
    listed = run("explain")
    assert listed.code == 0
    assert_named(listed.out, *(topic.id for topic in explain.topics()))
    shown = run("explain", "port-taken", "port-shared")
    assert shown.code == 0
    assert_named(shown.out, "port-taken", "port-shared", "cf up --port auto")
    document = run("explain", "port-taken", "--json").document
    assert document["topics"] == [TAKEN.as_dict()]
    unknown = run("explain", "no-such-thing-at-all", "--json")
    assert unknown.code == 2
    assert unknown.document["error"]["exit_code"] == 2


def test_a_topic_as_json_has_all_its_texts() -> None:
    topic = Topic("a-b", means="M.", why="W.", see="S.", ways=("1.", "2."))
    assert topic.as_dict() == {
        "id": "a-b",
        "means": "M.",
        "why": "W.",
        "see": "S.",
        "ways": ["1.", "2."],
    }
