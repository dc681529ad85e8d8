"""Models whose hosts cannot be reached: each host is tried once, named once, and leaves nothing."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.errors import UnreachableError
from compreface_cli.models import store
from compreface_cli.models.entry import Model, ModelFile
from compreface_cli.weights import known
from tests.cli.lying_server import Answer, lying_server
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model

DIGEST = "ab" * 32
NOWHERE = "nowhere.invalid"
REFUSED = "127.0.0.1:9"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    bench.places = replace(bench.places, mirror="")
    return bench


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each name was looked up."""
    counts: Counter[str] = Counter()
    real = socket.getaddrinfo

    def counted(host: Any, *rest: Any, **more: Any) -> Any:
        counts[host.decode() if isinstance(host, bytes) else str(host)] += 1
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", counted)
    return counts


def of(name: str, *sources: str) -> Model:
    return a_model(name=name, files=(ModelFile(f"own/{name}.onnx", (SHA,), sources),))


def everywhere(name: str) -> Model:
    """A model with a source of each kind at one host that does not exist."""
    return of(
        name,
        f"https://{NOWHERE}/{name}.onnx",
        f"zip+https://{NOWHERE}/{name}.zip@sha256:{DIGEST}/{name}.onnx",
        f"oci://{NOWHERE}/exadel/{name}@sha256:{DIGEST}/{name}.onnx",
    )


def fetch(bench: Bench, *models: Model) -> dict[str, UnreachableError]:
    names = {model.name for model in models}
    note = bench.notes.append
    return store.fetch(models, bench.progress, note=note, optional=names, places=bench.places)


def test_a_host_is_tried_once_in_a_run(bench: Bench, asked: Counter[str]) -> None:
    failed = fetch(bench, everywhere("a"), everywhere("b"))
    assert asked[NOWHERE] == 1
    assert len(bench.notes) <= 1
    for name in ("a", "b"):
        assert set(failed[name].details["unreached"]) == {NOWHERE}
        assert len(failed[name].details["sources"]) == 3
        assert failed[name].message.count(NOWHERE) == 1
        assert DIGEST not in failed[name].message


def test_every_host_of_a_model_is_named_in_one_sentence(bench: Bench) -> None:
    other = of("a", f"http://{REFUSED}/a.onnx")
    model = replace(of("a", f"https://{NOWHERE}/a.onnx"), alternatives=(other,))
    error = fetch(bench, model)["a"]
    assert set(error.details["unreached"]) == {NOWHERE, REFUSED}
    assert error.message.count("a.onnx") == 0


def test_a_host_that_answers_otherwise_is_named_beside_those_out_of_reach(bench: Bench) -> None:
    with lying_server([Answer(b"", status=404)]) as server:
        error = fetch(bench, of("a", f"http://{REFUSED}/a.onnx", f"{server.url}/a.onnx"))["a"]
    assert "unreached" not in error.details
    assert REFUSED in error.message
    assert "404" in error.message


def test_another_source_is_used_where_a_host_is_out_of_reach(bench: Bench) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        assert not fetch(bench, of("a", f"https://{NOWHERE}/a.onnx", f"{server.url}/a.onnx"))
    assert NOWHERE in "".join(bench.notes)


def test_a_server_that_is_gone_during_the_download_is_tried_again(bench: Bench) -> None:
    """It has answered before, so it may be back soon."""
    with lying_server([Answer(WEIGHTS, cut_after=100)] * 2 + [Answer(WEIGHTS)]) as server:
        assert not fetch(bench, of("a", f"{server.url}/a.onnx"))


def test_a_failed_fetch_leaves_no_folder(bench: Bench) -> None:
    fetch(bench, everywhere("a"))
    assert not [path for path in bench.places.weights.rglob("*") if path.name != ".fetching"]


def test_an_empty_folder_is_no_part_of_a_model(bench: Bench) -> None:
    (bench.places.weights / "a").mkdir(parents=True)
    names = known.Named({"a": [everywhere("a")]}, {}, {})
    assert known.state("a", names, bench.places) == "absent"


def test_the_size_of_what_was_fetched_is_that_of_its_files(bench: Bench) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        model = of("a", f"{server.url}/a.onnx")
        (download,) = store.needed([model], bench.places)
        assert (download.bytes, download.on_disk(bench.places)) == (None, None)
        fetch(bench, model)
    assert download.on_disk(bench.places) == len(WEIGHTS)
