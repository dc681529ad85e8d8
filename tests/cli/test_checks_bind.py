"""Who may ask where the port is open to others: said before the start, with the way out."""

from __future__ import annotations

from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks import bind
from tests.cli.fake_facts import docker, facts, plan
from tests.cli.local_cf import LocalCf
from tests.cli.names import assert_named

KEYS = {"api_keys": "the-key-of-the-test"}


def said(**values: Any) -> list[checks.Finding]:
    found = checks.preflight(plan(**values), facts(docker=docker()))
    return [one for one in found if one.check == bind.NAME]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_nothing_is_said_of_loopback(address: str) -> None:
    assert said(bind=address, services="core") == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7"])
def test_an_engine_without_keys_that_others_reach_is_warned_of(address: str) -> None:
    origins = {"bind": "flag --bind"}
    for values in ({"services": "core", "launcher": "compose"}, {"launcher": "process"}):
        (finding,) = said(bind=address, origins=origins, **values)
        assert finding.level == "warn"
        assert_named(finding.message, f"bind: {address} (flag --bind)")
        assert_named(finding.hint, "CF_API_KEYS")


def test_with_keys_nothing_is_said() -> None:
    assert said(bind="0.0.0.0", services="core", secrets=KEYS) == []


def test_of_the_full_stack_the_ui_and_its_way_to_the_engine_are_warned_of() -> None:
    (finding,) = said(bind="0.0.0.0", services="full", launcher="compose")
    assert finding.level == "warn"
    assert_named(finding.message, "bind: 0.0.0.0", "/core/")
    assert "CF_API_KEYS" not in finding.hint


@pytest.mark.slow
def test_up_warns_on_stderr_and_in_json_each_time(local_cf: LocalCf) -> None:
    words = ("up", "--launcher", "process", "--port", "auto", "--json")
    asked = local_cf.run(*words, "--bind", "0.0.0.0", "--dry-run")
    assert asked.returncode == 0, asked.stderr
    assert_named(asked.stderr, "bind: 0.0.0.0", "CF_API_KEYS")
    for change in ("started", "already running"):
        document = local_cf.json(*words[:-1], "--bind", "0.0.0.0")
        assert document["change"] == change
        (finding,) = [one for one in document["findings"] if one["check"] == bind.NAME]
        assert finding["level"] == "warn"
