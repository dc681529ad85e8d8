"""Files are read out of an image in a registry: whole and proven, or not at all."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from compreface_cli.cpu import architecture
from compreface_cli.errors import DockerError, FetchError
from compreface_cli.models import registry
from compreface_cli.models.registry.reference import Reference
from compreface_cli.models.transfer import Limits
from tests.cli.lying_registry import (
    SETUP,
    LyingRegistry,
    Member,
    Parts,
    digest_of,
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


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
@pytest.mark.parametrize(
    "lie",
    [
        Answer(b"<!DOCTYPE html><p>sign in", content_type="text/html"),
        Answer(b"<!DOCTYPE html><p>sign in"),
        Answer(b"", status=403),
        Answer(b"", status=404),
        Answer(b"x", stall_after=1),
        Answer(b"x", stall_after=0),
        Answer(b"x" * 9, drip_s=0.2),
        Answer(b"x", declared=1 << 50),
        Answer(b"", location="file:///etc/passwd", status=302),
        Answer(b"x" * 9, extra=(("Content-Encoding", "gzip"),)),
    ],
    ids=lambda lie: f"{lie.status}-{lie.content_type[-4:]}-{lie.declared}-{lie.stall_after}",
)
def test_an_answer_that_is_not_the_part_leaves_no_file(
    server: LyingRegistry, place: Path, part: str, lie: Answer
) -> None:
    parts = upstream()
    reference = server.reference(parts, "setup")
    digest = {"manifest": parts.digest, "config": parts.config, "layer": parts.layers[1]}[part]
    server.lies[digest] = [lie] * 20
    error = refused(reference, place)
    if lie.status in (403, 404):
        assert error.details["status"] == lie.status
    json.dumps(error.as_dict())


def test_a_stalled_layer_is_resumed(server: LyingRegistry, place: Path) -> None:
    parts = upstream()
    layer = parts.layers[1]
    lie = Answer(parts.contents[layer], stall_after=100, etag=f'"{layer}"')
    server.lies[layer] = [lie]
    get(server.reference(parts, "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert server.requests[-1]["range"] == "bytes=100-"


def test_429_with_retry_after_is_honoured(server: LyingRegistry, place: Path) -> None:
    pauses: list[float] = []
    parts = upstream()
    busy = Answer(b"", status=429, extra=(("Retry-After", "12"),))
    server.lies = {digest: [busy] for digest in (parts.digest, parts.config, parts.layers[1])}
    recorder = get(server.reference(parts, "setup"), place, sleep=pauses.append)
    assert pauses == [12.0, 12.0, 12.0]
    assert all("12 s" in note for note in recorder.notes)
    assert (place / "0").read_bytes() == WEIGHTS


def test_a_lasting_429_names_the_login_that_raises_the_limit(
    server: LyingRegistry, place: Path
) -> None:
    parts = upstream()
    server.lies[parts.digest] = [Answer(b"", status=429, extra=(("Retry-After", "9999"),))]
    error = refused(server.reference(parts), place)
    assert error.details["status"] == 429
    assert "9999 s" in error.message
    assert f"docker login {server.host}" in (error.hint or "")


@pytest.mark.parametrize("size", [1 << 62, -1, True, "10", None, 10**400, 3.5])
@pytest.mark.parametrize("part", ["config", "layers"])
def test_a_manifest_with_an_absurd_size_is_refused(
    server: LyingRegistry, place: Path, part: str, size: object
) -> None:
    row = {"digest": "sha256:" + "0" * 64, "size": size}
    changes: dict[str, Any] = {part: row if part == "config" else [row]}
    parts = image(tar(Member("a")), **changes)
    refused(server.reference(parts, "layer"), place)
    assert server.paths("/blobs/") == [] or part == "layers"
    assert len(server.paths("/blobs/")) <= 1  # the config


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": None},
        {"layers": []},
        {"layers": [{}] * 2000},
        {"layers": ["x"]},
        {"layers": [{"digest": "sha256:../../x", "size": 3}]},
        {"layers": [{"digest": "sha512:00", "size": 3}]},
        {"config": None},
        {"schemaVersion": 1},
        {"manifests": []},
        {"manifests": ["x", {"platform": "linux"}, {"platform": {"os": "linux"}}]},
    ],
    ids=lambda changes: json.dumps(changes)[:40],
)
def test_a_damaged_manifest_is_refused(
    server: LyingRegistry, place: Path, changes: dict[str, Any]
) -> None:
    refused(server.reference(image(tar(Member("a")), **changes)), place)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"3", b"[" * 100_000, b"\xff"])
def test_a_manifest_that_is_no_document_is_refused(
    server: LyingRegistry, place: Path, data: bytes
) -> None:
    parts = Parts(digest_of(data), {digest_of(data): data}, [], "")
    refused(server.reference(parts), place)


def test_a_layer_that_exceeds_its_size_in_the_manifest_is_cut_off(
    server: LyingRegistry, place: Path
) -> None:
    parts = upstream()
    layer = parts.layers[1]
    server.lies[layer] = [Answer(parts.contents[layer] * 50, framing="close")] * 9
    assert (
        str(len(parts.contents[layer])) in refused(server.reference(parts, "setup"), place).message
    )
    assert files(place.parent.parent / "layers") == []


def test_a_hint_that_names_no_layer_is_refused(server: LyingRegistry, place: Path) -> None:
    error = refused(server.reference(upstream(), "no such command"), place)
    assert "'no such command'" in error.message


def test_a_history_that_does_not_line_up_cannot_be_asked(
    server: LyingRegistry, place: Path
) -> None:
    parts = image(tar(Member("a", b"1")), commands=["RUN a", "RUN b"])
    refused(server.reference(parts, "RUN a"), place, "a")
    get(server.reference(parts), place, "a")
    assert (place / "0").read_bytes() == b"1"


def test_a_full_disk_is_told_and_leaves_nothing(
    server: LyingRegistry, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(900))
    with pytest.raises(FetchError) as caught:
        get(server.reference(upstream(), "setup"), place)
    assert "900" in caught.value.message
    assert files(place.parent.parent / "weights") == []


def test_a_layer_left_by_a_run_that_was_cut_off_is_not_downloaded_again(
    server: LyingRegistry, place: Path
) -> None:
    parts = upstream()
    layers = place.parent.parent / "layers"
    layers.mkdir(parents=True)
    left = layers / f"{parts.layers[1].removeprefix('sha256:')}.layer"
    left.write_bytes(parts.contents[parts.layers[1]])
    get(server.reference(parts, "setup"), place)
    assert (place / "0").read_bytes() == WEIGHTS
    assert [path.rpartition("/")[2] for path in server.paths("/blobs/")] == [parts.config]
    assert files(layers) == []


def test_an_interrupted_fetch_leaves_no_half_file(server: LyingRegistry, place: Path) -> None:
    class Stopped(BaseException):
        pass

    parts = upstream()
    layer = parts.layers[1]
    server.lies[layer] = [Answer(parts.contents[layer], cut_after=100, etag=f'"{layer}"')]

    def stop(seconds: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        get(server.reference(parts, "setup"), place, sleep=stop)
    assert files(place) == []


def test_all_files_are_written_or_none(server: LyingRegistry, place: Path) -> None:
    refused(server.reference(upstream(), "setup"), place, FACENET, "app/ml/none")
    assert files(place) == []


def test_the_local_dockers_copy_is_taken_first(server: LyingRegistry, place: Path) -> None:
    asked = []

    @contextmanager
    def local(name: str, folder: str) -> Iterator[io.BytesIO]:
        asked.append((name, folder))
        yield io.BytesIO(tar(Member("20180402-114759/20180402-114759.pb", b"local")))

    reference = server.reference(upstream())
    get(reference, place, local=local)
    assert (place / "0").read_bytes() == b"local"
    assert asked == [(reference.name, f"/{FACENET.rpartition('/')[0]}")]
    assert server.requests == []


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense" * 999, tar(Member("other")), tar(Member("x", type=tarfile.SYMTYPE)), None],
)
def test_a_local_copy_that_cannot_be_used_leaves_the_registry(
    server: LyingRegistry, place: Path, content: bytes | None
) -> None:
    @contextmanager
    def local(name: str, folder: str) -> Iterator[io.BytesIO | None]:
        yield None if content is None else io.BytesIO(content)

    recorder = get(server.reference(upstream(), "setup"), place, local=local)
    assert (place / "0").read_bytes() == WEIGHTS
    assert len(recorder.notes) == (content is not None)


def test_a_docker_that_fails_leaves_the_registry(server: LyingRegistry, place: Path) -> None:
    @contextmanager
    def local(name: str, folder: str) -> Iterator[io.BytesIO | None]:
        if folder:
            raise DockerError("it is out of order")
        yield None

    recorder = get(server.reference(upstream(), "setup"), place, local=local)
    assert (place / "0").read_bytes() == WEIGHTS
    assert "out of order" in recorder.notes[0]
