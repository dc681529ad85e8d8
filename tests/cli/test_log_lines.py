"""Known messages of the services: each row of the tables by a line that a service really wrote."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from compreface_cli.checks import log_messages
from compreface_cli.checks.log_messages import Notes, known, reason
from compreface_cli.deploy import log_lines, reasons
from compreface_cli.errors import ConflictError, UnhealthyError, UsageError
from compreface_cli.instance.state import ServiceState
from tests.cli.log_lines import LINES
from tests.cli.names import assert_named

NOW = datetime(2026, 12, 31, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("service", "line", "id_"), LINES)
def test_a_line_that_was_really_written_is_known(service: str, line: str, id_: str) -> None:
    row = known(service, line)
    assert row is not None
    assert row.topic.id == id_


def test_every_row_of_the_tables_has_its_line() -> None:
    shown = {(service, id_) for service, _, id_ in LINES}
    for row in {row for rows in log_messages._OF.values() for row in rows}:
        assert any((service, row.topic.id) in shown for service in row.services), row


@pytest.mark.parametrize(
    ("service", "line"),
    [
        ("core", "compreface-engine: ready at http://0.0.0.0:3000"),
        ("core", "Collecting nvidia-cublas"),
        ("api", "Started TrainServiceApplication in 21.3 seconds"),
        ("postgres", "LOG:  database system is ready to accept connections"),
        ("fe", '172.18.0.1 - - "GET / HTTP/1.1" 200 1234'),
        ("unknown", "out of memory"),
    ],
)
def test_an_ordinary_line_is_not_known(service: str, line: str) -> None:
    assert known(service, line) is None


def test_the_kernels_word_counts_more_than_the_log_and_the_log_more_than_the_exit_code() -> None:
    lines = ["compreface-engine: CF_PORT=x: is no number", '{"severity": "INFO"}']
    killed = reason("core", lines, exit_code=137, out_of_memory=True)
    assert killed is not None
    assert killed.topic.id == "service-out-of-memory"
    refused = reason("core", lines, exit_code=137)
    assert refused is not None
    assert (refused.topic.id, refused.line) == ("engine-settings", lines[0])
    alone = reason("core", [], exit_code=132)
    assert alone is not None
    assert (alone.topic.id, alone.line) == ("cpu-instructions", "")
    assert reason("core", ["nothing known"], exit_code=3) is None


def test_a_service_without_a_limit_of_its_own_was_killed_and_not_for_memory() -> None:
    killed = reason("postgres", [], exit_code=137)
    assert killed is not None
    assert killed.topic.id == "service-killed"
    hungry = reason("postgres", [], exit_code=137, out_of_memory=True)
    assert hungry is not None
    assert hungry.topic.id == "service-out-of-memory"


def test_the_latest_line_that_ends_a_service_counts() -> None:
    lines = [
        "FileNotFoundError: [Errno 2] No such file or directory: 'x'",
        "[Errno 98] Address already in use",
        '{"message": "answered", "request": {"status": 503}}',
    ]
    found = reason("core", lines)
    assert found is not None
    assert found.error is ConflictError
    other = reason("core", lines[:1])
    assert other is not None
    assert other.error is UnhealthyError


def test_a_message_is_explained_once_for_each_service() -> None:
    notes, line = Notes("mine"), 'FATAL:  password authentication failed for user "postgres"'
    first = notes.on("admin", line)
    assert first is not None
    assert first.as_dict()["id"] == "database-password"
    assert_named(first.text, "admin", "[database-password]", first.next_step)
    assert notes.on("admin", line) is None
    assert notes.on("api", line) is not None
    stuck = notes.on("admin", "Waiting for changelog lock....")
    assert stuck is not None
    assert "mine" in stuck.next_step
    assert notes.on("core", "all is well") is None


def test_a_line_of_compose_names_its_service() -> None:
    assert log_lines.of_service("compreface-postgres-db-1  | a | b") == ("postgres", "a | b")
    assert log_lines.of_service("compreface-api-1 | ") == ("api", "")
    assert log_lines.of_service("no prefix", "fe") == ("fe", "no prefix")


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("10m", NOW - timedelta(minutes=10)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        ("2026-12-31T09:30:00Z", datetime(2026, 12, 31, 9, 30, tzinfo=UTC)),
        ("2026-12-31T09:30:00", datetime(2026, 12, 31, 9, 30, tzinfo=UTC)),
        ("2026-12-31", datetime(2026, 12, 31, tzinfo=UTC)),
    ],
)
def test_a_time_is_named_by_its_distance_or_itself(text: str, time: datetime) -> None:
    assert log_lines.since(text, NOW) == time


@pytest.mark.parametrize("text", ["", "10", "-1m", "1y", "yesterday", "99999999999999d", "1e9h"])
def test_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        log_lines.since(text, NOW)
    assert_named(refused.value.message, "--since")


def state(now: str, *, restarts: int = 0, ago_s: float = 5.0) -> ServiceState:
    since = (NOW - timedelta(seconds=ago_s)).isoformat()
    return ServiceState("core", now, restarts=restarts, since=since)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("service", "loops"),
    [
        (state("restarting"), True),
        (state("running", restarts=2), True),
        (state("starting", restarts=5), True),
        (state("running", restarts=1), False),
        (state("running", restarts=5, ago_s=3600), False),
        (state("failed", restarts=5), False),
        (ServiceState("core", "running", restarts=3), False),
    ],
)
def test_a_service_that_ends_again_and_again_is_told_from_one_that_did_once(
    service: ServiceState, loops: bool
) -> None:
    assert reasons.crash_loops(service, NOW) is loops
