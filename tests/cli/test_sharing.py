"""`cf export` and `cf import`: a build is the same elsewhere, and is never trusted silently."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from compreface_cli import __version__, resources
from compreface_cli.builds import builds, imported
from compreface_cli.config import paths
from compreface_cli.errors import Interruption
from compreface_cli.models import accepted, proofs, store
from compreface_cli.plan.resolve import plan_of
from compreface_cli.sharing import archive
from tests.cli.build_files import build_data, model_entry, plain_data, write
from tests.cli.in_process import Cf, in_folder
from tests.cli.lying_server import Answer, lying_server
from tests.cli.names import assert_named

WEIGHTS = b"weights" * 1000
SHA = hashlib.sha256(WEIGHTS).hexdigest()
OTHER = "cd" * 32
SOURCE = "https://models.example/my-model.onnx"


@pytest.fixture
def cf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cf:
    return in_folder(tmp_path, monkeypatch, capsys)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes this machine another one: an empty home, and a working folder without builds."""

    def move() -> None:
        (tmp_path / "there").mkdir()
        monkeypatch.chdir(tmp_path / "there")
        for name in ("data", "state", "config", "cache"):
            monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path / "there" / name))

    return move


def own_build(folder: Path, *, sha256: Any = SHA, sources: Any = (), **changes: Any) -> Path:
    """A build with a model of its own, which lies beside it."""
    files = [{"path": "nets/my-model.onnx", "sha256": sha256, "sources": list(sources)}]
    path = write(folder, build_data(models=[model_entry(files=files)], **changes))
    (folder / "nets").mkdir(exist_ok=True)
    (folder / "nets" / "my-model.onnx").write_bytes(WEIGHTS)
    return path


def nothing_kept() -> bool:
    home = paths.imported_builds()
    return not home.is_dir() or list(home.iterdir()) == []


def test_a_build_is_the_same_one_on_another_machine(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    text = own_build(tmp_path / "builds", sources=[SOURCE]).read_text()
    file = tmp_path / "my-build.cf.tar"
    done = cf("export", "my-build", "-o", str(file), "--json")
    assert done.code == 0, done.err
    assert done.document["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert done.document["files"] == []
    first = file.read_bytes()
    assert cf("export", "my-build", "-o", str(file)).code == 4
    assert cf("export", "my-build", "-o", str(file), "--force").code == 0
    assert file.read_bytes() == first

    elsewhere()
    assert cf("import", str(file)).code == 2
    assert nothing_kept()
    kept = cf("import", str(file), "--yes", "--json", "--sha256", done.document["sha256"])
    assert kept.code == 0, kept.out + kept.err
    document = kept.document
    assert (document["build"], document["origin"]) == ("my-build", "imported")
    assert (document["from"], document["written_by"]) == (str(file), __version__)
    assert document["accepted"] == {}
    model = document["models"][0]
    assert (model["name"], model["licence"]["commercial"]) == ("my-model", "unclear")
    assert model["files"][0]["sources"] == [SOURCE]
    assert model["files"][0]["sha256"] == [SHA]

    loaded = builds.load("my-build")
    assert (loaded.origin, loaded.path.read_text()) == ("imported", text)
    assert imported.read(loaded.path).sha256 == done.document["sha256"]
    shown = cf("show", "my-build", "--json").document
    assert shown["origin"] == "imported"
    listed = cf("list-builds", "--json", "--commercial-unclear").document["builds"]
    assert [row["origin"] for row in listed if row["name"] == "my-build"] == ["imported"]
    removed = cf("rm", "--build", "my-build", "--confirm", "my-build")
    assert removed.code == 0, removed.err
    assert nothing_kept()


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in resources.builds_dir().glob("*.yaml"))
)
def test_every_bundled_build_can_be_exported_and_imported(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None], name: str
) -> None:
    file = tmp_path / "bundled.cf.tar"
    assert cf("export", name, "-o", str(file)).code == 0
    before = builds.load(name)
    elsewhere()
    kept = cf("import", str(file), "--yes", "--name", "of-another", "--json")
    assert kept.code == 0, kept.out
    assert kept.document["accepted"] == {}
    after = builds.load("of-another")
    assert kept.document["fallbacks"] == after.spec.fallbacks
    for plugin, other in after.spec.fallbacks.items():
        assert_named(kept.err, plugin, other or "nothing")
    assert after.spec == before.spec.model_copy(update={"name": "of-another"})
    assert plan_of(after).models == plan_of(before).models


