"""A fetched file is whole and right, or it is not there, whatever the server does."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compreface_cli.errors import ConflictError, FetchError
from compreface_cli.models.download import Limits, fetch, shown
from compreface_cli.models.files import locked
from tests.cli.lying_server import Answer, LyingServer, lying_server
from tests.cli.names import assert_named

BODY = bytes(range(256)) * 40
SHA = hashlib.sha256(BODY).hexdigest()
QUICK = Limits(connect_s=5, stall_s=0.3, total_s=20, tries=2, backoff_s=0.0, slow_bytes=4)


class Recorder:
    """Takes the notes and the progress of a fetch."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.total: float | None = None
        self.done = 0.0

    def note(self, text: str) -> None:
        self.notes.append(text)

    @contextmanager
    def progress(self, label: str, total: float | None = None) -> Iterator[Any]:
        self.total = total

        def advance(amount: float) -> None:
            self.done += amount

        yield advance


def get(urls: list[str], target: Path, sha256: tuple[str, ...] = (SHA,), **rest: Any) -> Recorder:
    recorder = Recorder()
    rest = {"limits": QUICK, **rest}
    fetch(urls, target, sha256=sha256, progress=recorder.progress, note=recorder.note, **rest)
    return recorder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "model.onnx"


def left_over(target: Path) -> list[str]:
    return sorted(p.name for p in target.parent.iterdir() if not p.name.startswith("."))


def serve_and_fail(script: list[Answer], target: Path, **rest: Any) -> tuple[str, LyingServer]:
    with lying_server(script) as server, pytest.raises(FetchError) as caught:
        get([server.url + "/model.onnx"], target, **rest)
    assert not target.exists()
    assert caught.value.hint is not None
    assert "model.onnx" in caught.value.message
    return caught.value.message, server


def test_a_file_from_an_honest_server_is_there_whole_and_alone(target: Path) -> None:
    with lying_server([Answer(BODY)]) as server:
        recorder = get([server.url + "/model.onnx"], target)
    assert target.read_bytes() == BODY
    assert left_over(target) == ["model.onnx"]
    assert (recorder.done, recorder.total) == (len(BODY), len(BODY))


@pytest.mark.parametrize("framing", ["chunked", "close"])
def test_a_file_of_untold_length_is_taken_by_its_hash(target: Path, framing: str) -> None:
    with lying_server([Answer(BODY, framing=framing)]) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


def test_a_file_of_untold_length_and_hash_is_refused(target: Path) -> None:
    _, server = serve_and_fail([Answer(BODY, framing="close")], target, sha256=())
    assert len(server.requests) == 1


def test_a_right_file_is_not_fetched_again(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(BODY)
    with lying_server([Answer(b"", status=500)]) as server:
        get([server.url], target)
        assert server.requests == []


def test_a_wrong_file_of_that_name_is_replaced(target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"old")
    with lying_server([Answer(BODY)]) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=8), etag=st.sampled_from(['"a"', None]))
@settings(max_examples=25, deadline=None)
def test_any_cut_points_give_the_same_file(cuts: list[int], etag: str | None) -> None:
    script = [Answer(BODY, etag=etag, cut_after=cut) for cut in cuts] + [Answer(BODY, etag=etag)]
    limits = Limits(stall_s=5, total_s=60, tries=20, backoff_s=0.0)
    with tempfile.TemporaryDirectory() as folder, lying_server(script) as server:
        recorder = get([server.url], Path(folder) / "model.onnx", limits=limits)
        assert (Path(folder) / "model.onnx").read_bytes() == BODY
        assert recorder.done == len(BODY)


def test_a_cut_transfer_is_resumed_by_range(target: Path) -> None:
    with lying_server([Answer(BODY, cut_after=4000), Answer(BODY)]) as server:
        get([server.url], target)
        assert server.requests[1]["range"] == "bytes=4000-"
        assert server.requests[1]["if-range"] == '"one"'


