"""The calculator: another one, or one that is fed otherwise, is refused on what an instance has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.checks import calculator
from compreface_cli.deploy import observe, running
from compreface_cli.instance.records import Record
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.plan.plan import Plan
from tests.cli.fake_facts import docker, facts, plan
from tests.cli.model_bench import SHA, a_model
from tests.cli.records import PROCESS, STACK, record


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
    read = store.load("mine")
    assert read is not None
    return read


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
def test_the_same_calculator_with_another_input_is_refused(
    changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _ran(a_model(), tmp_path, monkeypatch)
    wanted = _with(a_model(**changed))
    (refused,) = calculator.judge(wanted, facts(), old)
    assert (refused.check, refused.level, refused.code) == ("calculator", "fail", 5)
    for key in changed:
        assert (key if key == "align" else f"input.{key}") in refused.message


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
def test_a_calculator_with_the_same_input_is_not_refused(
    changed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = _ran(a_model(), tmp_path, monkeypatch)
    assert calculator.changed_input(_with(a_model(**changed)), old) == []


def test_a_record_without_the_calculators_input_is_not_refused() -> None:
    wanted = _with(a_model(colour="bgr"))
    old = replace(record(PROCESS), calculator=wanted.calculator)
    unsaid: list[dict[str, Any]] = [{}, {"models": []}, {"models": [{"name": "mine"}]}]
    for known in unsaid:
        assert calculator.changed_input(wanted, replace(old, plan=known)) == []


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
        digest=observe.digest(before),
    )
    running.instances().save(replace(old, phase="stopped", deployment={}))
    read = running.instances().load("embedded")
    assert read is not None
    assert list(calculator.judge(wanted, facts(), read)) == []
    assert observe.digest(wanted) != old.digest


def test_a_detector_may_have_another_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = a_model(name="other", role="detector", size=None, align=None, similarity=None)
    both = replace(_with(a_model()), detector="yunet.FaceDetector@other")
    old = replace(
        _ran(a_model(), tmp_path, monkeypatch),
        plan=replace(both, models=(detector, a_model())).as_dict(),
    )
    corrected = replace(both, models=(replace(detector, colour="bgr"), a_model()))
    assert calculator.changed_input(corrected, old) == []


def test_the_database_decides_about_another_calculator_if_it_can_be_read() -> None:
    wanted = plan(launcher="compose")
    assert list(calculator.judge(wanted, facts(docker=docker()), record(STACK))) == []
    (refused,) = calculator.judge(wanted, facts(docker=None), record(STACK))
    assert refused.code == 5
    assert "--volumes" in refused.hint
    (alone,) = calculator.judge(wanted, facts(docker=docker()), record(PROCESS))
    assert alone.code == 5
    assert "--volumes" not in alone.hint
