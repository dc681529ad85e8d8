"""A model is found, proven and prepared whole, or the user learns which file is missing and why."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.errors import CfError, ConfigurationError, ConflictError, FetchError, UsageError
from compreface_cli.models import accepted, catalogue, store
from compreface_cli.models.entry import ModelFile
from compreface_cli.models.files import locked
from tests.cli.lying_server import Answer, lying_server
from tests.cli.model_bench import SHA, WEIGHTS, Bench, a_model
from tests.cli.names import assert_named


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


UNKNOWN = (ModelFile("own/mine.onnx", (), ()),)


def test_a_file_in_the_mirror_is_proven_and_prepared(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    model = a_model()
    assert store.state(model, bench.places) == "missing"
    folder = bench.ensure(model)["mine"]
    assert store.state(model, bench.places, by_hash=True) == "here"
    assert (folder / "model.onnx").read_bytes() == b"onnx" + WEIGHTS
    assert store.fingerprint(model, bench.places) is not None


def test_a_prepared_model_needs_no_converter_and_no_mirror(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.ensure(a_model())
    (bench.folder / "mirror" / "own" / "mine.onnx").unlink()

    def no_environment() -> Path:
        raise AssertionError("the engine's environment was asked for")

    bench.ensure(a_model(), python=no_environment)
    assert bench.conversions == 1


def test_a_file_beside_the_build_is_taken_before_the_mirror(bench: Bench) -> None:
    bench.put("own/mine.onnx", b"other")
    beside = bench.folder / "build" / "own"
    beside.mkdir(parents=True)
    (beside / "mine.onnx").write_bytes(WEIGHTS)
    bench.ensure(a_model(build_folder=str(bench.folder / "build")))
    assert not bench.notes


def test_a_mirror_may_be_an_address(bench: Bench) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        bench.places = replace(bench.places, mirror=server.url + "/all/")
        bench.ensure(a_model())
        assert server.requests[0]["path"] == "/all/own/mine.onnx"
    assert (bench.places.weights / "mine" / "mine.onnx").read_bytes() == WEIGHTS


def test_a_source_is_used_if_the_mirror_lacks_the_file(bench: Bench) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        files = (ModelFile("own/mine.onnx", (SHA,), (server.url + "/x.onnx",)),)
        bench.ensure(a_model(files=files))
    assert store.state(a_model(), bench.places) == "here"


def test_a_wrong_file_in_the_mirror_is_passed_over_for_a_source(bench: Bench) -> None:
    bench.put("own/mine.onnx", b"wrong")
    with lying_server([Answer(WEIGHTS)]) as server:
        files = (ModelFile("own/mine.onnx", (SHA,), (server.url + "/x.onnx",)),)
        bench.ensure(a_model(files=files))
    wrong = hashlib.sha256(b"wrong").hexdigest()
    (said,) = bench.notes
    assert_named(said, "mirror/own/mine.onnx", wrong, SHA)
    assert "--accept-hash" not in said


def test_a_missing_model_says_where_to_put_the_file(bench: Bench) -> None:
    with pytest.raises(FetchError, match=r"mine: own/mine\.onnx") as caught:
        bench.ensure(a_model(build_folder="/somewhere"))
    assert_named(caught.value.hint, bench.folder / "mirror" / "own" / "mine.onnx")
    assert_named(caught.value.hint, "CF_MODELS_MIRROR=", "as own/mine.onnx")
    assert not store.obtainable(a_model(), bench.places)
    assert caught.value.code == 9


def test_a_file_with_another_hash_is_refused_with_both_hashes(bench: Bench) -> None:
    bench.put("own/mine.onnx", b"wrong")
    with pytest.raises(FetchError) as caught:
        bench.ensure(a_model())
    assert SHA in caught.value.message
    assert_named(caught.value.message, "mirror/own/mine.onnx")
    assert "--accept-hash mine=" in (caught.value.hint or "")
    assert hashlib.sha256(b"wrong").hexdigest() in caught.value.message
    assert bench.conversions == 0


def test_a_changed_file_is_reported_once_with_each_hash_once(bench: Bench) -> None:
    target = bench.put("own/mine.onnx")
    bench.ensure(a_model(files=UNKNOWN), accept_hash={"mine": [SHA]})
    target.write_bytes(b"changed")
    changed = hashlib.sha256(b"changed").hexdigest()
    other = replace(a_model(), size=160)  # so that it is prepared anew
    with pytest.raises(FetchError) as caught:
        bench.ensure(other, accept_hash={"mine": [SHA]})
    told = "\n".join([*bench.notes, caught.value.message])
    assert told.count(SHA) == 1
    assert told.count(changed) == 1


def test_an_unknown_hash_stops_the_run_until_it_is_accepted(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    model = a_model(files=UNKNOWN)
    with pytest.raises(FetchError, match=SHA) as caught:
        bench.ensure(model)
    assert f"--accept-hash mine={SHA}" in (caught.value.hint or "")
    assert caught.value.code == 9
    bench.ensure(model, accept_hash={"mine": [SHA]})
    assert json.loads(bench.places.accepted.read_text()) == {"mine": [SHA]}
    bench.ensure(model)
    assert bench.conversions == 1


def test_a_fetched_file_of_unknown_hash_stops_as_well(bench: Bench) -> None:
    with lying_server([Answer(WEIGHTS)]) as server:
        files = (ModelFile("own/mine.onnx", (), (server.url + "/x.onnx",)),)
        for _ in range(2):
            with pytest.raises(FetchError, match=SHA):
                bench.ensure(a_model(files=files))
        assert len(server.requests) == 1


def test_an_accepted_hash_that_is_not_the_files_is_not_recorded(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    with pytest.raises(FetchError, match="0" * 64):
        bench.ensure(a_model(files=UNKNOWN), accept_hash={"mine": ["0" * 64]})
    assert not bench.places.accepted.exists()


def test_the_hash_of_a_file_that_the_converter_refuses_is_not_recorded(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.mode("refuse")
    with pytest.raises(CfError):
        bench.ensure(a_model(files=UNKNOWN), accept_hash={"mine": [SHA]})
    assert not bench.places.accepted.exists()


def test_accepting_a_hash_for_another_model_is_a_usage_error(bench: Bench) -> None:
    with pytest.raises(UsageError, match="yours"):
        bench.ensure(a_model(), accept_hash={"yours": SHA})


@pytest.mark.parametrize("pair", ["", "mine", "mine=", "mine=12", f"={SHA}", "mine=" + "g" * 64])
def test_a_malformed_accepted_hash_is_a_usage_error(pair: str) -> None:
    with pytest.raises(UsageError):
        accepted.parse([pair])


def test_accepted_hashes_are_read_in_either_case() -> None:
    assert accepted.parse([f"mine={SHA.upper()}"]) == {"mine": [SHA]}


def test_a_model_of_several_files_has_several_accepted_hashes() -> None:
    other = "0" * 64
    found = accepted.parse([f"mine={SHA}", f"yours={SHA}", f"mine={other}"])
    assert found == {"mine": [SHA, other], "yours": [SHA]}


def test_a_changed_file_of_unknown_hash_is_not_used_unasked(bench: Bench) -> None:
    model = a_model(files=UNKNOWN, build_folder=str(bench.folder / "mirror"))
    bench.put("own/mine.onnx")
    bench.ensure(model, accept_hash={"mine": [SHA]})
    path = bench.put("own/mine.onnx", b"second")
    bench.notes.clear()
    with pytest.raises(FetchError, match=hashlib.sha256(b"second").hexdigest()) as caught:
        bench.ensure(model)
    assert_named(caught.value.message, path)
    assert bench.notes == []  # nothing is prepared anew
    assert store.state(model, bench.places, by_hash=True) == "here"
    bench.ensure(model, accept_hash={"mine": [hashlib.sha256(b"second").hexdigest()]})
    assert (bench.places.models / "mine" / "model.onnx").read_bytes() == b"onnxsecond"


@pytest.mark.parametrize("change", [{"similarity": (1.2, 6.0)}, {"colour": "bgr"}, {"size": 96}])
def test_a_changed_entry_is_prepared_anew(bench: Bench, change: dict[str, Any]) -> None:
    bench.put("own/mine.onnx")
    bench.ensure(a_model())
    changed = a_model(**change)
    assert store.state(changed, bench.places) == "missing"
    bench.ensure(changed)
    assert bench.conversions == 2


def test_a_new_source_address_alone_prepares_nothing_anew(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.ensure(a_model())
    bench.ensure(a_model(files=(ModelFile("own/mine.onnx", (SHA,), ("http://127.0.0.1:9/",)),)))
    assert bench.conversions == 1


def test_a_flipped_bit_is_noticed_and_repaired(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    folder = bench.ensure(a_model())["mine"]
    data = bytearray((folder / "model.onnx").read_bytes())
    data[50] ^= 1
    (folder / "model.onnx").write_bytes(data)
    assert store.state(a_model(), bench.places) == "here"  # by size only
    assert store.state(a_model(), bench.places, by_hash=True) == "damaged"
    bench.ensure(a_model())
    assert store.state(a_model(), bench.places, by_hash=True) == "here"
    assert any("damaged" in note for note in bench.notes)


def test_a_file_that_was_cut_is_damaged(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    folder = bench.ensure(a_model())["mine"]
    (folder / "model.onnx").write_bytes(b"onnx")
    assert store.state(a_model(), bench.places) == "damaged"
    (folder / "model.onnx").unlink()
    assert store.state(a_model(), bench.places) == "damaged"


def test_a_folder_without_record_is_damaged(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    folder = bench.ensure(a_model())["mine"]
    (folder / "prepared.json").write_text("{")
    assert store.state(a_model(), bench.places) == "damaged"


@pytest.mark.parametrize(
    ("mode", "error", "named"),
    [
        ("refuse", FetchError, "it holds no network"),
        ("crash", CfError, "ImportError: no onnx"),
        ("lie", CfError, "mine"),
    ],
)
def test_a_failed_preparation_leaves_nothing(
    bench: Bench, mode: str, error: type[CfError], named: str
) -> None:
    bench.put("own/mine.onnx")
    bench.mode(mode)
    with pytest.raises(error, match=named):
        bench.ensure(a_model())
    assert [p.name for p in bench.places.models.iterdir() if not p.name.endswith(".lock")] == []


def test_a_failed_preparation_keeps_what_was_there(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.ensure(a_model())
    bench.mode("refuse")
    with pytest.raises(FetchError):
        bench.ensure(a_model(size=96))
    assert store.state(a_model(), bench.places, by_hash=True) == "here"


def test_an_interrupted_preparation_leaves_nothing(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.mode("kill")
    with pytest.raises(KeyboardInterrupt):
        bench.ensure(a_model())
    assert [p.name for p in bench.places.models.iterdir() if not p.name.endswith(".lock")] == []


def test_a_model_that_another_cf_prepares_names_that_cf(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    target = bench.places.models / "mine"
    with (
        locked(target, note=bench.notes.append),
        pytest.raises(ConflictError, match=f"pid {os.getpid()},"),
        locked(target, note=bench.notes.append, wait_s=0.0),
    ):
        raise AssertionError("two held one lock")


def test_a_target_that_is_not_a_folder_is_a_clear_error(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.places.models.write_text("a file")
    with pytest.raises(FetchError, match=str(bench.places.models)):
        bench.ensure(a_model())


def test_unreadable_accepted_hashes_are_named_not_forgotten(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    bench.places.accepted.parent.mkdir()
    bench.places.accepted.write_text("{")
    with pytest.raises(FetchError, match=r"accepted\.json"):
        bench.ensure(a_model(files=UNKNOWN))


def test_a_path_out_of_the_mirror_is_never_opened(bench: Bench) -> None:
    (bench.folder / "secret").write_bytes(WEIGHTS)
    with pytest.raises(FetchError, match=r"mine: \.\./secret"):
        bench.ensure(a_model(files=(ModelFile("../secret", (SHA,), ()),)))


TWO = (ModelFile("own/m-symbol.json", (), ()), ModelFile("own/m-0000.params", (), ()))


def two_files(bench: Bench) -> list[str]:
    """Both files in the mirror; their hashes."""
    bench.put("own/m-symbol.json", b"graph")
    bench.put("own/m-0000.params", b"weights")
    return [hashlib.sha256(data).hexdigest() for data in (b"graph", b"weights")]


def test_the_hashes_of_all_files_are_asked_for_at_once(bench: Bench) -> None:
    graph, weights = two_files(bench)
    model = a_model(files=TWO, format="mxnet")
    with pytest.raises(FetchError) as caught:
        bench.ensure(model)
    hint = caught.value.hint or ""
    assert f"--accept-hash mine={graph} --accept-hash mine={weights}" in hint
    with pytest.raises(FetchError, match=weights) as again:
        bench.ensure(model, accept_hash={"mine": [graph]})
    assert graph not in again.value.message
    # Nothing is recorded yet, so the hint repeats what was accepted in this run.
    both = f"--accept-hash mine={graph} --accept-hash mine={weights}"
    assert both in (again.value.hint or "")
    with pytest.raises(FetchError) as foreseen:
        store.foresee([model], {"mine": [graph]}, bench.places)
    assert foreseen.value.as_dict() == again.value.as_dict()
    assert not bench.places.accepted.exists()
    bench.ensure(model, accept_hash={"mine": [graph, weights]})
    assert json.loads(bench.places.accepted.read_text()) == {"mine": [graph, weights]}
    assert store.state(model, bench.places, by_hash=True) == "here"
    bench.ensure(model)
    assert bench.conversions == 1


def test_a_hint_names_every_file_and_where_upstream_has_it(bench: Bench) -> None:
    hint = store.missing_hint(a_model(files=TWO), bench.places)
    assert_named(hint, *(f"{bench.places.mirror}/{file.path}" for file in TWO))
    assert "--accept-hash mine=SHA256" in hint
    assert "Google Drive" in store.missing_hint(a_model(name="arcface_r100_v1"), bench.places)


def test_source_files_are_kept_for_a_runtime_that_loads_them(bench: Bench) -> None:
    two_files(bench)
    bench.put("own/mine.onnx")
    plain, keeping = a_model(), a_model(keep_source=True)
    bench.ensure(plain)
    assert store.state(keeping, bench.places) == "missing"
    bench.ensure(keeping)
    assert (bench.places.models / "mine" / "source" / "mine.onnx").read_bytes() == WEIGHTS
    assert store.state(keeping, bench.places, by_hash=True) == "here"
    assert store.state(plain, bench.places) == "here"  # what has more serves as well
    (bench.places.models / "mine" / "source" / "mine.onnx").write_bytes(b"x")
    assert store.state(plain, bench.places) == "damaged"


def test_a_detector_is_prepared_without_what_belongs_to_a_calculator(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    detector = a_model(role="detector", size=None, align=None, similarity=None)
    entry = detector.entry()
    assert "align" not in entry
    assert "similarity" not in entry
    assert entry["input"]["size"] is None
    assert a_model(network="resnet18_v1").entry()["network"] == "resnet18_v1"
    bench.ensure(detector)
    assert store.state(detector, bench.places) == "here"


def test_every_google_drive_id_of_the_catalogue_is_whole() -> None:
    origins = {name: known.origin for name, known in catalogue.about().items()}
    ids = {name: re.findall(r"Drive\s\(([^)]*)\)", origin) for name, origin in origins.items()}
    assert len([found for found in ids.values() if found]) > 15
    for name, found in ids.items():
        for one in found:
            assert re.fullmatch(r"[\w-]{33}", one), f"{name}: {one!r}"


def test_a_failed_download_names_the_path_below_the_mirror(bench: Bench) -> None:
    with lying_server([Answer(b"", status=404)]) as server:
        files = (ModelFile("own/mine.onnx", (SHA,), (server.url + "/x.onnx",)),)
        with pytest.raises(FetchError, match="404") as caught:
            bench.ensure(a_model(files=files))
    assert_named(caught.value.hint, "DIR/own/mine.onnx", "CF_MODELS_MIRROR=DIR")


def test_a_mirror_that_is_no_folder_is_named_with_its_variable(bench: Bench) -> None:
    bench.put("own/mine.onnx")
    for wrong in (bench.folder / "away", bench.folder / "mirror" / "own" / "mine.onnx"):
        bench.places = replace(bench.places, mirror=str(wrong))
        with pytest.raises(ConfigurationError, match=f"CF_MODELS_MIRROR={wrong}") as caught:
            bench.ensure(a_model())
        assert caught.value.code == 3