def test_a_part_of_an_earlier_run_is_resumed(target: Path) -> None:
    with lying_server([Answer(BODY, cut_after=3000), Answer(b"", status=404)]) as server:
        with pytest.raises(FetchError):
            get([server.url], target)
        assert left_over(target) == ["model.onnx.part", "model.onnx.part.json"]
        server.script[:] = [Answer(BODY)]
        get([server.url], target)
        assert server.requests[-1]["range"] == "bytes=3000-"
    assert left_over(target) == ["model.onnx"]


def test_a_part_from_another_address_is_not_resumed(target: Path) -> None:
    with lying_server([Answer(BODY, cut_after=3000), Answer(b"", status=404)]) as first:
        with pytest.raises(FetchError):
            get([first.url], target)
    with lying_server([Answer(BODY)]) as second:
        get([second.url], target)
        assert "range" not in second.requests[0]


def test_a_server_that_ignores_ranges_gives_the_file_from_the_start(target: Path) -> None:
    script = [Answer(BODY, cut_after=4000), Answer(BODY, ranges=False)]
    with lying_server(script) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


def test_a_file_that_changes_between_tries_is_not_mixed(target: Path) -> None:
    old = Answer(b"x" * len(BODY), etag='"old"', cut_after=4000)
    with lying_server([old, Answer(BODY, etag='"new"')]) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


def test_a_changed_file_is_noticed_on_a_server_that_ignores_if_range(target: Path) -> None:
    old = Answer(b"x" * len(BODY), etag='"old"', cut_after=4000)
    with lying_server([old, Answer(BODY, etag='"new"', checks_if_range=False)]) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


def test_a_changed_file_is_noticed_where_no_hash_would_tell(target: Path) -> None:
    old = Answer(b"x" * len(BODY), etag='"old"', cut_after=4000)
    with lying_server([old, Answer(BODY, etag='"new"', checks_if_range=False)]) as server:
        get([server.url], target, sha256=())
    assert target.read_bytes() == BODY


def test_a_mixed_file_without_etags_is_caught_by_its_hash_and_fetched_anew(target: Path) -> None:
    old = Answer(b"x" * len(BODY), etag=None, cut_after=4000)
    with lying_server([old, Answer(BODY, etag=None)]) as server:
        get([server.url], target)
        assert "range" not in server.requests[-1]
    assert target.read_bytes() == BODY


def test_without_hash_and_etag_nothing_is_resumed(target: Path) -> None:
    with lying_server([Answer(BODY, etag=None, cut_after=4000), Answer(BODY, etag=None)]) as server:
        get([server.url], target, sha256=())
        assert "range" not in server.requests[1]
    assert target.read_bytes() == BODY


def test_wrong_bytes_are_refused_with_both_hashes_and_leave_nothing(target: Path) -> None:
    wrong = b"y" * len(BODY)
    message, _ = serve_and_fail([Answer(wrong)], target)
    assert SHA in message
    assert hashlib.sha256(wrong).hexdigest() in message
    assert left_over(target) == []


def test_a_web_page_instead_of_weights_is_named_by_its_type(target: Path) -> None:
    page = Answer(b"<html>sign in</html>", content_type="text/html; charset=utf-8")
    _, server = serve_and_fail([page], target, sha256=())
    assert len(server.requests) == 1


def test_a_web_page_with_a_binary_content_type_is_detected_by_its_bytes(target: Path) -> None:
    page = Answer(b"\n <!DOCTYPE html><p>too large</p>")
    message, server = serve_and_fail([page], target)
    assert SHA not in message  # it is no file with a wrong hash
    assert len(server.requests) == 1


def test_a_stated_length_that_is_too_short_is_detected(target: Path) -> None:
    message, _ = serve_and_fail([Answer(BODY, declared=len(BODY) - 5)], target)
    assert SHA in message


