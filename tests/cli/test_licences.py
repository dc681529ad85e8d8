"""Weights that are not free for commercial use are fetched only after their terms are accepted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.config import paths
from compreface_cli.errors import FetchError
from compreface_cli.models import consent
from compreface_cli.models.licence import Terms
from tests.cli.fetched_build import WEIGHTS, at_a_terminal, write
from tests.cli.in_process import Cf, in_folder
from tests.cli.local_cf import LocalCf
from tests.cli.lying_server import Answer, LyingServer, lying_server
from tests.cli.names import assert_named


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with lying_server([Answer(WEIGHTS)]) as server:
        yield server


@pytest.mark.parametrize(
    "command",
    [
        ("render", "-o", "out"),
        ("up", "--launcher", "process", "--port", "auto"),
    ],
)
def test_without_a_terminal_the_run_ends_before_anything_is_fetched(
    cf: Cf, tmp_path: Path, server: LyingServer, command: tuple[str, ...]
) -> None:
    build = write(tmp_path, f"{server.url}/m.onnx")
    ended = cf(*command, build)
    assert ended.code == 9
    assert_named(ended.err, "my-model", "research only", "--accept-licence my-model")
    error = cf(*command, build, "--json").document["error"]
    assert error["details"]["licences"] == {
        "my-model": {
            "licence": "research only",
            "commercial": "excluded",
            "reason": "its publisher says so",
        }
    }
    assert server.requests == []
    assert not (tmp_path / "out").exists()
    assert not consent.path().exists()
    assert not (paths.data_dir() / "engine-env").exists()


def test_terms_that_are_not_known_are_unclear(cf: Cf, tmp_path: Path, server: LyingServer) -> None:
    build = write(tmp_path, f"{server.url}/m.onnx", terms="")
    error = cf("render", "-o", "out", build, "--json").document["error"]
    assert error["details"]["licences"]["my-model"]["commercial"] == "unclear"


def test_a_flag_for_another_model_is_refused_and_a_setting_is_not(
    cf: Cf, tmp_path: Path, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = write(tmp_path, f"{server.url}/m.onnx")
    ended = cf("render", "-o", "out", build, "--accept-licence", "yours")
    assert ended.code == 2
    assert_named(ended.err, "yours", "my-model")
    monkeypatch.setenv("CF_ACCEPT_LICENCE", "yours,theirs")
    ended = cf("render", "-o", "out", build)
    assert ended.code == 9
    assert_named(ended.err, "my-model")


def test_a_dry_run_names_the_terms_and_asks_nothing(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    build = write(tmp_path, f"{server.url}/m.onnx")
    flags = ("up", build, "--launcher", "process", "--port", "auto", "--dry-run")
    findings = cf(*flags, "--json").document["findings"]
    (said,) = [finding for finding in findings if finding["check"] == "licence"]
    assert_named(said["message"], "my-model", "research only")
    assert_named(said["hint"], "--accept-licence my-model")
    done = cf(*flags, "--accept-licence", "my-model", "--json").document
    assert [each for each in done["findings"] if each["check"] == "licence"] == []
    assert server.requests == []
    assert not consent.path().exists()


def test_the_embedded_build_asks_nothing(cf: Cf) -> None:
    flags = ("up", "embedded", "--launcher", "process", "--port", "auto", "--dry-run", "--json")
    assert [f for f in cf(*flags).document["findings"] if f["check"] == "licence"] == []


def _render(local_cf: LocalCf, *more: str, exit_code: int = 0, **env: str) -> dict[str, Any]:
    return local_cf.json(
        "render", "mine.yaml", "-o", "out", "--services", "core", *more, exit_code=exit_code, **env
    )


def _forget_files(local_cf: LocalCf) -> None:
    shutil.rmtree(local_cf.data / "models")
    shutil.rmtree(local_cf.root / "cache")


@pytest.mark.slow
def test_accepted_terms_are_recorded_and_asked_about_again_only_if_they_change(
    local_cf: LocalCf, server: LyingServer
) -> None:
    write(local_cf.root, f"{server.url}/m.onnx")
    _render(local_cf, "--accept-licence", "my-model")
    record = json.loads((local_cf.state / "accepted-licences.json").read_text())["my-model"]
    assert record["terms"]["licence"] == "research only"
    assert_named(record["how"], "--accept-licence")
    assert record["when"].endswith("+00:00")

    write(local_cf.root, f"{server.url}/m.onnx", terms="{weights: other, commercial: excluded}")
    _render(local_cf)  # it is prepared, so nothing is fetched
    _forget_files(local_cf)
    changed = _render(local_cf, exit_code=9)["error"]
    assert changed["details"]["licences"]["my-model"]["licence"] == "other"

    write(local_cf.root, f"{server.url}/m.onnx")
    _render(local_cf)
    assert len(server.requests) == 2


@pytest.mark.slow
def test_terms_that_allow_commercial_use_are_not_asked_about(
    local_cf: LocalCf, server: LyingServer
) -> None:
    write(local_cf.root, f"{server.url}/m.onnx", terms="{weights: ours, commercial: allowed}")
    _render(local_cf)
    assert len(server.requests) == 1
    assert not (local_cf.state / "accepted-licences.json").exists()


@pytest.mark.slow
def test_a_setting_accepts_all(local_cf: LocalCf, server: LyingServer) -> None:
    write(local_cf.root, f"{server.url}/m.onnx")
    _render(local_cf, CF_ACCEPT_LICENCE="all")
    record = json.loads((local_cf.state / "accepted-licences.json").read_text())["my-model"]
    assert_named(record["how"], "CF_ACCEPT_LICENCE")


@pytest.mark.slow
def test_a_file_in_a_mirror_folder_is_not_asked_about(local_cf: LocalCf) -> None:
    write(local_cf.root, "http://127.0.0.1:9/m.onnx")
    file = local_cf.root / "mirror" / "own" / "my-model.onnx"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"another file")
    mirror = str(local_cf.root / "mirror")
    refused = _render(local_cf, exit_code=9, CF_MODELS_MIRROR=mirror)["error"]
    assert "licences" in refused["details"]  # the right one would be fetched
    file.write_bytes(WEIGHTS)
    _render(local_cf, CF_MODELS_MIRROR=mirror)
    assert not (local_cf.state / "accepted-licences.json").exists()


@pytest.mark.slow
def test_at_a_terminal_it_asks_once(local_cf: LocalCf, server: LyingServer) -> None:
    write(local_cf.root, f"{server.url}/m.onnx")
    command = ("render", "mine.yaml", "-o", "out", "--services", "core")
    for typed in ("\n", "no\n", "\x04"):
        code, seen = at_a_terminal(local_cf, *command, typed=typed, question="[y/N]")
        assert code == 9
        assert_named(seen, "my-model", "research only")
    assert server.requests == []
    assert not (local_cf.state / "accepted-licences.json").exists()
    code, seen = at_a_terminal(local_cf, *command, typed="y\n", question="[y/N]")
    assert (code, len(server.requests)) == (0, 1)
    _forget_files(local_cf)
    code, seen = at_a_terminal(local_cf, *command, typed="n\n", question="[y/N]")
    assert (code, "[y/N]" in seen) == (0, False)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    record = tmp_path / "accepted-licences.json"
    terms = {"m": Terms("L", "excluded", "R")}
    for content in ("{", "[]", '{"m": []}'):
        record.write_text(content)
        with pytest.raises(FetchError) as caught:
            consent.due(terms, record)
        assert_named(caught.value.message, record)
    assert consent.due({"m": Terms("L", "allowed", "")}, record) == {}


def test_terms_of_several_runs_are_kept_side_by_side(tmp_path: Path) -> None:
    record = tmp_path / "state" / "accepted-licences.json"
    first, second = Terms("L", "excluded", "R"), Terms("L", "unclear", "R")
    consent.keep({"a": first}, "a flag", record)
    consent.keep({"b": second}, "a terminal", record)
    assert consent.due({"a": first, "b": second, "c": first}, record) == {"c": first}
    assert set(consent.due({"a": second}, record)) == {"a"}
    assert [path.name for path in record.parent.iterdir()] == [record.name]


def test_an_export_with_models_asks_too(cf: Cf, tmp_path: Path, server: LyingServer) -> None:
    build = write(tmp_path, f"{server.url}/m.onnx")
    export = ("export", build, "-o", "mine.cf.tar")
    assert cf(*export).code == 0  # nothing is fetched
    ended = cf(*export, "--with-models", "--force")
    assert ended.code == 9
    assert_named(ended.err, "my-model", "--accept-licence my-model")
    assert server.requests == []
    done = cf(*export, "--with-models", "--force", "--accept-licence", "my-model")
    assert (done.code, len(server.requests)) == (0, 1)
