"""What would be downloaded is known before, each archive and layer once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from compreface_cli.models import catalogue, store
from compreface_cli.models.entry import Model, ModelFile
from tests.cli.model_bench import SHA, Bench, a_model

DIGEST = "0123456789abcdef" * 4
IMAGE = f"oci://docker.io/exadel/core@sha256:{DIGEST}"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def sizes(tmp_path: Path) -> Path:
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        yaml.safe_dump({"download_sizes": {f"sha256:{DIGEST}": 9, f"sha256:{DIGEST}#setup": 5}})
    )
    return path


def of(name: str, *sources: str, size: int | None = None) -> Model:
    return a_model(name=name, files=(ModelFile(f"own/{name}.onnx", (SHA,), sources, size),))


def test_the_files_of_one_image_are_counted_once(bench: Bench, sizes: Path) -> None:
    models = [
        of("a", f"{IMAGE}/a.pb"),
        of("b", f"{IMAGE}/b.pb", "https://example.org/b"),
        of("c", f"{IMAGE}/c.pb#setup"),
        of("d", "https://example.org/d", size=3),
        of("e", f"zip+https://example.org/e.zip@sha256:{DIGEST[::-1]}/e"),
        of("f"),
    ]
    whole, layer, file, archive = store.needed(models, bench.places, sizes)
    assert (whole.models, whole.files, whole.bytes) == (
        ("a", "b"),
        ("own/a.onnx", "own/b.onnx"),
        9,
    )
    assert (layer.models, layer.bytes) == (("c",), 5)
    assert (file.models, file.bytes, file.source.url) == (("d",), 3, "https://example.org/d")
    assert (archive.models, archive.bytes) == (("e",), None)


def test_a_file_comes_with_the_image_that_another_needs(bench: Bench, sizes: Path) -> None:
    elsewhere = IMAGE.replace(DIGEST, DIGEST[::-1])
    models = [
        of("a", f"{IMAGE}/a.pb"),
        of("b", f"{elsewhere}/b.pb", f"{IMAGE}/b.pb"),
        of("c", "https://example.org/c", f"{IMAGE}/c.pb"),
        of("d", "https://example.org/d"),
        of("e", "https://example.org/d"),
    ]
    image, other, same = store.needed(models, bench.places, sizes)
    assert (image.models, image.bytes) == (("a", "b", "c"), 9)
    assert (other.models, same.models) == (("d",), ("e",))


def test_what_is_prepared_or_lies_here_is_not_needed(bench: Bench) -> None:
    model = of("a", "https://example.org/a")
    assert len(store.needed([model], bench.places)) == 1
    bench.put("own/a.onnx")
    assert store.needed([model], bench.places) == ()
    bench.ensure(model)
    (bench.folder / "mirror" / "own" / "a.onnx").unlink()
    assert store.needed([model], bench.places) == ()


def test_a_mirror_with_an_address_is_asked_first(bench: Bench) -> None:
    bench.places = replace(bench.places, mirror="https://mirror.example.org/all/")
    (wanted,) = store.needed([of("a", f"{IMAGE}/a.pb", size=7)], bench.places)
    assert wanted.source.url == "https://mirror.example.org/all/own/a.onnx"
    assert wanted.bytes == 7


def test_an_alternative_that_is_here_is_taken_before_one_that_must_be_fetched(bench: Bench) -> None:
    other = a_model(name="a", files=(ModelFile("own/other.onnx", (SHA,), ()),))
    model = replace(of("a", f"{IMAGE}/a.pb"), alternatives=(other,))
    assert len(store.needed([model], bench.places)) == 1
    bench.put("own/other.onnx")
    assert store.needed([model], bench.places) == ()


def test_an_alternative_is_fetched_where_the_first_has_no_source(bench: Bench) -> None:
    other = of("a", "https://example.org/other", size=4)
    (wanted,) = store.needed([replace(of("a"), alternatives=(other,))], bench.places)
    assert wanted.bytes == 4
    assert store.obtainable(replace(of("a"), alternatives=(other,)), bench.places)
    assert not store.obtainable(of("a"), bench.places)


def test_sizes_of_the_catalogue_belong_to_its_sources() -> None:
    named = catalogue._document(catalogue.PATH)["download_sizes"]
    sources = {
        source
        for model in catalogue.models().values()
        for choice in model.choices
        for file in choice.files
        for source in file.sources
    }
    for digest in named:
        assert any(digest.partition("#")[0] in source for source in sources), digest
