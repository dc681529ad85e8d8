"""`cf demo`: scans two bundled portraits, and altered copies of one, with the running engine."""

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
    """The similarity of two pictures' largest faces, 0..1, by the engine's coefficients."""

    first: str
    second: str
    similarity: float


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demonstration."""

    engine: scan.Engine
    faces: tuple[tuple[str, scan.Face], ...]  # name and largest face of each unaltered portrait
    likenesses: tuple[Likeness, ...]


def run(client: EngineClient) -> DemoResult:
    """Scan the portraits and the altered copies; UnhealthyError when one yields no face."""
    engine = scan.describe(client)
    first = (resources.portraits_dir() / FIRST).read_bytes()
    second = (resources.portraits_dir() / SECOND).read_bytes()

    def largest(name: str, data: bytes, plugins: Sequence[str]) -> scan.Face:
        faces = scan.with_retries(client, data, "picture", plugins)["result"]
        if not faces:
            raise UnhealthyError(f"the engine at {client.url} found no face in {name}")
        face: scan.Face = faces[0]
        return face

    portrait = largest(FIRST, first, engine.plugins)
    other = largest(SECOND, second, engine.plugins)

    def likeness(name: str, face: scan.Face) -> Likeness:
        distance = embeddings.distance(portrait["embedding"], face["embedding"])
        return Likeness(NAMES[FIRST], name, embeddings.similarity(distance, engine.similarity))

    likenesses = [
        likeness(f"herself, {what}", largest(what, change(first), ["calculator"]))
        for what, change in CHANGES.items()
    ]
    likenesses.append(likeness(NAMES[SECOND], other))
    faces = ((NAMES[FIRST], portrait), (NAMES[SECOND], other))
    return DemoResult(engine, faces, tuple(likenesses))


def _altered(
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
    "mirrored": _altered(_mirror, "PNG"),
    "darkened to 40 %": _altered(_darken, "PNG"),
    "re-encoded as JPEG, quality 30": _altered(lambda picture: picture, "JPEG", quality=30),
}
