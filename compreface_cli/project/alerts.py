"""The alert rules of an instance, as data: what Prometheus loads, and a chart's PrometheusRule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compreface_cli.plan.plan import Plan

RUNBOOK = "docs/monitoring.md"
# Upper bounds of `compreface_request_seconds`; at one of them a quantile is exact.
_BOUNDS_S = (0.25, 0.5, 1, 2.5, 5, 10, 30)
_API_THREADS = 200  # of the api's Tomcat: so many requests it sends at once
_REFUSED = "queue|wait|memory|pictures|out_of_memory|rate"  # not: stopping, key, ...


@dataclass(frozen=True, slots=True)
class Commands:
    """What shows the engines and their logs on a target, and how many there should be."""

    engines: str
    logs: str
    more: str  # how to run more engines


@dataclass(frozen=True, slots=True)
class _Alert:
    name: str
    expression: str
    lasts: str
    severity: str
    summary: str
    description: str


def groups(
    plan: Plan,
    commands: Commands,
    *,
    instance: str | None = None,
    replicas: int | str | None = None,
) -> list[dict[str, Any]]:
    """The rule groups, as Prometheus' rule files and a PrometheusRule have them.

    `instance` and `replicas` replace the plan's: a chart puts its own expressions there.
    """
    name = plan.instance if instance is None else instance
    engines = plan.replicas if replicas is None else replicas
    return [
        {
            "name": f"compreface {name}",
            "rules": [_rule(alert, name) for alert in _alerts(plan, commands, name, engines)],
        }
    ]


def slow_s(plan: Plan) -> float:
    """Seconds that 95 % of the answers should stay below: a tenth of the longest wait."""
    return max((bound for bound in _BOUNDS_S if bound <= plan.max_wait_s / 10), default=0.25)


def _rule(alert: _Alert, instance: str) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity, "cf_instance": instance},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook": f"{RUNBOOK}#{alert.name.lower()}",
        },
    }


def _alerts(plan: Plan, commands: Commands, name: str, engines: int | str) -> list[_Alert]:
    own = f'cf_instance="{name}"'
    posts = f'{own},method="POST"'
    computed = f'{own},route=~"/find_faces|/find_faces_base64|/scan_faces"'
    refused = f'{own},cause=~"{_REFUSED}"'
    started = f"process_start_time_seconds{{{own}}}"
    slow = slow_s(plan)
    api = _Alert(
        "CompreFaceApiBusy",
        f"sum(compreface_queue_length{{{own}}} + compreface_running{{{own}}})"
        f" > {_API_THREADS * 3 // 4}",
        "1m",
        "warning",
        f"{name}: the engines have {{{{ $value }}}} of the {_API_THREADS} requests of the api",
        f"Further requests wait in the api, where nothing shows them. {commands.more}",
    )
    return [
        _Alert(
            "CompreFaceNoEngine",
            f"(sum(up{{{own}}}) or vector(0)) == 0",
            "1m",
            "critical",
            f"{name}: no engine answers",
            "No photograph is recognised; or Prometheus' API key is not accepted (its page "
            f"Status, Targets says 401). See the engines: {commands.engines}; why one ended: "
            f"{commands.logs}",
        ),
        _Alert(
            "CompreFaceEngineGone",
            f"(sum(up{{{own}}}) > 0) < {engines}",
            "2m",
            "warning",
            f"{name}: {{{{ $value }}}} of {engines} engines answer",
            f"The others take its requests. See the engines: {commands.engines}; why one ended: "
            f"{commands.logs}",
        ),
        _Alert(
            "CompreFaceQueueFull",
            f"compreface_queue_length{{{own}}} > 0.75 * compreface_queue_limit{{{own}}}",
            "1m",
            "warning",
            f"{name}: {{{{ $value }}}} requests wait at {{{{ $labels.instance }}}}",
            "That is over three quarters of its queue; a request to a full one is refused. "
            f"{commands.more}",
        ),
        *([api] if plan.services == "full" else []),
        _Alert(
            "CompreFaceSlowAnswers",
            "histogram_quantile(0.95, sum by (le) "
            f"(rate(compreface_request_seconds_bucket{{{computed}}}[5m]))) > {slow:g}\n"
            f"and sum(increase(compreface_request_seconds_count{{{computed}}}[5m])) > 20",
            "2m",
            "warning",
            f"{name}: one answer in twenty takes over {{{{ $value | humanizeDuration }}}}",
            f"It should be {slow:g} s at most (a tenth of max_wait_s). The dashboard shows "
            f"whether they wait or compute. {commands.more}",
        ),
        _Alert(
            "CompreFaceRefusals",
            f"sum by (cause) (rate(compreface_refused_total{{{refused}}}[5m]))\n"
            f"  / scalar(sum(rate(compreface_requests_total{{{posts}}}[5m]))) > 0.01\n"
            f"and sum by (cause) (increase(compreface_refused_total{{{refused}}}[5m])) > 5",
            "2m",
            "warning",
            f"{name}: {{{{ $value | humanizePercentage }}}} of the photographs are refused "
            "({{ $labels.cause }})",
            "They were answered 503 (429 for the cause rate). The page in `runbook` has what "
            f"helps against each cause. The engines' logs: {commands.logs}",
        ),
        _Alert(
            "CompreFaceErrors",
            f'sum(increase(compreface_requests_total{{{own},status="500"}}[5m])) > 0',
            "1m",
            "warning",
            f"{name}: engines answered 500",
            "An answer 500 is a defect; the log has its traceback under the request's id: "
            f"{commands.logs}",
        ),
        # An engine that starts again at its address (Compose, Kubernetes), or at new ones (Swarm):
        # once all engines may have been replaced, and one more start may be chance.
        _Alert(
            "CompreFaceRestarts",
            f"max(changes({started}[15m])) > 2\n"
            f'or count(count_over_time(count_values("start", {started})[15m:15s]))'
            f" > 2 * {engines} + 1",
            "1m",
            "warning",
            f"{name}: engines start again and again",
            f"Why they end: {commands.logs} (exit code 5: a computation hung; 137: killed, mostly "
            "for memory)",
        ),
    ]


def text(rule_groups: list[dict[str, Any]]) -> str:
    """A rule file with these groups."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Writes a text of several lines as such."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def string(dumper: yaml.SafeDumper, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, string)
    document: Mapping[str, Any] = {"groups": rule_groups}
    return yaml.dump(document, Dumper=Dumper, sort_keys=False, width=4096, allow_unicode=True)
