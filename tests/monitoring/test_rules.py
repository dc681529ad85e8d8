"""Every alert on synthetic series: it fires, just below its threshold it does not, it resolves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compreface_cli.project import monitoring
from tests.cli.test_monitoring import needs_promtool, promtool, written
from tests.cli.test_render import plan

pytestmark = needs_promtool

STEP_S = 15
OWN = 'cf_instance="faces"'
ROUTE = f'{OWN},instance="a",route="/find_faces"'


@dataclass(frozen=True)
class Case:
    """Series in promtool's notation, and the state of the alert at some seconds; "": none."""

    alert: str
    series: Mapping[str, str]
    states: Mapping[int, str]
    severity: str = "warning"
    labels: str = ""


def up(a: str, b: str) -> dict[str, str]:
    return {f'up{{{OWN},instance="a"}}': a, f'up{{{OWN},instance="b"}}': b}


def gauges(name: str, a: str, b: str) -> dict[str, str]:
    return {
        f'compreface_{name}{{{OWN},instance="a"}}': a,
        f'compreface_{name}{{{OWN},instance="b"}}': b,
    }


def answers(first: tuple[int, int], then: tuple[int, int] = (0, 0)) -> dict[str, str]:
    """Answers in 5 s, and answers of any time, for 10 minutes; then others for 15."""
    within, every = (f"0+{a}x40 {a * 40 + b}+{b}x60" for a, b in zip(first, then, strict=True))
    bucket = "compreface_request_seconds_bucket"
    return {
        f'{bucket}{{{ROUTE},le="5"}}': within,
        f'{bucket}{{{ROUTE},le="10"}}': every,
        f'{bucket}{{{ROUTE},le="+Inf"}}': every,
        f"compreface_request_seconds_count{{{ROUTE}}}": every,
    }


def refusals(requests: int, refused: str, cause: str = "queue") -> dict[str, str]:
    return {
        f'compreface_requests_total{{{ROUTE},method="POST",status="200"}}': f"0+{requests}x100",
        f'compreface_refused_total{{{OWN},instance="a",cause="{cause}"}}': refused,
    }


def starts(*each: str) -> dict[str, str]:
    return {
        f'process_start_time_seconds{{{OWN},instance="{number}"}}': values
        for number, values in enumerate(each)
    }


# of two engines of a full stack
FIRES = [
    Case(
        "CompreFaceNoEngine",
        up("1x8 0x20 1x20", "1x8 0x20 1x20"),
        {120: "", 135: "pending", 180: "pending", 195: "firing", 435: "firing", 450: ""},
        severity="critical",
    ),
    Case(
        "CompreFaceNoEngine",  # the name resolves to nothing, or was never there
        up("1x8 stale", "1x8 stale"),
        {120: "", 135: "pending", 195: "firing", 1200: "firing"},
        severity="critical",
    ),
    Case("CompreFaceNoEngine", {}, {0: "pending", 60: "firing"}, severity="critical"),
    Case(
        "CompreFaceEngineGone",
        up("1x100", "1x8 stale stale _x20 1x60"),
        {120: "", 135: "pending", 240: "pending", 255: "firing", 450: "firing", 465: ""},
    ),
    Case("CompreFaceEngineGone", up("1x100", "1x8 0x100"), {135: "pending", 255: "firing"}),
    Case(
        "CompreFaceQueueFull",
        gauges("queue_length", "193x10 192x10", "0x20") | gauges("queue_limit", "256x20", "256x20"),
        {0: "pending", 45: "pending", 60: "firing", 150: "firing", 165: ""},
        labels=',instance="a"',
    ),
    Case(
        "CompreFaceApiBusy",
        gauges("queue_length", "75x10 74x10", "74x20") | gauges("running", "1x20", "1x20"),
        {0: "pending", 45: "pending", 60: "firing", 150: "firing", 165: ""},
    ),
    Case(
        "CompreFaceSlowAnswers",
        answers((94, 100), then=(100, 100)),
        {30: "pending", 120: "pending", 180: "firing", 600: "firing", 960: ""},
    ),
    *(
        Case(
            "CompreFaceRefusals",
            refusals(100, "0+2x40 80x60", cause),
            {60: "pending", 210: "firing", 600: "firing", 960: ""},
            labels=f',cause="{cause}"',
        )
        for cause in ("queue", "wait", "memory", "pictures", "out_of_memory", "rate")
    ),
    Case(
        "CompreFaceErrors",
        {f'compreface_requests_total{{{ROUTE},method="POST",status="500"}}': "0x20 1x60"},
        {300: "", 315: "pending", 390: "firing", 585: "firing", 630: ""},
    ),
    Case(
        "CompreFaceRestarts",  # at one address
        starts("10x4 100x4 200x4 300x100", "10x112"),
        {165: "", 225: "pending", 300: "firing", 900: "firing", 1100: ""},
    ),
    Case(
        "CompreFaceRestarts",  # each at a new address
        starts(
            "10x100",
            "11x4 stale",
            "_x5 100x4 stale",
            "_x10 200x4 stale",
            "_x15 300x4 stale",
            "_x20 400x80",
        ),
        {285: "", 315: "pending", 390: "firing", 900: "firing", 1140: ""},
    ),
]

