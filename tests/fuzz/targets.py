"""The fuzz targets: each accepts any bytes and raises only for an unexpected error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np

from compreface_engine.api import body, form
from compreface_engine.core.errors import RequestError
from compreface_engine.core.image import decode

MAX_PIXELS: Final = 1_000_000


def decode_target(data: bytes) -> None:
    """`data` is a picture within the limit, RGB and contiguous, or refused with a known error."""
    for apply_exif in (False, True):
        try:
            decoded = decode(data, max_pixels=MAX_PIXELS, apply_exif=apply_exif)
        except RequestError as refused:
            if not str(refused).strip():
                raise AssertionError("a refusal without words") from refused
            continue
        image = decoded.image
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise AssertionError(f"no RGB picture: {image.dtype} {image.shape}")
        if not image.flags.c_contiguous or 0 in image.shape:
            raise AssertionError("not contiguous, or empty")
        if image.shape[0] * image.shape[1] > MAX_PIXELS:
            raise AssertionError(f"above the limit: {image.shape}")


def body_target(data: bytes) -> None:
    """The first line of `data` is a content type, the rest a body: bytes, or a known error."""
    content_type, _, content = data.partition(b"\n")
    try:
        if body.is_json(content_type):
            body.read_json_file(content)
        else:
            form.read_form(content, form.boundary_of(content_type))
    except RequestError:
        return


TARGETS: Final[Mapping[str, Callable[[bytes], None]]] = {
    "decode": decode_target,
    "body": body_target,
}
