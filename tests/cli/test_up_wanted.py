"""What `cf up` wants of an instance that is there already, and how a command finds its instance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from compreface_cli.errors import UsageError
from compreface_cli.flows import running, up_wanted
from compreface_cli.instances import Record, now
from compreface_cli.launch.base import Deployment, Endpoint
from tests.cli.fake_facts import plan

PROCESS = Deployment("process", "embedded", Endpoint("127.0.0.1", 3017))
STACK = Deployment(
    "compose", "embedded", Endpoint("127.0.0.1", 3018), Endpoint("127.0.0.1", 8018), {"folder": "x"}
)


def record(of: Deployment, name: str = "embedded") -> Record:
    return Record(
        name=name,
        build="embedded",
        calculator="c",
        services="full" if of.ui else "core",
        phase="running",
        created=now(),
        deployment=of.as_dict(),
    )


def test_a_port_that_nobody_gave_is_the_one_the_instance_has() -> None:
    wanted = plan(launcher="process", services="core", port=3000, origins={"port": "default"})
    assert up_wanted.keeping_ports(wanted, record(PROCESS)).port == 3017
    assert up_wanted.keeping_ports(wanted, None).port == 3000
    whole = up_wanted.keeping_ports(plan(), record(STACK))
    assert (whole.port, whole.core_port) == (8018, 3018)


def test_the_port_is_kept_when_auto_becomes_a_process_again() -> None:
    wanted = plan(launcher="auto", origins={"port": "default", "core_port": "default"})
    whole = up_wanted.keeping_ports(wanted, record(PROCESS))
    assert (whole.port, whole.core_port) == (8000, 3017)


@pytest.mark.parametrize("where", ["flag --port", "environment CF_PORT", "user file x:1"])
def test_a_port_that_somebody_gave_counts(where: str) -> None:
    wanted = plan(launcher="process", services="core", port=3000, origins={"port": where})
    assert up_wanted.keeping_ports(wanted, record(PROCESS)).port == 3000


def test_a_port_on_another_address_is_not_kept() -> None:
    wanted = plan(launcher="process", services="core", port=3000, bind="192.0.2.1")
    assert up_wanted.keeping_ports(wanted, record(PROCESS)).port == 3000


@pytest.mark.parametrize(("command", "words"), [("cf logs", "cf logs one"), ("", "--instance one")])
def test_several_instances_are_told_with_how_to_name_one(
    command: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name in ("one", "two"):
        running.instances().save(record(PROCESS, name))
    with pytest.raises(UsageError, match="several instances run: one, two") as caught:
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
    found = {other.name: other for other in up_wanted.neighbours("mine")}
    assert {name: other.ports for name, other in found.items()} == {
        "one": {3017},
        "whole": {3018, 8018},
    }
    assert found["whole"].folder == "x"
