"""Files are read out of an image in a registry: whole and proven, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.cpu import architecture
from compreface_cli.errors import FetchError
from compreface_cli.models import registry
from compreface_cli.models.registry.reference import Reference
from compreface_cli.models.transfer import Limits
from tests.cli.lying_registry import (
    SETUP,
    LyingRegistry,
    Member,
    Parts,
    image,
    index,
    lying_registry,
    tar,
)
from tests.cli.lying_server import Answer
from tests.cli.test_download import Recorder

QUICK = Limits(connect_s=5, stall_s=0.3, total_s=20, tries=2, backoff_s=0.0, slow_bytes=4)
MODELS = "app/ml/.models"
FACENET = f"{MODELS}/facenet/calculator/20180402-114759/20180402-114759.pb"
WEIGHTS = bytes(range(256)) * 400


def upstream(*more: Member) -> Parts:
    """An image laid out as upstream's: base, models with the frameworks, sources."""
    return image(
        tar(Member("etc/os-release", b"debian")),
        tar(Member("usr/lib/framework.so", b"f" * 5000), Member(FACENET, WEIGHTS), *more),
        tar(Member("app/ml/src/app.py", b"pass")),
        commands=["ADD file:1 in /", SETUP, "COPY src ."],
    )


@pytest.fixture
def server() -> Iterator[LyingRegistry]:
    with lying_registry() as made:
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "weights" / "facenet"


def get(
    reference: Reference,
    place: Path,
    *wanted: str,
    environ: dict[str, str] | None = None,
    **rest: Any,
) -> Recorder:
    """Fetch these paths into files named by their number."""
    recorder = Recorder()
    rest = {"limits": QUICK, "folder": place.parent.parent / "layers", **rest}
    registry.fetch(
        reference,
        {path: place / str(number) for number, path in enumerate(wanted or (FACENET,))},
        progress=recorder.progress,
        note=recorder.note,
        environ={"HOME": str(place.parent.parent / "home"), **(environ or {})},
        **rest,
    )
    return recorder


def refused(reference: Reference, place: Path, *wanted: str, **rest: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        get(reference, place, *wanted, **rest)
    assert not files(place)
    assert reference.digest in caught.value.message
    assert caught.value.details["image"] == reference.name
    assert caught.value.hint
    return caught.value


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_file_of_an_image_is_there_whole_and_alone(server: LyingRegistry, place: Path) -> None:
    parts = upstream()
    recorder = get(server.reference(parts, "facescan.plugins.setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert files(place) == ["0"]
    assert files(place.parent.parent / "layers") == []
    assert recorder.notes == []
    blobs = [path.rpartition("/")[2] for path in server.paths("/blobs/")]
    assert blobs == [parts.config, parts.layers[1]]  # no other layer is asked for


def test_several_files_of_a_layer_come_by_one_download(server: LyingRegistry, place: Path) -> None:
    folder = f"{MODELS}/insightface/calculator/r100"
    parts = upstream(
        Member(f"./{folder}/model-symbol.json", b"{}"), Member(f"/{folder}/model-0000.params", b"p")
    )
    wanted = (f"{folder}/*-symbol.json", f"{folder}/*.params", FACENET)
    get(server.reference(parts, "plugins.setup"), place, *wanted)
    assert [(place / str(number)).read_bytes() for number in range(3)] == [b"{}", b"p", WEIGHTS]
    assert server.paths("/blobs/").count(server.paths("/blobs/")[-1]) == 1
    assert len(server.paths("/blobs/")) == 2


def test_without_a_hint_layers_are_searched_from_the_top(
    server: LyingRegistry, place: Path
) -> None:
    parts = upstream()
    get(server.reference(parts), place)
    blobs = [path.rpartition("/")[2] for path in server.paths("/blobs/")]
    assert blobs == [parts.layers[2], parts.layers[1]]


def test_the_newest_file_of_that_name_is_taken(server: LyingRegistry, place: Path) -> None:
    parts = image(tar(Member("a/b", b"old")), tar(Member("a/b", b"new"), Member("a/b", b"newest")))
    get(server.reference(parts), place, "a/b")
    assert (place / "0").read_bytes() == b"newest"


def test_an_index_leads_to_this_machines_image(server: LyingRegistry, place: Path) -> None:
    own, other = upstream(), image(tar(Member("x")))
    rows = [
        ("linux", "s390x", other),
        ("unknown", "unknown", other),
        ("linux", architecture(), own),
    ]
    get(server.reference(index(*rows)), place)
    assert (place / "0").read_bytes() == WEIGHTS


def test_an_index_without_this_machines_gives_the_first_for_linux(
    server: LyingRegistry, place: Path
) -> None:
    other = image(tar(Member("x")))
    rows = [("windows", "amd64", other), ("linux", "s390x", upstream()), ("linux", "mips", other)]
    get(server.reference(index(*rows)), place)
    assert (place / "0").read_bytes() == WEIGHTS


def test_a_token_is_asked_for_where_the_registry_wants_one(
    server: LyingRegistry, place: Path
) -> None:
    server.challenge = "bearer"
    get(server.reference(upstream(), "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert len(server.paths("/token")) == 1
    assert "scope=repository%3Aexadel%2Fcompreface-core%3Apull" in server.paths("/token")[0]


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_a_part_with_a_wrong_digest_is_refused(
    server: LyingRegistry, place: Path, part: str
) -> None:
    parts = upstream()
    reference = server.reference(parts, "setup")
    digest = {"manifest": parts.digest, "config": parts.config, "layer": parts.layers[1]}[part]
    body = bytearray(parts.contents[digest])
    body[len(body) // 2] ^= 1
    server.contents[digest] = bytes(body)
    error = refused(reference, place)
    assert "wrong hash" in error.message
    assert files(place.parent.parent / "layers") == []


def test_a_cut_layer_is_resumed(server: LyingRegistry, place: Path) -> None:
    parts = upstream()
    layer = parts.layers[1]
    lie = Answer(parts.contents[layer], cut_after=100, etag=f'"{layer}"')
    server.lies[layer] = [lie]
    recorder = get(server.reference(parts, "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert server.requests[-1]["range"] == "bytes=100-"
    assert recorder.done >= len(parts.contents[layer])


def test_a_layer_cut_in_one_run_is_resumed_by_the_next(server: LyingRegistry, place: Path) -> None:
    parts = upstream()
    layer = parts.layers[1]
    cut = Answer(parts.contents[layer], cut_after=100, etag=f'"{layer}"')
    server.lies[layer] = [cut, Answer(b"", status=500), Answer(b"", status=500)]
    reference = server.reference(parts, "setup")
    assert refused(reference, place).details["status"] == 500
    get(reference, place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert server.requests[-1]["range"] == "bytes=100-"
    assert files(place.parent.parent / "layers") == []


def test_the_manifest_is_no_longer_than_its_bound(server: LyingRegistry, place: Path) -> None:
    parts = image(tar(Member("x")), padding="x" * (5 << 20))
    assert "4194304" in refused(server.reference(parts), place, "x").message


def test_notes_are_json_free(server: LyingRegistry, place: Path) -> None:
    json.dumps(refused(server.reference(upstream()), place, "app/none").as_dict())