def test_a_stated_length_that_is_too_long_is_detected(target: Path) -> None:
    serve_and_fail([Answer(BODY, declared=len(BODY) + 5)], target)


def test_a_stall_is_noticed_and_the_rest_is_resumed(target: Path) -> None:
    with lying_server([Answer(BODY, stall_after=2000), Answer(BODY)]) as server:
        get([server.url], target)
        assert server.requests[1]["range"] == "bytes=2000-"
    assert target.read_bytes() == BODY


def test_a_server_that_only_stalls_is_given_up(target: Path) -> None:
    message, server = serve_and_fail([Answer(BODY, stall_after=0)], target)
    assert_named(message, f"{QUICK.stall_s:g} s")
    assert len(server.requests) == QUICK.tries


def test_a_slow_drip_is_a_stall(target: Path) -> None:
    limits = Limits(stall_s=0.2, total_s=20, tries=1, backoff_s=0.0, slow_bytes=4096)
    with lying_server([Answer(BODY, drip_s=0.02), Answer(BODY)]) as server:
        recorder = get([server.url], target, limits=limits)
    assert [note for note in recorder.notes if "0.2 s" in note]


def test_the_whole_fetch_has_a_bound(target: Path) -> None:
    limits = Limits(stall_s=5, total_s=0.3, tries=1, backoff_s=0.0)
    message, _ = serve_and_fail([Answer(BODY, drip_s=0.02)], target, limits=limits)
    assert_named(message, "0.3 s")


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_passing_failure_is_tried_again(target: Path, status: int) -> None:
    with lying_server([Answer(b"", status=status), Answer(BODY)]) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


def test_retry_after_is_honoured_in_seconds_and_as_a_date(target: Path) -> None:
    pauses: list[float] = []
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    script = [
        Answer(b"", status=429, extra=(("Retry-After", "70"),)),
        Answer(b"", status=503, extra=(("Retry-After", later),)),
        Answer(b"", status=503, extra=(("Retry-After", "soon"),)),
        Answer(BODY),
    ]
    with lying_server(script) as server:
        recorder = get([server.url], target, limits=replace(QUICK, tries=9, total_s=900),
                       sleep=pauses.append)  # fmt: skip
    assert pauses == [70.0, pytest.approx(90, abs=3), 0.0]
    assert "70 s" in recorder.notes[0]


def test_a_server_that_asks_to_wait_too_long_is_given_up(target: Path) -> None:
    pauses: list[float] = []
    for_ever = Answer(b"", status=503, extra=(("Retry-After", "86400"),))
    message, server = serve_and_fail([for_ever], target, sleep=pauses.append)
    assert "86400 s" in message
    assert (len(server.requests), pauses) == (1, [])


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_lasting_failure_is_not_tried_again(target: Path, status: int) -> None:
    message, server = serve_and_fail([Answer(b"", status=status)], target)
    assert str(status) in message
    assert len(server.requests) == 1


def test_the_next_source_is_asked_when_one_fails(target: Path) -> None:
    with lying_server([Answer(b"", status=404)]) as bad, lying_server([Answer(BODY)]) as good:
        recorder = get([bad.url, good.url], target)
    assert target.read_bytes() == BODY
    assert any("404" in note for note in recorder.notes)


def test_a_server_that_is_not_there_is_named(target: Path) -> None:
    with lying_server([Answer(BODY)]) as server:
        url = server.url
    with pytest.raises(FetchError, match=url.removeprefix("http://")):
        get([url], target)


def test_a_redirect_is_followed(target: Path) -> None:
    with lying_server([Answer(b"", status=302, location="/there"), Answer(BODY)]) as server:
        get([server.url], target)
        assert server.requests[1]["path"] == "/there"


def test_a_redirect_loop_ends(target: Path) -> None:
    message, server = serve_and_fail([Answer(b"", status=302, location="/again")], target)
    assert_named(message, QUICK.redirects)
    assert len(server.requests) == QUICK.redirects + 1


