"""The files of models are fetched before any is prepared; what no source delivers is told."""

from __future__ import annotations

import hashlib
import io
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from compreface_cli.errors import FetchError, UnreachableError, UsageError
from compreface_cli.models import store
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.models.transfer import Limits
from tests.cli.lying_registry import Member, image, lying_registry, tar
from tests.cli.lying_server import Answer, lying_server
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model
from tests.cli.names import assert_named

QUICK = Limits(connect_s=1, stall_s=0.2, tries=1, backoff_s=0.01, backoff_max_s=0.02)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def fetch(bench: Bench, *models: Model, **rest: Any) -> dict[str, UnreachableError]:
    given = {"note": bench.notes.append, "places": bench.places, "limits": QUICK, **rest}
    return store.fetch(models, bench.progress, **given)


def at(bench: Bench, url: str) -> None:
    bench.places = replace(bench.places, mirror=url)


def test_a_file_that_was_fetched_is_prepared_without_asking_again(bench: Bench) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        at(bench, server.url)
        assert fetch(bench, a_model()) == {}
        assert (len(server.requests), bench.conversions) == (1, 0)
        assert fetch(bench, a_model()) == {}
        bench.ensure(a_model())
        assert fetch(bench, a_model()) == {}
        assert (len(server.requests), bench.conversions) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", status=404),
        Answer(WEIGHTS, stall_after=0),
        Answer(b"", status=503),
    ],
    ids=["404", "a stall", "busy"],
)
def test_what_no_source_delivers_is_returned_if_it_is_optional(
    bench: Bench, answer: Answer
) -> None:
    with lying_server([answer]) as server:
        at(bench, server.url)
        (error,) = fetch(bench, a_model(), optional={"mine"}).values()
        assert error.details["model"] == "mine"
        assert server.url in error.message
        with pytest.raises(UnreachableError) as raised:
            fetch(bench, a_model())
        assert raised.value.details["model"] == "mine"
    assert not list(bench.places.weights.rglob("*.onnx"))


def test_a_machine_without_a_network_is_no_different(bench: Bench) -> None:
    at(bench, "http://127.0.0.1:9")
    assert list(fetch(bench, a_model(), optional={"mine"})) == ["mine"]


def test_a_file_without_any_address_is_no_different(bench: Bench) -> None:
    assert list(fetch(bench, a_model(), optional={"mine"})) == ["mine"]


def test_a_wrong_file_is_raised_even_if_another_source_has_none(bench: Bench) -> None:
    with lying_server([Answer(b"another file"), Answer(b"", status=404)]) as server:
        files = (ModelFile("own/mine.onnx", (SHA,), (f"{server.url}/b",)),)
        at(bench, server.url)
        with pytest.raises(FetchError) as raised:
            fetch(bench, a_model(files=files), optional={"mine"})
    assert type(raised.value) is FetchError
    assert hashlib.sha256(b"another file").hexdigest() in raised.value.message


@pytest.mark.parametrize(
    "answer",
    [
        Answer(b"", status=401),
        Answer(b"<html>", content_type="text/html"),
        Answer(b"", status=302, location="file:///etc/passwd"),
    ],
    ids=["login", "web page", "redirect"],
)
def test_a_source_at_fault_is_raised_though_the_model_is_optional(
    bench: Bench, answer: Answer
) -> None:
    with lying_server([answer]) as server:
        model = a_model(files=(ModelFile("m.onnx", (SHA,), (f"{server.url}/m.onnx",)),))
        with pytest.raises(FetchError) as caught:
            fetch(bench, model, optional={model.name})
    assert not isinstance(caught.value, UnreachableError)


def test_a_misspelt_member_of_ones_own_archive_is_raised(bench: Bench) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("pack/m.onnx", WEIGHTS)
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    with lying_server([Answer(packed.getvalue())]) as server:
        source = f"zip+{server.url}/p.zip@sha256:{digest}/pack/typo.onnx"
        model = a_model(files=(ModelFile("m.onnx", (), (source,)),), build_folder=str(bench.folder))
        with pytest.raises(FetchError) as caught:
            fetch(bench, model, optional={model.name})
        assert not isinstance(caught.value, UnreachableError)
        assert_named(caught.value.message, "pack/typo.onnx")
        # Of the catalogue, whose names in upstream's images nobody has seen, it is absent.
        assert fetch(bench, replace(model, build_folder=""), optional={model.name})


def test_an_unaccepted_hash_is_raised(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    unknown = a_model(files=(ModelFile("own/mine.onnx", (), ()),))
    with pytest.raises(FetchError) as raised:
        fetch(bench, unknown, optional={"mine"})
    assert type(raised.value) is FetchError
    assert fetch(bench, unknown, accept_hash={"mine": [SHA]}) == {}
    with pytest.raises(UsageError):
        fetch(bench, accept_hash={"mine": [SHA]})


def test_what_must_be_there_ends_the_run_before_the_rest_is_asked_for(bench: Bench) -> None:
    other = a_model(name="other", files=(ModelFile("own/other.onnx", (SHA,), ()),))
    with lying_server([Answer(b"", status=404), Answer(WEIGHTS)]) as server:
        at(bench, server.url)
        with pytest.raises(UnreachableError):
            fetch(bench, a_model(), other, optional={"other"})
        assert len(server.requests) == 1


def test_a_registry_that_lies_is_told_from_one_that_fails(bench: Bench) -> None:
    with lying_registry() as registry:
        parts = image(tar(Member("app/mine.onnx", WEIGHTS)))
        known = registry.reference(parts)
        address = f"oci://{known.registry}/{known.repository}@{known.digest}"
        (layer,) = parts.layers

        def of(path: str) -> Model:
            return a_model(files=(ModelFile("own/mine.onnx", (), (f"{address}/{path}",)),))

        for answer in (Answer(b"", status=404), Answer(b"", status=401), Answer(b"", status=429)):
            registry.lies[layer] = [answer] * 9
            assert list(fetch(bench, of("app/mine.onnx"), optional={"mine"})) == ["mine"]
        registry.lies[layer] = [Answer(parts.contents[layer][::-1])] * 9
        with pytest.raises(FetchError) as raised:
            fetch(bench, of("app/mine.onnx"), optional={"mine"})
        assert type(raised.value) is FetchError
        registry.lies.clear()
        assert list(fetch(bench, of("app/other.onnx"), optional={"mine"})) == ["mine"]
        assert fetch(bench, of("app/mine.onnx")) == {}


def test_a_full_disk_is_no_reason_for_a_fallback(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: mock.Mock(free=5))
    with lying_server([Answer(WEIGHTS)]) as server:
        at(bench, server.url)
        with pytest.raises(FetchError) as raised:
            fetch(bench, a_model(), optional={"mine"})
    assert type(raised.value) is FetchError
    with lying_registry() as registry:
        known = registry.reference(image(tar(Member("app/mine.onnx", WEIGHTS))))
        source = f"oci://{known.registry}/{known.repository}@{known.digest}/app/mine.onnx"
        at(bench, "")
        with pytest.raises(FetchError) as raised:
            fetch(bench, a_model(files=(ModelFile("m.onnx", (), (source,)),)), optional={"mine"})
    assert type(raised.value) is FetchError
