"""`cf demo`: two shipped portraits, one of them also changed, through the running engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from compreface_cli import resources
from compreface_cli.engine import embeddings
from compreface_cli.engine.client import EngineClient
from compreface_cli.errors import UnhealthyError
from compreface_cli.photos import scan

if TYPE_CHECKING:
    from PIL.Image import Image

FIRST, SECOND = resources.PORTRAIT, resources.SECOND_PORTRAIT
NAMES = {FIRST: "Eileen Collins (NASA)", SECOND: "Grace Hopper (US Navy)"}


@dataclass(frozen=True, slots=True)
class Likeness:
    """How like two pictures' largest faces are, by the engine's own coefficients; 0..1."""

    one: str
    other: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demonstration found."""

    engine: scan.Engine
    faces: tuple[tuple[str, scan.Face], ...]  # name, face: the portraits as they are
    likenesses: tuple[Likeness, ...]


def run(client: EngineClient) -> Shown:
    """Scan the portraits and the changed ones; UnhealthyError when a face is not found in one."""
    engine = scan.describe(client)
    first = (resources.portraits_dir() / FIRST).read_bytes()
    second = (resources.portraits_dir() / SECOND).read_bytes()

    def largest(name: str, data: bytes, plugins: Sequence[str]) -> scan.Face:
        faces = scan.patiently(client, data, "picture", plugins)["result"]
        if not faces:
            raise UnhealthyError(f"the engine at {client.url} found no face in {name}")
        face: scan.Face = faces[0]
        return face

    portrait = largest(FIRST, first, engine.plugins)
    other = largest(SECOND, second, engine.plugins)

    def like(face: scan.Face) -> float:
        apart = embeddings.distance(portrait["embedding"], face["embedding"])
        return embeddings.similarity(apart, engine.similarity)

    likenesses = [
        Likeness(
            NAMES[FIRST], f"herself, {what}", like(largest(what, change(first), ["calculator"]))
        )
        for what, change in CHANGES.items()
    ]
    likenesses.append(Likeness(NAMES[FIRST], NAMES[SECOND], like(other)))
    faces = ((NAMES[FIRST], portrait), (NAMES[SECOND], other))
    return Shown(engine, faces, tuple(likenesses))


def _changed(
    change: Callable[[Image], Image], format: str, **options: int
) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        from PIL import Image

        with Image.open(BytesIO(data)) as picture:
            out = BytesIO()
            change(picture.convert("RGB")).save(out, format, **options)
        return out.getvalue()

    return apply


def _mirror(picture: Image) -> Image:
    from PIL import ImageOps

    return ImageOps.mirror(picture)


def _darken(picture: Image) -> Image:
    return picture.point(lambda value: value * 0.4)


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "mirrored": _changed(_mirror, "PNG"),
    "darkened to 40 %": _changed(_darken, "PNG"),
    "re-encoded as JPEG, quality 30": _changed(lambda picture: picture, "JPEG", quality=30),
}