def test_a_redirect_away_from_http_is_refused(target: Path) -> None:
    away = Answer(b"", status=302, location="ftp://127.0.0.1/model.onnx")
    message, _ = serve_and_fail([away], target)
    assert_named(message, "ftp")


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/x", "file:///etc/hostname", "model.onnx", ""])
def test_only_http_and_https_are_fetched(target: Path, url: str) -> None:
    with pytest.raises(FetchError, match="https"):
        get([url], target)


def test_a_range_that_the_server_no_longer_has_starts_over(target: Path) -> None:
    longer = Answer(BODY + b"tail", etag=None, cut_after=len(BODY) + 2)
    with lying_server([longer, Answer(BODY, etag=None)]) as server:
        get([server.url], target)
    assert target.read_bytes() == BODY


def test_a_packed_answer_is_refused(target: Path) -> None:
    packed = Answer(BODY, extra=(("Content-Encoding", "gzip"),))
    message, _ = serve_and_fail([packed], target)
    assert SHA not in message  # refused before it is fetched


def test_more_than_the_limit_is_refused_before_it_is_fetched(target: Path) -> None:
    message, _ = serve_and_fail([Answer(BODY)], target, limits=Limits(max_bytes=100))
    assert_named(message, len(BODY), 100)


def test_more_than_the_limit_is_refused_without_a_stated_length(target: Path) -> None:
    endless = Answer(BODY, framing="close")
    message, _ = serve_and_fail([endless], target, limits=Limits(max_bytes=100))
    assert_named(message, 100)
    assert left_over(target) == []


def test_no_source_at_all_says_how_to_give_the_file(target: Path) -> None:
    with pytest.raises(FetchError, match=r"model\.onnx") as caught:
        get([], target)
    assert_named(caught.value.hint, "CF_MODELS_MIRROR=")


def test_passwords_in_addresses_are_not_shown() -> None:
    assert shown("https://me:secret@host:8443/a/b?token=1") == "https://host:8443/a/b"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FetchError, match=str(tmp_path / "weights")):
        get(["http://127.0.0.1:9/x"], tmp_path / "weights" / "model.onnx")


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("not a folder")
    with pytest.raises(FetchError, match=str(tmp_path / "weights")):
        get(["http://127.0.0.1:9/x"], tmp_path / "weights" / "model.onnx")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_named(target: Path) -> None:
    target.parent.mkdir()
    target.with_name("model.onnx.part").symlink_to("/dev/full")
    with lying_server([Answer(BODY)]) as server:
        about = {"url": server.url, "validator": '"one"', "total": len(BODY)}
        target.with_name("model.onnx.part.json").write_text(json.dumps(about))
        with pytest.raises(FetchError) as caught:
            get([server.url], target)
    assert caught.value.code == 9
    assert_named(caught.value.message, target)


def test_a_lock_that_stays_taken_names_its_holder(target: Path) -> None:
    notes: list[str] = []
    with (
        locked(target, note=notes.append),
        pytest.raises(ConflictError, match=f"pid {os.getpid()},"),
        locked(target, note=notes.append, wait_s=0.3),
    ):
        raise AssertionError("two held one lock")
    assert [f"pid {os.getpid()}," in note for note in notes] == [True]


def test_wrong_bytes_are_reported_once_with_each_hash_once(target: Path) -> None:
    recorder = Recorder()
    wrong = b"wrong" * 9
    with lying_server([Answer(wrong)]) as server, pytest.raises(FetchError) as caught:
        fetch(
            [server.url + "/model.onnx"],
            target,
            sha256=(SHA, SHA),
            progress=recorder.progress,
            note=recorder.note,
            limits=QUICK,
        )
    told = "\n".join([*recorder.notes, caught.value.message])
    assert told.count(SHA) == 1
    assert told.count(hashlib.sha256(wrong).hexdigest()) == 1
