"""A dry run foresees what a real run would refuse of the models that lie on this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from compreface_cli.errors import FetchError, UsageError
from compreface_cli.models import store
from compreface_cli.models.entry import ModelFile
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


UNKNOWN = (ModelFile("own/mine.onnx", (), ()),)


def test_what_will_be_refused_is_foreseen_without_a_trace(bench: Bench) -> None:
    wrong = bench.put("own/mine.onnx", b"half")
    half = hashlib.sha256(b"half").hexdigest()
    for files in (a_model().files, UNKNOWN):
        with pytest.raises(FetchError, match=half) as caught:
            store.foresee([a_model(files=files)], places=bench.places)
        assert f"--accept-hash mine={half}" in (caught.value.hint or "")
        store.foresee([a_model(files=files)], {"mine": [half]}, bench.places)
    with pytest.raises(UsageError, match="yours"):
        store.foresee([a_model()], {"yours": [SHA]}, bench.places)
    wrong.write_bytes(WEIGHTS)
    store.foresee([a_model()], places=bench.places)
    assert bench.conversions == 0
    assert not bench.places.accepted.exists()


def test_what_an_address_may_give_is_not_foreseen_as_refused(bench: Bench) -> None:
    bench.put("own/mine.onnx", b"half")
    files = (ModelFile("own/mine.onnx", (SHA,), ("http://127.0.0.1:9/x",)),)
    store.foresee([a_model(files=files)], places=bench.places)


def test_a_file_replaced_after_it_was_prepared_is_foreseen(bench: Bench) -> None:
    model = a_model(files=UNKNOWN, build_folder=str(bench.folder / "mirror"))
    bench.put("own/mine.onnx")
    bench.ensure(model, accept_hash={"mine": [SHA]})
    store.foresee([model], places=bench.places)
    bench.put("own/mine.onnx", b"second")
    second = hashlib.sha256(b"second").hexdigest()
    with pytest.raises(FetchError, match=second) as foreseen:
        store.foresee([model], places=bench.places)
    with pytest.raises(FetchError) as real:
        bench.ensure(model)
    assert foreseen.value.as_dict() == real.value.as_dict()
    store.foresee([model], {"mine": [second]}, bench.places)
    assert store.state(model, bench.places, by_hash=True) == "here"


def test_a_damaged_model_without_its_file_is_foreseen(bench: Bench) -> None:
    source = bench.put("own/mine.onnx")
    folder = bench.ensure(a_model())["mine"]
    source.unlink()
    data = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(data[::-1])
    with pytest.raises(FetchError, match=r"own/mine\.onnx") as foreseen:
        store.foresee([a_model()], places=bench.places)
    with pytest.raises(FetchError) as real:
        bench.ensure(a_model())
    assert foreseen.value.as_dict() == real.value.as_dict()
