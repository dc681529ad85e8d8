"""`cf models`: what is on this machine, fetched, verified, found and removed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from compreface_cli.config import paths
from compreface_cli.models.files import locked
from tests.cli.fetched_build import DIGEST, WEIGHTS, add_optional, at_a_terminal, write
from tests.cli.in_process import Cf, in_folder
from tests.cli.local_cf import LocalCf, eventually
from tests.cli.lying_server import Answer, LyingServer, lying_server
from tests.cli.names import assert_named
from tests.cli.test_removal import record

MINE = ("models", "pull", "./mine.yaml", "--accept-licence", "my-model")


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with lying_server([Answer(WEIGHTS)]) as server:
        yield server


@pytest.fixture
def build(local_cf: LocalCf, server: LyingServer) -> str:
    """The build `mine` among those that a name finds."""
    folder = local_cf.root / "builds"
    folder.mkdir()
    return write(folder, f"{server.url}/m.onnx")


def test_an_empty_machine_has_no_models(cf: Cf) -> None:
    assert cf("models", "list", "--json").document["models"] == []
    assert_named(cf("models", "list").out, "cf models list --all")
    assert cf("models", "verify", "--json").document["verified"] == []
    assert cf("models", "prune", "--json").document["removed"] == []


def test_all_models_are_listed_with_their_builds_and_terms(cf: Cf) -> None:
    rows = {row["name"]: row for row in cf("models", "list", "--all", "--json").document["models"]}
    facenet = rows["20180402-114759"]
    assert "facenet" in facenet["builds"]
    assert (facenet["state"], facenet["folder"]) == ("absent", None)
    assert (facenet["bytes"]["prepared"], facenet["bytes"]["downloaded"]) == (0, 0)
    assert facenet["terms"]["commercial"] == "unclear"
    assert rows["adaface_ir_18"]["builds"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "names"),
    [
        (("path", "w600k_mbf"), 9, ("w600k_mbf", "cf models pull w600k_mbf")),
        (("path", "nobody"), 3, ("nobody", "cf models list --all")),
        (("pull", "w600k_mbff"), 3, ("w600k_mbff", "w600k_mbf", "cf models list --all")),
        (("pull", "scrfd-w600k"), 3, ("scrfd-w600k", "buffalo-s")),
        (("pull", "w600k_mbf"), 9, ("w600k_mbf", "--accept-licence w600k_mbf")),
        (("pull", "w600k_mbf", "--accept-licence", "mine"), 2, ("mine",)),
        (("verify", "w600k_mbf"), 2, ("w600k_mbf", "cf models pull w600k_mbf")),
    ],
)
def test_what_cannot_be_done_names_the_next_command(
    cf: Cf, arguments: tuple[str, ...], code: int, names: tuple[str, ...]
) -> None:
    ended = cf("models", *arguments)
    assert ended.code == code
    assert_named(ended.err, *names)
    assert not paths.data_dir().exists()


def test_a_build_without_models_needs_none(cf: Cf) -> None:
    assert cf("models", "pull", "embedded", "--json").document["models"] == []


@pytest.mark.slow
def test_a_model_is_pulled_listed_verified_and_found(
    local_cf: LocalCf, build: str, server: LyingServer
) -> None:
    done = local_cf.json("models", "pull", "mine", "--accept-licence", "all")
    (pulled,) = done["models"]
    (download,) = done["downloads"]
    assert (download["models"], download["files"]) == (["my-model"], ["own/my-model.onnx"])
    folder = local_cf.data / "models" / "my-model"
    assert pulled == {"name": "my-model", "folder": str(folder), "was_here": False}
    assert local_cf.json("models", "pull", "mine")["models"][0]["was_here"]
    assert len(server.requests) == 1

    (row,) = local_cf.json("models", "list")["models"]
    assert (row["name"], row["builds"], row["state"]) == ("my-model", ["mine"], "prepared")
    assert row["bytes"]["downloaded"] == len(WEIGHTS)
    assert row["terms"]["licence"] == "research only"
    assert row["sources"] == [f"{server.url}/m.onnx"]
    assert local_cf.run("models", "path", "my-model").stdout.strip() == str(folder)
    assert {each["state"] for each in local_cf.json("models", "verify")["verified"]} == {"intact"}
    assert local_cf.json("models", "prune", "--yes")["removed"] == []
    wide = [line for line in local_cf.run("models", "list").stdout.splitlines() if len(line) > 80]
    assert wide == []


@pytest.mark.slow
def test_a_model_with_a_fallback_may_be_missing(local_cf: LocalCf, build: str) -> None:
    add_optional(build)
    done = local_cf.run("models", "pull", "mine", "--accept-licence", "all", "--json")
    assert done.returncode == 0
    assert [model["name"] for model in json.loads(done.stdout)["models"]] == ["my-model"]
    assert_named(done.stderr, "warning", "years")


@pytest.mark.slow
def test_damage_is_reported_and_repaired_by_the_command_that_is_named(
    local_cf: LocalCf, build: str, server: LyingServer
) -> None:
    local_cf.json("models", "pull", "mine", "--accept-licence", "all")
    network = local_cf.data / "models" / "my-model" / "model.onnx"
    download = local_cf.root / "cache" / "compreface-cli" / "weights" / "my-model" / "my-model.onnx"
    for file in (network, download):
        data = bytearray(file.read_bytes())
        data[100] ^= 1
        file.write_bytes(data)
    done = local_cf.run("models", "verify", "my-model")
    assert done.returncode == 9
    assert_named(
        done.stdout, network.parent, download, "cf models pull my-model", "cf models prune"
    )
    rows = local_cf.json("models", "verify", exit_code=9)["verified"]
    assert [row["state"] for row in rows] == ["damaged", "damaged"]

    assert [one["name"] for one in local_cf.json("models", "prune", "--yes")["removed"]] == [
        str(download)
    ]
    local_cf.json("models", "pull", "my-model")
    assert len(server.requests) == 2
    assert {each["state"] for each in local_cf.json("models", "verify")["verified"]} == {"intact"}


@pytest.mark.slow
def test_an_interrupted_pull_is_resumed(local_cf: LocalCf, build: str, server: LyingServer) -> None:
    half = len(WEIGHTS) // 2
    server.script[:] = [Answer(WEIGHTS, stall_after=half), Answer(WEIGHTS)]
    process = local_cf.start("models", "pull", "mine", "--accept-licence", "all")
    part = (
        local_cf.root / "cache" / "compreface-cli" / "weights" / "my-model" / "my-model.onnx.part"
    )
    assert eventually(lambda: part.exists() and part.stat().st_size >= half - 65536)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 130
    kept = part.stat().st_size
    (row,) = local_cf.json("models", "list")["models"]
    assert row["state"] == "partial"
    local_cf.json("models", "pull", "mine")
    assert server.requests[-1]["range"] == f"bytes={kept}-"


@pytest.mark.slow
def test_two_pulls_at_once_fetch_each_file_once(
    local_cf: LocalCf, build: str, server: LyingServer
) -> None:
    both = [local_cf.start("models", "pull", "mine", "--accept-licence", "all") for _ in range(2)]
    ended = [process.communicate(timeout=280) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert len(server.requests) == 1


@pytest.mark.slow
def test_a_pull_asks_at_a_terminal(local_cf: LocalCf, build: str, server: LyingServer) -> None:
    code, seen = at_a_terminal(local_cf, "models", "pull", "mine", typed="y\n", question="[y/N]")
    assert code == 0, seen
    assert_named(seen, "my-model", "research only")


def test_a_pull_of_a_file_with_another_hash_leaves_no_model(
    cf: Cf, tmp_path: Path, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, f"{server.url}/m.onnx", sha256="0" * 64)
    ended = cf(*MINE, "--json")
    assert ended.code == 9
    assert_named(ended.document["error"]["message"], DIGEST)
    assert not list(paths.models_dir().glob("*"))


def _lay(*folders: Path) -> None:
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(bytes(200_000))


def test_an_archive_that_was_not_unpacked_to_the_end_is_pruned(cf: Cf) -> None:
    archives = paths.cache_dir() / "weights" / ".fetching"
    left, used = archives / "0123", archives / "4567"
    _lay(left / "archive", used / "archive")
    with locked(used, note=print):  # another cf unpacks it
        (removed,) = cf("models", "prune", "--json", "--yes").document["removed"]
    assert (removed["name"], left.exists(), used.exists()) == (str(left), False, True)


def test_a_layer_whose_download_was_cut_off_is_pruned(cf: Cf, tmp_path: Path) -> None:
    folder = paths.cache_dir() / "layers"
    folder.mkdir(parents=True)
    for name in ("a.layer.part", "a.layer.part.json", "b.layer", "c.layer.part"):
        (folder / name).write_bytes(b"half")
    with locked(folder / "c.layer", note=print):  # another cf downloads it
        removed = cf("models", "prune", "--json", "--yes").document["removed"]
    assert {Path(row["name"]).name for row in removed} == {
        "a.layer.part", "a.layer.part.json", "b.layer"
    }  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["c.layer.part"]


def test_only_models_that_nothing_needs_are_pruned(cf: Cf, tmp_path: Path) -> None:
    models, weights = paths.models_dir(), paths.cache_dir() / "weights"
    wanted = "20180402-114759"  # of the build facenet
    _lay(models / "old", weights / "old", models / wanted, weights / wanted, models / "of-instance")
    environment = paths.engine_environments_dir() / "0123456789abcdef"
    _lay(environment)
    (weights / wanted / "20180402-114759.pb.part").write_bytes(bytes(100_000))
    (weights / wanted / "20180402-114759.pb.part.json").write_text("{}")
    record(plan={"models": [{"name": "of-instance"}]})  # type: ignore[arg-type]
    gone = [
        str(weights / wanted / "20180402-114759.pb.part"),
        str(weights / wanted / "20180402-114759.pb.part.json"),
        str(models / "old"),
        str(weights / "old"),
    ]

    def names(*arguments: str) -> list[str]:
        done = cf("models", "prune", "--json", *arguments).document
        return [thing["name"] for thing in done["removed"]]

    assert cf("models", "prune").code == 2
    assert names("--dry-run") == gone
    with locked(models / "old", note=print):  # another cf prepares it
        assert names("--dry-run") == gone[:2]
    assert names("--yes") == gone
    assert names("--yes") == []
    left = [models / wanted, weights / wanted, models / "of-instance", environment]
    assert all(path.is_dir() for path in left)


def test_nothing_is_unused_while_a_record_cannot_be_read(cf: Cf) -> None:
    _lay(paths.models_dir() / "old")
    home = record()
    (home / "instance.json").write_text("{")
    assert cf("models", "prune", "--json", "--yes").document["removed"] == []
    shutil.rmtree(home)
    assert len(cf("models", "prune", "--json", "--yes").document["removed"]) == 1
