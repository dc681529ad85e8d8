"""`cf models pull -o DIR` makes a mirror, from which a machine without a network needs no more."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.models import vouched
from tests.cli.fetched_build import DIGEST, WEIGHTS, add_optional, write
from tests.cli.in_process import Cf, in_folder
from tests.cli.local_cf import LocalCf
from tests.cli.lying_registry import Member, image, lying_registry, tar
from tests.cli.lying_server import Answer, LyingServer, lying_server
from tests.cli.names import assert_named
from tests.shared import ROOT

FILE = "own/my-model.onnx"
ALL = ("--accept-licence", "all")


def _zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pack/network.onnx", WEIGHTS)
    return packed.getvalue()


ZIP = _zipped()
ZIP_DIGEST = hashlib.sha256(ZIP).hexdigest()


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def server() -> Iterator[LyingServer]:
    with lying_server([Answer(WEIGHTS)]) as server:
        yield server


@pytest.fixture
def packed() -> Iterator[LyingServer]:
    with lying_server([Answer(ZIP)]) as server:
        yield server


def _build(folder: Path, server: LyingServer) -> str:
    return write(folder, f"{server.url}/m.onnx")


def _proven_build(folder: Path, server: LyingServer) -> str:
    """Its file has no hash but that of the archive."""
    source = f"zip+{server.url}/p.zip@sha256:{ZIP_DIGEST}/pack/network.onnx"
    return write(folder, source, sha256="null")


def _pull(cf: Cf, build: str, *more: str) -> dict[str, Any]:
    done = cf("models", "pull", build, "-o", "mirror", "--json", *ALL, *more)
    assert done.code == 0, done.out
    return done.document


def test_the_files_lie_under_their_paths_and_are_described(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    done = _pull(cf, _build(tmp_path, server))
    (file,) = done["files"]
    assert (file["path"], file["sha256"], file["proof"]) == (FILE, DIGEST, "published")
    assert (file["bytes"], done["bytes"], file["accept"]) == (len(WEIGHTS), len(WEIGHTS), None)
    mirror = tmp_path / "mirror"
    assert (mirror / FILE).read_bytes() == WEIGHTS
    listed = json.loads((mirror / "models.json").read_text())["models"]["my-model"]
    assert listed["terms"]["licence"] == "research only"
    assert_named(listed["accepted"]["how"], "--accept-licence")
    assert listed["files"][FILE]["sources"] == [f"{server.url}/m.onnx"]
    assert sorted(path.name for path in mirror.iterdir()) == ["models.json", "own"]
    assert not list((tmp_path / "home" / "data" / "compreface-cli" / "models").iterdir())


def test_what_is_there_is_not_fetched_again(cf: Cf, tmp_path: Path, server: LyingServer) -> None:
    build = _build(tmp_path, server)
    _pull(cf, build)
    shutil.rmtree(tmp_path / "home")
    done = cf("models", "pull", build, "-o", "mirror", "--json")  # no terms are asked about either
    assert done.document["files"][0]["was_there"]
    assert len(server.requests) == 1
    (tmp_path / "mirror" / FILE).write_bytes(b"damaged")
    assert not _pull(cf, build)["files"][0]["was_there"]
    assert (tmp_path / "mirror" / FILE).read_bytes() == WEIGHTS


def test_a_second_build_is_added(cf: Cf, tmp_path: Path, server: LyingServer) -> None:
    _pull(cf, _build(tmp_path, server))
    other = tmp_path / "other"
    other.mkdir()
    text = Path(write(other, f"{server.url}/m.onnx")).read_text()
    (other / "mine.yaml").write_text(text.replace("my-model", "second"))
    _pull(cf, str(other / "mine.yaml"))
    models = json.loads((tmp_path / "mirror" / "models.json").read_text())["models"]
    assert list(models) == ["my-model", "second"]


def test_terms_are_asked_about_before_the_folder_is_made(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    ended = cf("models", "pull", _build(tmp_path, server), "-o", "mirror")
    assert ended.code == 9
    assert_named(ended.err, "my-model", "--accept-licence my-model")
    assert server.requests == []
    assert not (tmp_path / "mirror").exists()


@pytest.mark.slow
def test_a_model_with_a_fallback_is_left_out_where_no_source_delivers_it(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    build = _build(tmp_path, server)
    add_optional(build)
    ended = cf("models", "pull", build, "-o", "mirror", *ALL)
    assert ended.code == 0
    assert_named(ended.err, "warning", "years", "127.0.0.1:9")
    models = json.loads((tmp_path / "mirror" / "models.json").read_text())["models"]
    assert list(models) == ["my-model"]
    assert_named(ended.out, "--accept-licence years")


def test_the_printed_command_is_one_that_a_shell_takes(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    build = _build(tmp_path, server)
    said = cf("models", "pull", build, "-o", "a mirror", *ALL).out
    (line,) = (line for line in said.splitlines() if "CF_MODELS_MIRROR=" in line)
    assert shlex.split(line)[0] == f"CF_MODELS_MIRROR={tmp_path / 'a mirror'}"


def test_a_file_in_place_of_the_folder_is_named(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    (tmp_path / "mirror").write_text("")
    ended = cf("models", "pull", _build(tmp_path, server), "-o", "mirror", *ALL)
    assert ended.code == 3
    assert_named(ended.err, "mirror", "-o DIR")


def test_an_accepted_hash_is_named_for_the_other_machine(
    cf: Cf, tmp_path: Path, server: LyingServer
) -> None:
    build = write(tmp_path, f"{server.url}/m.onnx", sha256="null")
    accept = f"my-model={DIGEST}"
    assert cf("models", "pull", build, "-o", "mirror", *ALL).code == 9
    (file,) = _pull(cf, build, "--accept-hash", accept)["files"]
    assert (file["proof"], file["accept"]) == ("accepted", f"--accept-hash {accept}")
    said = cf("models", "pull", build, "-o", "mirror", *ALL, "--accept-hash", accept).out
    assert_named(said, "CF_MODELS_MIRROR=", f"cf up {build}", f"--accept-hash {accept}")


@pytest.mark.slow
def test_two_runs_at_once_make_one_whole_mirror(tmp_path: Path, server: LyingServer) -> None:
    build = _build(tmp_path, server)
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "compreface_cli.cli", "models", "pull", build, "-o", "m", *ALL],
            cwd=tmp_path,
            env={**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    ended = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ended
    assert len(server.requests) == 1
    assert (tmp_path / "m" / FILE).read_bytes() == WEIGHTS


def test_a_full_disk_leaves_no_half_file(cf: Cf, tmp_path: Path, server: LyingServer) -> None:
    """The mirror is on a disk of 1 MB, in a mount namespace of its own."""
    _pull(cf, _build(tmp_path, server))  # to the cache
    (tmp_path / "small").mkdir()
    inside = "mount -t tmpfs -o size=1m none small && shift 0 && " + " ".join(
        (sys.executable, "-m", "compreface_cli.cli", "models", "pull", "mine.yaml", "-o", "small")
    )
    listing = f"{inside}; code=$?; find small -type f; exit $code"
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", listing],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 9, done.stderr
    assert_named(done.stderr, "my-model.onnx", "small")
    assert done.stdout == ""


@contextmanager
def _served(folder: Path, kind: str) -> Iterator[str]:
    """The build file whose model a server has, as long as the block lasts."""
    if kind == "image":
        path = "app/ml/.models/network.onnx"
        with lying_registry() as registry:
            made = image(tar(Member(path, WEIGHTS)))
            at = registry.reference(made)
            source = f"oci://{at.registry}/{at.repository}@{at.digest}/{path}"
            yield write(folder, source, sha256="null")
        return
    with lying_server([Answer(WEIGHTS if kind == "file" else ZIP)]) as server:
        yield _build(folder, server) if kind == "file" else _proven_build(folder, server)


def _elsewhere(local_cf: LocalCf) -> None:
    """Another machine: nothing of this one's data is there but the engine's environment."""
    for folder in (local_cf.data / "models", local_cf.state, local_cf.root / "cache"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["file", "zip", "image"])
def test_a_machine_without_a_network_needs_nothing_else(local_cf: LocalCf, kind: str) -> None:
    with _served(local_cf.root, kind) as build:
        (file,) = local_cf.json("models", "pull", build, "-o", "mirror", *ALL)["files"]
    assert file["proof"] == ("published" if kind == "file" else "digest")
    _elsewhere(local_cf)  # the server is gone: its port refuses connections
    mirror = str(local_cf.root / "mirror")
    refused = local_cf.json("models", "pull", build, *ALL, exit_code=9)["error"]
    assert_named(refused["message"], "my-model")
    _elsewhere(local_cf)
    up = ("up", build, "--launcher", "process", "--port", "auto")
    assert local_cf.json(*up, CF_MODELS_MIRROR=mirror)["change"] == "started"
    assert not (local_cf.state / "accepted-licences.json").exists()
    assert {each["state"] for each in local_cf.json("models", "verify")["verified"]} == {"intact"}
    (row,) = local_cf.json("models", "list")["models"]
    assert (row["state"], row["sources"]) == ("prepared", [f"{mirror}/{FILE}"])
    shutil.rmtree(local_cf.root / "mirror")  # what it proves is held here from now on
    local_cf.json("models", "path", "my-model")
    assert local_cf.json(*up)["change"] == "already running"
    local_cf.run("down", "mine")


def test_a_mirror_of_a_mirror_keeps_what_proves_a_file(
    cf: Cf, tmp_path: Path, packed: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = _proven_build(tmp_path, packed)
    _pull(cf, build)
    shutil.rmtree(tmp_path / "home")
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path / "mirror"))
    done = cf("models", "pull", build, "-o", "second", "--json").document
    assert done["files"][0]["proof"] == "digest"
    proven = [
        json.loads((tmp_path / m / "proven-hashes.json").read_text()) for m in ("mirror", "second")
    ]
    assert proven[0] == proven[1]
    assert len(packed.requests) == 1


@pytest.mark.slow
def test_a_changed_file_in_a_mirror_is_refused(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lying_server([Answer(ZIP)]) as server:
        build = _proven_build(tmp_path, server)
        _pull(cf, build)
    shutil.rmtree(tmp_path / "home")
    (tmp_path / "mirror" / FILE).write_bytes(b"another network")
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path / "mirror"))
    ended = cf("models", "pull", build, *ALL)
    assert ended.code == 9
    assert_named(ended.err, tmp_path / "mirror" / FILE, DIGEST)  # the right hash, of the mirror
    assert "--accept-hash" not in ended.err
    assert not (tmp_path / "home" / "data" / "compreface-cli" / "models" / "my-model").exists()


def test_a_damaged_file_in_a_mirror_is_named_before_terms_are_asked_about(
    cf: Cf, tmp_path: Path, server: LyingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = _build(tmp_path, server)
    (tmp_path / "mirror" / FILE).parent.mkdir(parents=True)
    (tmp_path / "mirror" / FILE).write_bytes(b"damaged")
    monkeypatch.setenv("CF_MODELS_MIRROR", str(tmp_path / "mirror"))
    ended = cf("up", build, "--launcher", "process", "--port", "auto")
    assert ended.code == 9
    assert_named(ended.err, tmp_path / "mirror" / FILE, DIGEST)
    assert ended.err.count(DIGEST) == 1
    assert server.requests == []


@contextmanager
def _at_an_address(folder: Path) -> Iterator[str]:
    """The folder, served by a web server."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("damaged", [False, True])