QUIET = [
    Case("CompreFaceNoEngine", up("0x100", "1x100"), {}, severity="critical"),
    Case("CompreFaceEngineGone", up("1x40", "1x40"), {}),
    Case("CompreFaceEngineGone", up("0x40", "0x40"), {}),  # which is another alert
    Case(
        "CompreFaceQueueFull",
        gauges("queue_length", "192x40", "0x40") | gauges("queue_limit", "256x40", "256x40"),
        {},
    ),
    Case(
        "CompreFaceQueueFull",  # without a queue none is full
        gauges("queue_length", "0x40", "0x40") | gauges("queue_limit", "0x40", "0x40"),
        {},
    ),
    Case(
        "CompreFaceApiBusy",
        gauges("queue_length", "74x40", "74x40") | gauges("running", "1x40", "1x40"),
        {},
    ),
    Case("CompreFaceSlowAnswers", answers((95, 100), then=(95, 100)), {}),
    Case("CompreFaceSlowAnswers", answers((0, 1), then=(0, 1)), {}),  # too few to judge
    Case("CompreFaceRefusals", refusals(101, "0+1x100"), {}),
    Case("CompreFaceRefusals", refusals(10, "0x10 5x90"), {}),  # five in all
    *(
        Case("CompreFaceRefusals", refusals(100, "0+50x100", cause), {})
        for cause in ("stopping", "key", "malformed", "head", "connections")
    ),
    Case(
        "CompreFaceErrors",
        {f'compreface_requests_total{{{ROUTE},method="POST",status="503"}}': "0+9x80"},
        {},
    ),
    Case("CompreFaceRestarts", starts("10x4 100x4 200x100", "10x4 100x4 200x100"), {}),
    Case(
        "CompreFaceRestarts",  # all engines replaced, and one more start
        starts("10x4 stale", "11x4 stale", "_x5 100x100", "_x6 200x2 stale", "_x10 300x90"),
        {},
    ),
]


def _test(case: Case) -> dict[str, Any]:
    series = f'ALERTS{{alertname="{case.alert}",severity="{case.severity}",{OWN}{case.labels}'
    tests = []
    for seconds, state in (case.states or dict.fromkeys(range(0, 1500, 60), "")).items():
        expected = [{"labels": f'{series},alertstate="{state}"}}', "value": 1}] if state else []
        query = f'ALERTS{{alertname="{case.alert}"}}'
        tests.append({"expr": query, "eval_time": f"{seconds}s", "exp_samples": expected})
    inputs = [{"series": name, "values": values} for name, values in case.series.items()]
    other = [{**each, "series": each["series"].replace("faces", "others", 1)} for each in inputs]
    # The same of another instance changes nothing where this one is quiet.
    return {
        "name": f"{case.alert} {'fires' if case.states else 'is quiet'}",
        "interval": f"{STEP_S}s",
        "input_series": inputs if case.states else inputs + other,
        "promql_expr_test": tests,
    }


def check(cases: list[Case], folder: Path) -> None:
    written(folder, instance="faces", replicas=2)
    document = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": f"{STEP_S}s",
        "tests": [_test(case) for case in cases],
    }
    (folder / "tests.yml").write_text(yaml.safe_dump(document), "utf-8")
    promtool("test", "rules", folder / "tests.yml")


def test_each_fires_and_resolves(tmp_path: Path) -> None:
    check(FIRES, tmp_path)


def test_just_below_its_threshold_none_fires(tmp_path: Path) -> None:
    check(QUIET, tmp_path)


def test_no_alert_is_without_both() -> None:
    text = str(monitoring.files(plan(), "compose")["monitoring/alerts.yml"])
    names = {rule["alert"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]}
    assert {case.alert for case in FIRES} == {case.alert for case in QUIET} == names


def test_the_rules_of_another_instance_are_quiet(tmp_path: Path) -> None:
    """Series that would make every alert of one instance fire leave those of another alone."""
    quiet = [
        Case(case.alert, {name.replace("faces", "other"): v for name, v in case.series.items()}, {})
        for case in FIRES
        if case.alert != "CompreFaceNoEngine"
    ]
    check(quiet, tmp_path)
