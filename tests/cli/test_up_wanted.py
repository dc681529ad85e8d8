"""What `cf up` wants of an instance that is there already, and how a command finds its instance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.deploy import running, up_wanted
from compreface_cli.errors import PreflightError, UsageError
from compreface_cli.instance.records import Record, now
from compreface_cli.instance.state import Deployment, Endpoint
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.plan.plan import Plan
from compreface_cli.terminal.output import Output
from tests.cli.fake_facts import plan
from tests.cli.model_bench import SHA, a_model

PROCESS = Deployment("process", "embedded", Endpoint("127.0.0.1", 3017), data={"folder": "x"})
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
    found = {other.name: other for other in up_wanted.other_instances("mine")}
    assert {name: other.ports for name, other in found.items()} == {
        "one": {3017},
        "whole": {3018, 8018},
    }
    assert found["whole"].folder == "x"


def _with(model: Model) -> Plan:
    return plan(
        calculator="custom.Calculator@mine", launcher="process", services="core", models=(model,)
    )


def _ran(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """The record of an instance of this model, as the next `cf` reads it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted, store = _with(model), running.instances()
    mine = replace(record(PROCESS, "mine"), calculator=wanted.calculator, plan=wanted.as_dict())
    store.save(replace(mine, phase="stopped", deployment={}))
    found = store.load("mine")
    assert found is not None
    return found


@pytest.mark.parametrize(
    "changed",
    [
        {"colour": "bgr"},
        {"mean": (0.0,)},
        {"scale": (127.5,)},
        {"scale": (128.0, 128.0, 1.0)},
        {"mean": None, "scale": None},
        {"size": 160},
        {"layout": "nhwc"},
        {"align": "facenet-margin"},
    ],
    ids=str,
)
def test_the_same_calculator_fed_otherwise_is_refused(
    changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _ran(a_model(), tmp_path, monkeypatch)
    wanted = _with(a_model(**changed))
    seen = up_wanted.look(wanted, old, Output(), may_build=False)
    (refused,) = (one for one in seen.findings if one.check == "calculator")
    assert (refused.level, refused.code) == ("fail", 5)
    for key in changed:
        assert (key if key == "align" else f"input.{key}") in refused.message
    with pytest.raises(PreflightError, match="cannot be compared") as caught:
        replace(seen, findings=(refused,)).raise_for()
    assert caught.value.code == 5


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"mean": (127.5, 127.5, 127.5)},
        {"similarity": (1.2, 5.0)},
        {"files": (ModelFile("own/mine.onnx", (SHA,), ("https://example.org/mine.onnx",)),)},
    ],
    ids=str,
)
def test_a_calculator_fed_as_before_is_not_refused(
    changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _ran(a_model(), tmp_path, monkeypatch)
    assert up_wanted.changed_input(_with(a_model(**changed)), old) == []


def test_a_record_that_does_not_say_how_its_calculator_is_fed_is_not_refused() -> None:
    wanted = _with(a_model(colour="bgr"))
    old = replace(record(PROCESS), calculator=wanted.calculator)
    unsaid: list[dict[str, Any]] = [{}, {"models": []}, {"models": [{"name": "mine"}]}]
    for known in unsaid:
        assert up_wanted.changed_input(wanted, replace(old, plan=known)) == []


def test_more_plugins_are_no_other_calculator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance of an older cf takes the new engine: nothing refuses it, and it is replaced."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    wanted = plan(launcher="process", services="core")
    before = replace(wanted, plugins=wanted.plugins[:2])
    old = replace(
        record(PROCESS),
        calculator=before.calculator,
        plan=before.as_dict(),
        digest=up_wanted.digest(before),
    )
    running.instances().save(replace(old, phase="stopped", deployment={}))
    read = running.instances().load("embedded")
    seen = up_wanted.look(wanted, read, Output(), may_build=False)
    assert not [one for one in seen.findings if one.check == "calculator"]
    assert up_wanted.digest(wanted) != old.digest


def test_a_detector_may_be_fed_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = a_model(name="found", role="detector", size=None, align=None, similarity=None)
    both = replace(_with(a_model()), detector="yunet.FaceDetector@found")
    old = replace(
        _ran(a_model(), tmp_path, monkeypatch),
        plan=replace(both, models=(found, a_model())).as_dict(),
    )
    corrected = replace(both, models=(replace(found, colour="bgr"), a_model()))
    assert up_wanted.changed_input(corrected, old) == []