def test_what_is_offered_is_shown_before_it_is_kept(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    own_build(
        tmp_path / "builds",
        sources=[SOURCE],
        base_image="other/python:3",
        facts={"licence": {"weights": "ours alone", "commercial": "excluded", "reason": "why not"}},
    )
    file = tmp_path / "my-build.cf.tar"
    assert cf("export", "my-build", "-o", str(file), "--with-models").code == 0
    elsewhere()
    said = cf("import", str(file)).err
    assert_named(said, "my-build", __version__, SHA, SOURCE, "other/python:3")
    assert_named(said, "nets/my-model.onnx", f"{len(WEIGHTS)} bytes", "ours alone", "why not")
    assert_named(said, "embedded.FaceDetector@mtcnn", "custom.Calculator@my-model", "--yes")
    assert nothing_kept()


def test_no_text_of_the_sender_begins_a_line_of_what_is_shown(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    forged = "ours\u202e\nKeep it as the build x? [y/N] y"
    own_build(
        tmp_path / "builds",
        summary=forged,
        facts={"licence": {"weights": forged, "commercial": "unclear", "reason": forged}},
    )
    file = tmp_path / "my-build.cf.tar"
    assert cf("export", "my-build", "-o", str(file), "--with-models").code == 0
    elsewhere()
    for flags in ((), ("--accept-licence", "all")):
        shown = cf("import", str(file), "--yes", *flags).err
        assert "\\u202e\\nKeep it" in shown
        assert "\u202e" not in shown
        assert not [line for line in shown.splitlines() if line.strip().startswith("Keep it")]


def test_models_inside_need_no_network(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    own_build(tmp_path / "builds")
    file = tmp_path / "my-build.cf.tar"
    done = cf("export", "my-build", "-o", str(file), "--with-models", "--json").document
    assert done["files"] == [{"path": "nets/my-model.onnx", "sha256": SHA, "bytes": len(WEIGHTS)}]
    elsewhere()
    flags = ("--yes", "--accept-licence", "my-model")
    refused = cf("import", str(file), "--yes", "--name", "office", "--json")
    assert refused.code == 9  # its terms are unclear
    assert list(refused.document["error"]["details"]["licences"]) == ["my-model"]
    assert nothing_kept()
    assert cf("import", str(file), *flags, "--name", "office").code == 0
    loaded = builds.load("office")
    assert loaded.spec.name == "office"
    model = plan_of(loaded).models[0]
    assert store.obtainable(model)
    assert (Path(model.build_folder) / "nets" / "my-model.onnx").read_bytes() == WEIGHTS
    assert imported.read(loaded.path).build == "my-build"


def test_a_hash_that_the_sender_accepted_counts_for_that_build_once_the_user_agrees(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    own_build(tmp_path / "builds", sha256=None, sources=[SOURCE])
    file = tmp_path / "my-build.cf.tar"
    assert cf("export", "my-build", "-o", str(file), "--with-models").code == 9  # not accepted here
    accepted.record(store.Places().accepted, "my-model", [SHA])
    assert cf("export", "my-build", "-o", str(file), "--with-models").code == 0

    elsewhere()
    answers = iter(["y", "y", "n"])
    monkeypatch.setattr("compreface_cli.terminal.output.Output.ask", lambda *_: next(answers))
    assert cf("import", str(file)).code == 0
    assert plan_of("my-build").models[0].files[0].sha256 == ()
    assert imported.read(builds.find("my-build")[1]).accepted == {}

    kept = cf("import", str(file), "--force", "--yes", "--json").document
    assert kept["accepted"] == {"my-model": {"nets/my-model.onnx": SHA}}
    assert kept["models"][0]["files"][0]["senders_by"] == "user"
    assert plan_of("my-build").models[0].files[0].sha256 == (SHA,)
    assert accepted.read(store.Places().accepted) == {}  # of other builds it says nothing


def test_a_name_that_exists_is_refused(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    write(tmp_path / "builds", plain_data())
    file = tmp_path / "plain.cf.tar"
    assert cf("export", "plain", "-o", str(file)).code == 0
    elsewhere()
    own = write(paths.user_builds(), plain_data())
    for flags in ((), ("--force",)):
        refused = cf("import", str(file), "--yes", "--json", *flags)
        assert refused.code == 4
        assert refused.document["error"]["details"] == {"build": "plain", "origin": "user"}
    own.unlink()
    assert cf("import", str(file), "--yes").code == 0
    before = builds.find("plain")
    again = cf("import", str(file), "--yes", "--json")
    assert again.code == 4
    assert_named(again.document["error"]["hint"], "--name", "--force")
    assert cf("import", str(file), "--yes", "--force").code == 0
    assert builds.find("plain") == before
    bundled = cf("import", str(file), "--yes", "--name", "embedded", "--json").document["error"]
    assert bundled["details"]["origin"] == "bundled"
    assert cf("import", str(file), "--yes", "--name", "Not A Name").code == 2


def test_an_answer_of_no_keeps_nothing(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "builds", plain_data())
    file = tmp_path / "plain.cf.tar"
    assert cf("export", "plain", "-o", str(file)).code == 0
    elsewhere()
    monkeypatch.setattr("compreface_cli.terminal.output.Output.ask", lambda *_: "")
    assert cf("import", str(file)).code == 2
    assert nothing_kept()


def test_an_address_is_downloaded_and_pinned(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    write(tmp_path / "builds", plain_data())
    file = tmp_path / "plain.cf.tar"
    digest = cf("export", "plain", "-o", str(file), "--json").document["sha256"]
    elsewhere()
    with lying_server([Answer(file.read_bytes())]) as server:
        refused = cf("import", f"{server.url}/plain.cf.tar", "--yes", "--sha256", OTHER, "--json")
        assert refused.code == 9
        assert_named(refused.document["error"]["message"], OTHER, digest)
        assert nothing_kept()
        secret = server.url.replace("http://", "http://me:secret@") + "/plain.cf.tar?token=secret"
        kept = cf("import", secret, "--yes", "--sha256", digest, "--json")
        assert kept.code == 0, kept.err
        assert "secret" not in kept.out + kept.err
        assert "secret" not in imported.read(builds.find("plain")[1]).source
    for answer in (Answer(b"", status=404), Answer(b"<html>", content_type="text/html")):
        with lying_server([answer]) as server:
            assert cf("import", f"{server.url}/x", "--yes", "--name", "other").code == 9
    assert "other" not in builds.names()
    assert cf("import", "ftp://host/x", "--yes").code == 2
    assert cf("import", str(file), "--sha256", "abc").code == 2
    assert cf("import", str(file), "--yes", "--name", "o", "--sha256", OTHER).code == 9


# --- files that are no export, or not one for this machine ----------------------------------------


def made(
    folder: Path,
    *,
    build: Any = None,
    manifest: Mapping[str, Any] | bytes | None = None,
    files: Mapping[str, bytes] | None = None,
    listed: Mapping[str, bytes] | None = None,
    name: str = "plain",
    **changes: Any,
) -> Path:
    """An export with these parts; `listed`: other files than it has; `changes` of its manifest."""
    data = build if isinstance(build, bytes) else yaml.safe_dump(build or plain_data()).encode()
    inside = {
        path: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        for path, content in ((files or {}) if listed is None else listed).items()
    }
    described = {
        "format": 1, "cf": "9.9", "build": name, "models": [], "files": inside, **changes,
    }  # fmt: skip
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest or described).encode()
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        parts = {archive.MANIFEST: text, archive.BUILD: data}
        parts |= {f"models/{path}": content for path, content in sorted((files or {}).items())}
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    path = folder / "given.cf.tar"
    path.write_bytes(stream.getvalue())
    return path


def shared_model(**changes: Any) -> dict[str, Any]:
    entry = model_entry(files=[{"path": "nets/my-model.onnx", "sha256": [SHA]}])
    return {"entry": entry, "known_from": "build", "hashes": {}, **changes}


OWN = build_data(models=[model_entry(files=[{"path": "nets/my-model.onnx", "sha256": SHA}])])
BAD: Mapping[str, tuple[int, dict[str, Any]]] = {
    "no manifest": (3, {"manifest": b"nothing"}),
    "deep manifest": (3, {"manifest": b"[" * 100_000}),
    "duplicate keys": (3, {"manifest": b'{"format": 1, "format": 1}'}),
    "a list": (3, {"manifest": b"[1]"}),
    "not utf-8": (3, {"manifest": b'{"format": "\xff"}'}),
    "another format": (3, {"format": 2}),
    "a key too many": (3, {"more": 1}),
    "a build of another name": (3, {"name": "other"}),
    "no YAML": (3, {"build": b"a: [b"}),
    "no text": (3, {"build": b"\xff\xfe\x00"}),
    "YAML with a tag": (3, {"build": b"!!python/object/apply:os.system [id]"}),
    "YAML that multiplies": (3, {"build": b"a: &a [1,1]\n" + b"".join(
        b"%c: &%c [*%c,*%c,*%c,*%c]\n" % (c, c, c - 1, c - 1, c - 1, c - 1) for c in range(98, 120)
    )}),
    "another schema": (3, {"build": plain_data(schema=2)}),
    "an unknown plugin": (3, {"build": plain_data(detector="future.Detector")}),
    "an unknown model": (3, {"build": plain_data(calculator="insightface.Calculator@future")}),
    "a model it does not describe": (3, {"build": OWN, "name": "my-build"}),
    "another model of that name": (3, {"build": OWN, "name": "my-build", "models": [
        shared_model(entry=model_entry(files=[{"path": "other.onnx"}]))
    ]}),
    "a file it does not list": (9, {"files": {"a.onnx": b"a"}, "listed": {}}),
    "a file of no model": (9, {"files": {"a.onnx": b"a"}}),
    "another file than the model's": (9, {
        "build": OWN, "name": "my-build", "models": [shared_model()],
        "files": {"nets/my-model.onnx": b"a"},
    }),
    "another file than it lists": (9, {
        "build": OWN, "name": "my-build", "models": [shared_model()],
        "files": {"nets/my-model.onnx": b"a"},
        "listed": {"nets/my-model.onnx": WEIGHTS},
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_and_leaves_nothing(cf: Cf, tmp_path: Path, name: str) -> None:
    code, parts = BAD[name]
    file = made(tmp_path, **parts)
    refused = cf("import", str(file), "--yes", "--json")
    assert refused.code == code, refused.out
    assert_named(refused.document["error"]["message"], str(file))
    assert nothing_kept()


def test_a_build_of_a_newer_cf_says_so(cf: Cf, tmp_path: Path) -> None:
    file = made(tmp_path, build=plain_data(detector="future.Detector"))
    error = cf("import", str(file), "--yes", "--json").document["error"]
    assert_named(error["message"], "future.Detector")
    assert_named(error["hint"], "9.9", __version__)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: None])
def test_what_is_no_file_is_refused(cf: Cf, tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "given")
    assert cf("import", str(tmp_path / "given"), "--yes").code == 3
    assert nothing_kept()


def test_a_cut_file_leaves_nothing(cf: Cf, tmp_path: Path) -> None:
    file = made(tmp_path)
    whole = file.read_bytes()
    for length in (0, 100, 512, 1500, len(whole) // 2):
        file.write_bytes(whole[:length])
        assert cf("import", str(file), "--yes").code == 3
    assert nothing_kept()


def test_an_export_is_whole_or_not_there(cf: Cf, tmp_path: Path) -> None:
    own_build(tmp_path / "builds", sha256=OTHER)
    for target, code in {"out.tar": 9, ".": 3, "no/out.tar": 3}.items():
        assert cf("export", "my-build", "-o", target, "--with-models").code == code
    assert {path.name for path in tmp_path.iterdir()} <= {"builds", "home"}
    assert cf("export", "no-such-build", "-o", "out.tar").code == 3


def test_a_damaged_record_of_an_import_is_named(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    write(tmp_path / "builds", plain_data())
    file = tmp_path / "plain.cf.tar"
    assert cf("export", "plain", "-o", str(file)).code == 0
    elsewhere()
    assert cf("import", str(file), "--yes").code == 0
    record = builds.find("plain")[1].with_name(imported.RECORD)
    for text in (
        "",
        "[]",
        '{"source": 1}',
        json.dumps({**json.loads(record.read_text()), "accepted": {"m": 1}}),
    ):
        record.write_text(text)
        refused = cf("show", "plain", "--resolved", "--json")
        assert refused.code == 3
        assert_named(refused.document["error"]["message"], str(record))


def test_a_hash_that_a_digest_proved_elsewhere_is_the_senders_word_here(
    cf: Cf, tmp_path: Path, elsewhere: Callable[[], None]
) -> None:
    source = f"zip+https://models.example/pack.zip@sha256:{OTHER}/my-model.onnx"
    own_build(tmp_path / "builds", sha256=None, sources=[source])
    (tmp_path / "builds" / "nets" / "my-model.onnx").unlink()
    places = store.Places()
    fetched = places.weights / "my-model" / "my-model.onnx"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(WEIGHTS)
    proofs.record(places.proven, "my-model", "nets/my-model.onnx", source, SHA)
    file = tmp_path / "my-build.cf.tar"
    done = cf("export", "my-build", "-o", str(file), "--with-models")
    assert done.code == 0, done.err

    elsewhere()
    flags = ("--yes", "--accept-licence", "all")
    kept = cf("import", str(file), *flags, "--json").document
    (row,) = kept["models"][0]["files"]
    assert (row["senders_by"], row["senders_sha256"], row["sources"]) == ("source", SHA, [source])
    (model,) = plan_of("my-build").models
    assert store.lies_here(model, store.Places())


@pytest.mark.parametrize(
    ("failure", "code"),
    [(OSError(errno.ENOSPC, "No space left on device"), 9), (Interruption("SIGTERM"), 130)],
)
def test_an_import_that_fails_midway_leaves_what_was_there(
    cf: Cf,
    tmp_path: Path,
    elsewhere: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    failure: BaseException,
    code: int,
) -> None:
    own_build(tmp_path / "builds")
    file = tmp_path / "my-build.cf.tar"
    assert cf("export", "my-build", "-o", str(file), "--with-models").code == 0
    elsewhere()
    flags = ("--yes", "--accept-licence", "all")

    def failing(*_: object) -> None:
        raise failure

    for earlier in (False, True):
        if earlier:
            assert cf("import", str(file), *flags).code == 0
        before = sorted(paths.imported_builds().rglob("*"))
        with monkeypatch.context() as patch:
            patch.setattr("compreface_cli.sharing.keep._swap", failing)
            assert cf("import", str(file), *flags, "--force").code == code
        assert sorted(paths.imported_builds().rglob("*")) == before
