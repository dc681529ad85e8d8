"""Bind addresses that other hosts can reach: a warning before the start, with a remedy."""

from __future__ import annotations

from typing import Any

import pytest

from compreface_cli import checks
from compreface_cli.checks import bind
from tests.cli.fake_facts import STACK, docker, facts, plan
from tests.cli.local_cf import LocalCf
from tests.cli.names import assert_named

KEYS = {"api_keys": "the-key-of-the-test"}


def bind_findings(**values: Any) -> list[checks.Finding]:
    findings = checks.preflight(plan(**values), facts(docker=docker()))
    return [finding for finding in findings if finding.check == bind.NAME]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_gives_no_finding(address: str) -> None:
    assert bind_findings(bind=address, services="core") == []


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7"])
def test_an_exposed_engine_without_keys_is_a_warning(address: str) -> None:
    origins = {"bind": "flag --bind"}
    for values in ({"services": "core", "launcher": "compose"}, {"launcher": "process"}):
        (finding,) = bind_findings(bind=address, origins=origins, **values)
        assert finding.level == "warn"
        assert_named(finding.message, f"bind: {address} (flag --bind)")
        assert_named(finding.hint, "CF_API_KEYS")


def test_an_exposed_engine_with_keys_gives_no_finding() -> None:
    assert bind_findings(bind="0.0.0.0", services="core", secrets=KEYS) == []


@pytest.mark.parametrize("opened", ["true", "false"])
def test_an_exposed_ui_is_a_warning_that_names_open_routes(opened: str) -> None:
    stack = {**STACK, "open_routes": opened}
    (finding,) = bind_findings(bind="0.0.0.0", services="full", launcher="compose", stack=stack)
    assert finding.level == "warn"
    assert_named(finding.message, "bind: 0.0.0.0")
    assert ("open_routes" in finding.message) == (opened == "true")
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
        (finding,) = [row for row in document["findings"] if row["check"] == bind.NAME]
        assert finding["level"] == "warn"
