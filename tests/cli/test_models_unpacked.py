"""Files come out of archives, images and repositories, each archive or layer once, and are held."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from compreface_cli.errors import FetchError, UnreachableError
from compreface_cli.models import proofs, store
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.sources import Source
from tests.cli.lying_registry import LyingRegistry, Member, image, lying_registry, tar
from tests.cli.lying_server import Answer, LyingServer, lying_server
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model
from tests.cli.names import assert_named
from tests.cli.test_download import QUICK

OTHER = b"other weights" * 50
NOBODY = "https://127.0.0.1:9/m.onnx"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Bench(tmp_path)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packed(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"pack/{name}.onnx", data)
    return stream.getvalue()


PACK = packed(a=WEIGHTS, b=OTHER)


def in_pack(server: LyingServer, name: str, content: bytes = PACK) -> str:
    return f"zip+{server.url}/pack.zip@sha256:{sha(content)}/pack/{name}.onnx"


def of(name: str, *sources: str, sha256: tuple[str, ...] = ()) -> Model:
    return a_model(name=name, files=(ModelFile(f"own/{name}.onnx", sha256, sources),))


def left_over(bench: Bench) -> list[str]:
    """What remains of archives and layers."""
    return [path.name for path in store.unfinished(bench.places)]


def refused(bench: Bench, *models: Model, **rest: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        bench.ensure(*models, **{"limits": QUICK, **rest})
    return caught.value


# --- archives ---------------------------------------------------------------------------------


def test_the_members_of_an_archive_are_fetched_at_once_and_need_no_word(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        models = [of("a", in_pack(server, "a")), of("b", NOBODY, in_pack(server, "b"))]
        store.foresee(models, places=bench.places)
        bench.ensure(models[0], models[1], limits=QUICK)
        assert len(server.requests) == 1
    assert left_over(bench) == []
    assert not bench.places.accepted.exists()
    for model, data in zip(models, (WEIGHTS, OTHER), strict=True):
        assert store.state(model, bench.places, by_hash=True) == "here"
        assert proofs.known(model, model.files[0], bench.places) == (sha(data),)
    assert bench.conversions == 2


def test_a_model_of_two_members_downloads_the_archive_once(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        files = tuple(ModelFile(f"own/{n}.x", (), (in_pack(server, n),)) for n in ("a", "b"))
        bench.ensure(a_model(files=files))
        assert len(server.requests) == 1


def test_what_was_fetched_is_not_fetched_again(bench: Bench) -> None:
    with lying_server([Answer(PACK), Answer(b"", status=404)]) as server:
        model = of("a", in_pack(server, "a"))
        bench.ensure(model)
        bench.ensure(replace(model, size=96), limits=QUICK)
        assert len(server.requests) == 1
    assert bench.conversions == 2


def test_a_cut_archive_is_resumed_by_the_next_run(bench: Bench) -> None:
    with lying_server([Answer(PACK, cut_after=300), Answer(b"", status=404)]) as server:
        model = of("a", in_pack(server, "a"))
        assert isinstance(refused(bench, model), UnreachableError)
        assert left_over(bench) == [sha(PACK)[:32]]
        server.script[:] = [Answer(PACK)]
        bench.ensure(model)
        assert server.requests[-1]["range"] == "bytes=300-"
    assert left_over(bench) == []


def test_another_archive_is_refused_with_both_hashes(bench: Bench) -> None:
    wrong = packed(a=OTHER)
    with lying_server([Answer(wrong)]) as server:
        error = refused(bench, of("a", in_pack(server, "a")))
    assert_named(error.message, sha(wrong), sha(PACK), "pack/a.onnx", f"{server.url}/pack.zip")
    assert not list(bench.places.weights.rglob("*.onnx"))
    assert not bench.places.proven.exists()
    assert left_over(bench) == []


def test_a_missing_member_is_named_and_the_next_source_taken(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server, lying_server([Answer(OTHER)]) as plain:
        lacking = of("c", in_pack(server, "c"))
        assert_named(refused(bench, lacking).message, "pack/c.onnx", f"{server.url}/pack.zip")
        bench.ensure(of("c", in_pack(server, "c"), plain.url, sha256=(sha(OTHER),)), limits=QUICK)
    assert left_over(bench) == []


def test_a_member_at_fault_does_not_cost_the_others_a_download(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        good, lacking = of("a", in_pack(server, "a")), of("c", in_pack(server, "c"))
        refused(bench, good, lacking)
        assert len(server.requests) == 1
        assert store.state(good, bench.places) == "here"


def test_a_member_must_have_a_hash_that_its_entry_lists(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        error = refused(bench, of("a", in_pack(server, "a"), sha256=(sha(OTHER),)))
        assert_named(error.message, SHA, sha(OTHER))
        bench.ensure(of("b", in_pack(server, "b"), sha256=(sha(OTHER),)))


def test_a_page_instead_of_an_archive_is_named(bench: Bench) -> None:
    with lying_server([Answer(b"<html>", content_type="text/html")]) as server:
        assert "page" in refused(bench, of("a", in_pack(server, "a"))).message


def test_a_file_is_held_to_what_it_was_at_the_first_fetch(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        model = of("a", in_pack(server, "a"))
        bench.ensure(model)
        first = json.loads(bench.places.proven.read_text())
        source = model.files[0].sources[0]
        assert first == {"a": {"own/a.onnx": {source: SHA}}}
        first["a"]["own/a.onnx"][source] = sha(OTHER)
        bench.places.proven.write_text(json.dumps(first))
        assert store.state(model, bench.places) == "missing"
        error = refused(bench, model)
        assert_named(error.message, f"--accept-hash a={SHA}", sha(OTHER), "pack/a.onnx")
        assert json.loads(bench.places.proven.read_text()) == first
        bench.ensure(model, accept_hash={"a": [SHA]})
    assert store.state(model, bench.places) == "here"


def test_a_download_that_somebody_changed_is_fetched_again(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        model = of("a", in_pack(server, "a"))
        bench.ensure(model)
        (bench.places.weights / "a" / "a.onnx").write_bytes(OTHER)
        bench.ensure(replace(model, size=96))
        assert len(server.requests) == 2
    assert (bench.places.models / "a" / "model.onnx").read_bytes() == b"onnx" + WEIGHTS


def test_an_unaccepted_file_of_the_mirror_is_passed_over(bench: Bench) -> None:
    bench.put("own/a.onnx", OTHER)
    with lying_server([Answer(PACK)]) as server:
        model = of("a", in_pack(server, "a"))
        store.foresee([model], places=bench.places)
        bench.ensure(model)
        (said,) = bench.notes
        assert_named(said, "mirror/own/a.onnx", f"--accept-hash a={sha(OTHER)}")
        bench.ensure(replace(model, size=96), accept_hash={"a": [sha(OTHER)]})
    assert (bench.places.models / "a" / "model.onnx").read_bytes() == b"onnx" + OTHER
    assert json.loads(bench.places.accepted.read_text()) == {"a": [sha(OTHER)]}


def test_an_unaccepted_file_beside_the_build_does_not_prepare_again_and_again(
    bench: Bench,
) -> None:
    with lying_server([Answer(PACK)]) as server:
        folder = str(bench.folder / "mirror")
        model = replace(of("a", in_pack(server, "a")), build_folder=folder)
        bench.put("own/a.onnx", OTHER)
        bench.ensure(model)
        bench.ensure(model)
    assert bench.conversions == 1


def test_a_mirror_folder_with_a_record_needs_no_network_and_no_word(bench: Bench) -> None:
    model = of("a", f"zip+{NOBODY}@sha256:{sha(PACK)}/pack/a.onnx")
    bench.put("own/a.onnx")
    record = bench.folder / "mirror" / proofs.NAME
    proofs.record(record, "a", "own/a.onnx", model.files[0].sources[0], SHA)
    bench.ensure(model)
    assert store.state(model, bench.places, by_hash=True) == "here"
    bench.put("own/a.onnx", OTHER)
    proofs.record(record, "a", "own/a.onnx", model.files[0].sources[0], sha(OTHER))
    assert store.state(model, bench.places) == "here"  # what the mirror says later changes nothing
    refused(bench, replace(model, size=96), limits=QUICK)
    record.unlink()
    assert store.state(model, bench.places) == "here"


@pytest.mark.parametrize("content", ["{", '{"a": []}', '{"a": {"own/a.onnx": []}}'])
def test_an_unreadable_record_is_named(bench: Bench, content: str) -> None:
    bench.places.proven.parent.mkdir()
    bench.places.proven.write_text(content)
    model = of("a", f"zip+{NOBODY}@sha256:{SHA}/a")
    with pytest.raises(FetchError, match=r"proven-hashes\.json"):
        bench.ensure(model)


def test_files_are_fetched_without_preparing(bench: Bench) -> None:
    with lying_server([Answer(PACK)]) as server:
        models = [of("a", in_pack(server, "a")), of("b", in_pack(server, "b"))]
        files, _ = store.files(models, bench.progress, places=bench.places)
        assert len(server.requests) == 1
    path, digest = files["b"]["own/b.onnx"]
    assert (path.read_bytes(), digest) == (OTHER, sha(OTHER))
    assert bench.conversions == 0
    with pytest.raises(FetchError):
        store.files([of("c")], bench.progress, places=bench.places)


# --- repositories -----------------------------------------------------------------------------


def test_a_file_of_a_repository_is_fetched_by_its_raw_address(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = socket.getaddrinfo

    def here(host: Any, *rest: Any, **more: Any) -> Any:
        return known("127.0.0.1" if host == "gitlab.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    commit = "0123456789" * 4
    with lying_server([Answer(WEIGHTS)]) as server:
        host = server.url.replace("127.0.0.1", "gitlab.test")
        source = f"git+{host}/group/repository@{commit}/models/m.onnx"
        bench.ensure(of("a", source, sha256=(SHA,)))
        assert server.requests[0]["path"] == f"/group/repository/-/raw/{commit}/models/m.onnx"
        error = refused(bench, of("b", source))
    assert f"--accept-hash b={SHA}" in (error.hint or "")  # a commit is no proof of its own


# --- images -----------------------------------------------------------------------------------


@pytest.fixture
def registry() -> Iterator[LyingRegistry]:
    with lying_registry() as made:
        yield made


def of_image(registry: LyingRegistry, path: str, *members: Member) -> str:
    parts = image(tar(Member("etc/x", b"x")), tar(*members))
    known = registry.reference(parts)
    return f"oci://{known.registry}/{known.repository}@{known.digest}/{path}"


def test_the_files_of_an_image_are_fetched_at_once(bench: Bench, registry: LyingRegistry) -> None:
    members = (Member("app/a.onnx", WEIGHTS), Member("app/b-symbol.json", OTHER))
    models = [
        of("a", of_image(registry, "app/a.onnx", *members)),
        of("b", of_image(registry, "app/*-symbol.json", *members)),
    ]
    bench.ensure(*models)
    assert len(registry.paths("/blobs/")) == 1
    assert left_over(bench) == []
    assert [store.state(model, bench.places, by_hash=True) for model in models] == ["here"] * 2


def test_a_digest_is_right_where_the_entry_lists_another_copy(
    bench: Bench, registry: LyingRegistry
) -> None:
    source = of_image(registry, "app/a.onnx", Member("app/a.onnx", WEIGHTS))
    model = of("a", source, sha256=(sha(OTHER),))
    bench.ensure(model)
    assert store.state(model, bench.places) == "here"
    assert not bench.places.accepted.exists()
    bench.put("own/a.onnx", OTHER)  # the other copy, by hand
    bench.ensure(replace(model, size=96))
    assert (bench.places.models / "a" / "model.onnx").read_bytes() == b"onnx" + OTHER


def test_a_file_at_fault_does_not_keep_the_others_from_being_fetched(
    bench: Bench, registry: LyingRegistry
) -> None:
    member = Member("app/a.onnx", WEIGHTS)
    good = of("a", of_image(registry, "app/a.onnx", member))
    lacking = of("b", of_image(registry, "app/b.onnx", member))
    error = refused(bench, good, lacking)
    assert isinstance(error, UnreachableError)
    assert_named(error.message, "app/b.onnx", registry.host)
    assert len(registry.paths("/blobs/")) == 2  # each layer once, also for the one that lacks
    assert store.state(good, bench.places) == "here"


def test_a_misspelt_file_of_an_image_is_a_fault_of_ones_own_build(
    bench: Bench, registry: LyingRegistry
) -> None:
    source = of_image(registry, "app/typo.onnx", Member("app/a.onnx", WEIGHTS))
    own = replace(of("a", source), build_folder=str(bench.folder))
    assert not isinstance(refused(bench, own), UnreachableError)


def test_a_registry_that_refuses_is_named_with_its_hint(
    bench: Bench, registry: LyingRegistry
) -> None:
    source = of_image(registry, "app/a.onnx", Member("app/a.onnx", WEIGHTS))
    registry.challenge, registry.login = "basic", ("me", "secret")
    error = refused(bench, of("a", source))
    assert_named(error.hint, "docker login", "DIR/own/a.onnx")
    assert error.details["status"] == 401
    assert left_over(bench) == []


def test_an_image_that_cannot_be_reached_is_asked_for_once(
    bench: Bench, registry: LyingRegistry
) -> None:
    members = (Member("app/a.onnx", WEIGHTS), Member("app/b.onnx", OTHER))
    sources = [of_image(registry, f"app/{name}.onnx", *members) for name in "ab"]
    registry.contents.clear()
    models = [of(name, source) for name, source in zip("ab", sources, strict=True)]
    missing = store.fetch(
        models, bench.progress, places=bench.places, limits=QUICK, optional={"a", "b"}
    )
    assert set(missing) == {"a", "b"}
    assert len(registry.paths("/manifests/")) == 1


def test_a_full_disk_is_no_fault_of_the_source(bench: Bench, registry: LyingRegistry) -> None:
    model = of("a", of_image(registry, "app/a.onnx", Member("app/a.onnx", WEIGHTS)))
    with mock.patch("shutil.disk_usage", return_value=mock.Mock(free=5)):
        assert type(refused(bench, model)) is FetchError


def test_a_file_comes_with_the_image_that_another_model_needs(
    bench: Bench, registry: LyingRegistry
) -> None:
    members = (Member("app/a.onnx", WEIGHTS), Member("app/b.onnx", OTHER))
    with lying_server([Answer(b"", status=500)]) as server:
        other = of("b", server.url, of_image(registry, "app/b.onnx", *members))
        bench.ensure(of("a", of_image(registry, "app/a.onnx", *members)), other)
        assert server.requests == []
    assert store.state(other, bench.places) == "here"


# --- alternatives -----------------------------------------------------------------------------


def either(*choices: Model) -> Model:
    return replace(choices[0], alternatives=choices[1:])


def test_an_alternative_takes_the_place_of_what_cannot_be_fetched(bench: Bench) -> None:
    with lying_server([Answer(OTHER)]) as server:
        second = replace(of("a", server.url, sha256=(sha(OTHER),)), size=96)
        model = either(of("a", NOBODY, sha256=(SHA,)), second)
        bench.ensure(model, limits=QUICK)
        assert store.state(model, bench.places, by_hash=True) == "here"
        assert store.chosen(model, bench.places) == second
        assert store.state(second, bench.places) == "here"
        assert store.state(model.choices[0], bench.places) == "missing"
        bench.ensure(model)
    assert bench.conversions == 1
    assert any("127.0.0.1:9" in note for note in bench.notes)


def test_an_alternative_takes_the_place_of_what_the_converter_refuses(bench: Bench) -> None:
    bench.put("own/a.onnx", b"refuse me")
    second = a_model(name="a", files=(ModelFile("own/b.onnx", (SHA,), ()),))
    bench.put("own/b.onnx")
    model = either(of("a", sha256=(sha(b"refuse me"),)), second)
    bench.mode("refuse")
    error = refused(bench, model)
    assert error.message.count("it holds no network") == 2
    assert len(error.details["attempts"]) == 2


def test_files_that_lie_here_are_taken_before_any_network(bench: Bench) -> None:
    second = a_model(name="a", files=(ModelFile("own/other.onnx", (sha(OTHER),), ()),), size=96)
    bench.put("own/other.onnx", OTHER)
    with lying_server([Answer(WEIGHTS)]) as server:
        model = either(of("a", server.url, sha256=(SHA,)), second)
        store.foresee([model], places=bench.places)
        bench.ensure(model)
        assert server.requests == []
    assert store.chosen(model, bench.places) == second


def test_every_attempt_is_named_where_all_fail(bench: Bench) -> None:
    second = replace(of("a"), format="mxnet")
    model = either(of("a", NOBODY, sha256=(SHA,)), second)
    error = refused(bench, model)
    assert isinstance(error, UnreachableError)
    assert_named(error.message, "127.0.0.1:9", "onnx: ", "mxnet: ", "own/a.onnx")
    assert len(error.details["attempts"]) == 2
    wrong = either(of("a"), second)
    bench.put("own/a.onnx", b"wrong")
    with pytest.raises(FetchError) as foreseen:
        store.foresee([wrong], places=bench.places)
    assert foreseen.value.as_dict() == refused(bench, wrong).as_dict()


def test_a_runtime_that_loads_the_files_takes_its_own_format_only(bench: Bench) -> None:
    second = replace(of("a"), format="mxnet", size=96)
    model = replace(either(of("a"), second), keep_source=True)
    assert [choice.format for choice in model.choices] == ["onnx"]
    assert all(choice.keep_source for choice in model.choices)


def test_sources_are_named_without_secrets() -> None:
    from compreface_cli.models.download import shown

    secret = Source("zip", "", "https://me:secret@host/p.zip?token=1", SHA, "a/m")
    assert shown(secret) == "a/m of https://host/p.zip"
    assert shown(Source("oci", "", "docker.io/x/y", SHA, "m")) == f"m of docker.io/x/y@sha256:{SHA}"
