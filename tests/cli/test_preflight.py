"""What `cf up` sees before it changes anything, and how a command finds its instance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.deploy import preflight, running
from compreface_cli.errors import PreflightError, UsageError
from compreface_cli.plan.operations import Options
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import plan
from tests.cli.records import PROCESS, STACK, record


@pytest.mark.parametrize(("command", "words"), [("cf logs", "cf logs one"), ("", "--instance one")])
def test_several_instances_are_listed_with_the_option_that_names_one(
    command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("one", "two"):
        running.instances().save(record(PROCESS, name))
    with pytest.raises(UsageError, match="one, two") as caught:
        running.pick(None, only_running=True, command=command)
    assert words in str(caught.value.hint)


def test_the_other_instances_that_run_are_known_by_their_ports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    store = running.instances()
    for name in ("one", "mine"):
        store.save(record(replace(PROCESS, data={"folder": str(tmp_path)}), name))
    store.save(record(STACK, "whole"))
    store.save(replace(record(PROCESS, "ended"), phase="stopped"))
    store.save(replace(record(PROCESS, "odd"), deployment={"launcher": "process"}))
    others = {other.name: other for other in preflight.other_instances("mine")}
    assert {name: other.ports for name, other in others.items()} == {
        "one": {3017},
        "whole": {3018, 8018},
    }
    assert others["whole"].folder == "x"


def test_another_calculator_is_refused_together_with_all_other_findings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    old = replace(record(PROCESS), phase="stopped", deployment={})
    wanted = plan(launcher="process", services="core", port="auto", bind="192.0.2.1")
    with pytest.raises(PreflightError) as caught:
        preflight.inspect(wanted, old, Options(), Output())
    assert caught.value.code == 5
    assert "calculator" in {row["check"] for row in caught.value.details["findings"]}