def test_a_mirror_at_an_address_proves_its_files_as_a_folder_does(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool
) -> None:
    with lying_server([Answer(ZIP)]) as server:
        build = _proven_build(tmp_path, server)
        _pull(cf, build)
    shutil.rmtree(tmp_path / "home")
    if damaged:
        (tmp_path / "mirror" / FILE).write_bytes(b"another network")
    with _at_an_address(tmp_path / "mirror") as address:
        monkeypatch.setenv("CF_MODELS_MIRROR", address)
        done = cf("models", "pull", build, "-o", "second", "--json", *ALL)
    assert done.code == (9 if damaged else 0)
    if damaged:
        assert_named(done.document["error"]["message"], DIGEST)
        assert not (tmp_path / "second").exists()
    else:
        assert done.document["files"][0]["proof"] == "digest"
        assert (tmp_path / "second" / FILE).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    "record",
    [None, "[]", "{", '{"my-model": 1}', '{"my-model": {"a": 1}}', "[" * 100_000],
    ids=["none", "a list", "cut", "a number", "a number inside", "nested"],
)
def test_a_mirror_at_an_address_without_a_readable_record_proves_nothing(
    cf: Cf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record: str | None
) -> None:
    with lying_server([Answer(ZIP)]) as server:
        build = _proven_build(tmp_path, server)
        _pull(cf, build)
    shutil.rmtree(tmp_path / "home")
    proven = tmp_path / "mirror" / "proven-hashes.json"
    proven.unlink()
    if record:
        proven.write_text(record)
    with _at_an_address(tmp_path / "mirror") as address:
        monkeypatch.setenv("CF_MODELS_MIRROR", address)
        assert cf("models", "pull", build, "-o", "second", *ALL).code == 9


def test_a_mirror_whose_address_anybody_may_answer_proves_nothing() -> None:
    assert vouched.trusted("https://mirror.example/models")
    assert vouched.trusted("http://localhost:8000")
    assert not vouched.trusted("http://mirror.example/models")
    assert not vouched.trusted("/srv/mirror")
