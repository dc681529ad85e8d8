"""Decodes pictures to RGB within limits; the only module that imports decoders."""

from __future__ import annotations

import io
import mmap
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageFile, TiffImagePlugin, UnidentifiedImageError

from compreface_engine.core import costs
from compreface_engine.core.errors import (
    BrokenImage,
    EngineError,
    TooCostly,
    TooManyPixels,
    TruncatedHeader,
)
from compreface_engine.core.pieces import (
    MAX_READS,
    MAX_READS_IN_PYTHON,
    check_png_chunks,
    check_tiff_parts,
    tiff_part_counts,
)
from compreface_engine.core.scans import check_jpeg_parts, check_scans
from compreface_engine.core.types import Image

Data: TypeAlias = bytes | memoryview
Reserve: TypeAlias = Callable[[int, int, int], None]
"""Called before a picture is decoded, with its width, height and the peak memory in bytes. It may
be called again with more memory; an error that it raises ends the decoding."""

# The formats for Pillow. Left out: formats that start another program (EPS, WMF), containers whose
# inner size escapes the header check (ICNS), and AVIF and QOI, which the original engine refuses.
_FORMATS: Final = (
    *("JPEG", "PNG", "GIF", "WEBP", "BMP", "DIB", "ICO", "TIFF", "JPEG2000", "PPM"),
    *("TGA", "PCX", "SGI", "SUN", "MSP", "XBM", "XPM", "PSD", "IM"),
)
# Their decoders read to the end of the file, whether the picture is complete or not.
_READ_TO_THE_END: Final = ("JPEG2000",)
_PLAIN_PPM: Final = (b"P1", b"P2", b"P3")  # numbers as text, which the original refuses too
# JPEG 2000 is decoded under Python's lock; both need 15 to 20 bytes a pixel.
_MAX_PIXELS: Final = {"JPEG2000": 1 << 23, "WEBP": 1 << 26}
# Their conversion to RGB takes 30 to 50 ns a pixel.
_MAX_PIXELS_OF_MODE: Final = {"LAB": 1 << 26, "F": 1 << 26, "I": 1 << 26}
_MAX_BYTES: Final = {"JPEG2000": 1 << 24}
_COMMON_IN_TIFF: Final = (
    *("raw", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "packbits", "jpeg", "tiff_jpeg"),
    *("group3", "group4", "tiff_ccitt"),
)
_JPEG_IN_TIFF: Final = ("jpeg", "tiff_jpeg")
# A hostile LZMA stream takes 40 ns for each of up to 12 bytes a pixel.
_MAX_PIXELS_OF_RARE_TIFF: Final = 1 << 23
_MAX_PIXELS_IN_PYTHON: Final = 1 << 21  # up to 4 us a pixel
_MAX_READS_FOR_PIXELS: Final = 1 << 18
# Pillow reads it in Python, segment by segment, and joins EXIF segments in quadratic time.
_MAX_JPEG_HEADER: Final = 8 << 20  # bytes
# After these warnings simplejpeg's decoder continues to the picture's last row.
_WARNINGS: Final = ("Corrupt JPEG data", "Premature end of JPEG", "Inconsistent progression")
_BAND: Final = 1 << 18  # pixels
_ORIENTATION: Final = 0x0112
_BITS, _STRIP_LENGTH, _TILE_WIDTH, _TILE_LENGTH = 258, 278, 322, 323  # TIFF's tags
_DEEPEST_PIXEL: Final = 8  # bytes: four samples of 16 bits
_OUT_OF_MEMORY: Final = ("insufficient memory", "memory allocation failure", "out of memory")

# Pillow's own limit only warns, through a filter that all threads share; `_check_size` refuses.
Pillow.MAX_IMAGE_PIXELS = None
# Truncated files are decoded as far as they go; `_Source` notices the end.
ImageFile.LOAD_TRUNCATED_IMAGES = True


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of a picture; `truncated`: its file ended before they were complete."""

    image: Image
    truncated: bool


class _Source(io.BytesIO):
    """A file in memory that notes reads beyond its end and limits the number of reads.

    Pillow reads headers in Python, a block or a byte at a time. Raises TooCostly.
    """

    ran_out = False
    reads_left = MAX_READS

    def _count(self) -> None:
        self.reads_left -= 1
        if self.reads_left < 0:
            raise TooCostly("The picture's file is divided into too many pieces")

    def readline(self, size: int | None = -1, /) -> bytes:
        self._count()
        return super().readline(size)

    def read(self, size: int | None = -1, /) -> bytes:
        self._count()
        data = super().read(size)
        if not data and size:
            self.ran_out = True
        return data


def _no_reservation(width: int, height: int, peak: int) -> None:
    """The `Reserve` of an unlimited memory."""


def decode(
    data: Data, *, max_pixels: int, apply_exif: bool = False, reserve: Reserve = _no_reservation
) -> Decoded:
    """The first frame of a picture, uint8 [H, W, 3] RGB, in stored orientation by default.

    Raises BrokenImage where the data is not a readable picture, TruncatedHeader where it ends
    before the first pixel, TooManyPixels where the header announces more than `max_pixels` or than
    the limit of a format that is costly to decode, TooCostly for files made to be slow, and
    MemoryError, whatever the picture, where memory runs out.
    """
    kept = 0.0
    if data[:3] == b"\xff\xd8\xff":
        scans = check_scans(data)
        kept = scans.kept
        decoded = _decode_jpeg(data, kept, max_pixels, reserve, turns=apply_exif)
        if decoded is not None:
            return _turned(decoded, _orientation(data[scans.exif])) if apply_exif else decoded
        if scans.header > _MAX_JPEG_HEADER:
            raise TooCostly(
                f"The JPEG, of a rare kind or broken, has {scans.header} bytes before its first "
                f"scan, at most {_MAX_JPEG_HEADER} are read"
            )
    return _decode_other(data, kept, max_pixels, apply_exif, reserve)


def _decode_jpeg(
    data: Data, kept: float, max_pixels: int, reserve: Reserve, *, turns: bool
) -> Decoded | None:
    """libjpeg-turbo's pixels; None where the file needs Pillow: CMYK, rare codings, broken."""
    try:
        # Strict: after a warning about the header, no row would be written below.
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except (ValueError, KeyError):  # KeyError: a subsampling without a name
        return None
    _check_size(width, height, max_pixels)
    if colours not in ("YCbCr", "Gray", "RGB"):
        return None
    size = width * height * 3
    peak = costs.jpeg_bytes(kept, width, height)
    _allocate(reserve, width, height, max(peak, 2 * size) if turns else peak)
    memory = np.empty(size, np.uint8)
    try:
        whole = simplejpeg.decode_jpeg(data, "RGB", buffer=memory.data)
        return Decoded(whole, truncated=False)
    except ValueError as error:
        reason = str(error)
    if _is_out_of_memory(reason):
        raise MemoryError(reason)
    if not reason.startswith(_WARNINGS):
        return None
    # With a warning every row is written, as far as the file goes.
    return Decoded(memory.reshape(height, width, 3), truncated="premature end" in reason.lower())


def _decode_other(
    data: Data, kept: float, max_pixels: int, apply_exif: bool, reserve: Reserve
) -> Decoded:
    check_png_chunks(data)
    if data[:2] in _PLAIN_PPM:
        raise BrokenImage
    canvas = costs.webp_size(data)
    if canvas is not None:  # Pillow allocates it on opening
        _check_size(*canvas, min(max_pixels, _MAX_PIXELS["WEBP"]))
        _allocate(reserve, *canvas, costs.other_bytes("WEBP", "RGBA", *canvas, data))
    source = _Source(data)
    try:
        for width, height in _icon_sizes(data):  # Pillow decodes an icon on opening
            _check_size(width, height, min(max_pixels, _MAX_PIXELS_IN_PYTHON))
            _allocate(reserve, width, height, costs.other_bytes("ICO", "RGBA", width, height, data))
        with Pillow.open(source, formats=_FORMATS) as picture:
            _check_size(*picture.size, max_pixels)
            source.reads_left = _check_cost(picture, len(data))
            width, height = picture.size
            peak = costs.other_bytes(picture.format or "", picture.mode, width, height, data, kept)
            peak += _piece_bytes(picture, data)
            _allocate(reserve, width, height, peak + apply_exif * 3 * width * height)
            source.ran_out = False
            picture.load()
            cut_short = source.ran_out and picture.format not in _READ_TO_THE_END
            decoded = Decoded(_to_rgb(picture), truncated=cut_short)
            if apply_exif:
                decoded = _turned(decoded, picture.getexif().get(_ORIENTATION, 1))
            return decoded
    except (EngineError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BrokenImage from error
    except OSError as error:
        if _is_out_of_memory(str(error)):
            raise MemoryError(str(error)) from error
        if "Truncated File Read" in str(error):
            raise TruncatedHeader from error
        raise BrokenImage from error
    except Exception as error:  # decoders raise any error on hostile bytes
        raise BrokenImage from error


def _allocate(reserve: Reserve, width: int, height: int, peak: int) -> None:
    """Reserves the memory, then checks that the system has the address space for it.

    Some decoders treat a failed allocation like the end of the file, and Pillow hides which it was.
    """
    reserve(width, height, peak)
    if sys.platform == "win32" or peak < 1:
        return
    try:
        mmap.mmap(-1, peak, flags=mmap.MAP_PRIVATE).close()
    except OSError as error:
        raise MemoryError(f"no address space of {peak} bytes") from error


def _is_out_of_memory(text: str) -> bool:
    """Whether a message of libjpeg or Pillow means that memory ran out."""
    return any(words in text.lower() for words in _OUT_OF_MEMORY)


def _piece_bytes(picture: Pillow.Image, data: Data) -> int:
    """The bytes that a TIFF's decoder holds beside the picture: a strip, or a tile of any size.

    Raises TooCostly where the JPEGs in them have more scans than any encoder makes.
    """
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return 0
    held = 0
    if picture.info.get("compression") in _JPEG_IN_TIFF:
        held = int(2 * check_jpeg_parts(data, tiff_part_counts(tags)))
    return held + _strip_or_tile_bytes(picture, tags)


def _strip_or_tile_bytes(picture: Pillow.Image, tags: TiffImagePlugin.ImageFileDirectory_v2) -> int:
    width, height = (int(tags.get(tag, 0)) for tag in (_TILE_WIDTH, _TILE_LENGTH))
    if width and height:
        return width * height * _DEEPEST_PIXEL
    rows = min(picture.height, int(tags.get(_STRIP_LENGTH, picture.height)))
    bits = sum(int(depth) for depth in tags.get(_BITS, (1,)))
    return picture.width * rows * min(_DEEPEST_PIXEL, -(-bits // 8))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise TooManyPixels(width * height, max_pixels)
    if width < 1 or height < 1:
        raise BrokenImage


def _icon_sizes(data: Data) -> Iterator[tuple[int, int]]:
    """The real sizes of the pictures in an icon; its directory may state smaller ones."""
    if data[:4] != b"\0\0\1\0":
        return
    (count,) = struct.unpack_from("<H", data, 4)
    for entry in range(count):
        (offset,) = struct.unpack_from("<I", data, 6 + 16 * entry + 12)
        if bytes(data[offset : offset + 8]) == b"\x89PNG\r\n\x1a\n":
            yield struct.unpack_from(">II", data, offset + 16)
        else:
            width, height = struct.unpack_from("<ii", data, offset + 4)
            yield abs(width), abs(height)


def _check_cost(picture: Pillow.Image, size: int) -> int:
    """The number of reads that the decoder of `picture` may make in its `size` bytes.

    Formats that Pillow decodes slowly, with many copies or under Python's lock have lower limits of
    pixels; large photographs do not come in them. Raises TooManyPixels and TooCostly.
    """
    reads = _MAX_READS_FOR_PIXELS
    most = _MAX_PIXELS.get(picture.format or "", _MAX_PIXELS_OF_MODE.get(picture.mode))
    if any(tile[0] in Pillow.DECODERS for tile in getattr(picture, "tile", ())):
        most, reads = _MAX_PIXELS_IN_PYTHON, MAX_READS_IN_PYTHON
    if most is not None:
        _check_size(*picture.size, most)
    most_bytes = _MAX_BYTES.get(picture.format or "", size)
    if size > most_bytes:
        raise TooCostly(
            f"The {picture.format} file has {size} bytes, at most {most_bytes} are decoded"
        )
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        if picture.info.get("compression") not in _COMMON_IN_TIFF:
            _check_size(*picture.size, _MAX_PIXELS_OF_RARE_TIFF)
        check_tiff_parts(picture.tag_v2, *picture.size)
    return reads


def _to_rgb(picture: Pillow.Image) -> Image:
    """The RGB pixels of any mode: alpha dropped, grey repeated, deep samples cut to the high byte.

    It converts band by band, to hold no third picture beside the two.
    """
    whole = np.empty((picture.height, picture.width, 3), np.uint8)
    factor = _to_8_bit(picture) if picture.mode in ("I", "F") else 1.0
    for rows, band in _bands(picture):
        whole[rows] = _band_to_rgb(band, factor)
    return whole


def _bands(picture: Pillow.Image) -> Iterator[tuple[slice, Pillow.Image]]:
    step = max(1, _BAND // picture.width)
    for top in range(0, picture.height, step):
        bottom = min(top + step, picture.height)
        yield slice(top, bottom), picture.crop((0, top, picture.width, bottom))


def _band_to_rgb(band: Pillow.Image, factor: float) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], or [H, W, 1] for grey; `factor` scales the modes I and F to 0..255."""
    mode = band.mode
    if mode.startswith("I;16"):
        dtype = np.uint16 if mode == "I;16" else np.dtype(">u2" if mode == "I;16B" else "<u2")
        deep = np.frombuffer(band.tobytes(), dtype).reshape(band.height, band.width, 1)
        return (deep >> 8).astype(np.uint8)
    if mode in ("I", "F"):
        samples = np.nan_to_num(np.asarray(band, np.float64)) * factor
        return np.clip(samples, 0, 255).astype(np.uint8)[..., None]
    if mode == "1":
        # The original reads values 0 and 1 of 255, a black picture; the contract keeps that.
        return np.asarray(band).astype(np.uint8)[..., None]
    if mode in ("LA", "La", "RGBA", "RGBX", "RGBa"):
        return np.asarray(band)[..., : 1 if mode in ("LA", "La") else 3]
    return np.asarray(band if mode == "RGB" else band.convert("RGB"))


def _to_8_bit(picture: Pillow.Image) -> float:
    """The factor for samples of unknown range, guessed from the largest: 0..1, 255 or 65535."""
    bands = (np.nan_to_num(np.asarray(band, np.float64)) for _, band in _bands(picture))
    top = max(float(samples.max(initial=0.0)) for samples in bands)
    return 255.0 if 0 < top <= 1 else 1.0 if top <= 255 else 1 / 256 if top < 65536 else 255 / top


def _orientation(exif: Data) -> int:
    metadata = Pillow.Exif()
    try:
        metadata.load(bytes(exif))
        return int(metadata.get(_ORIENTATION, 1))
    except MemoryError:
        raise
    except Exception:  # unreadable metadata does not make the picture unreadable
        return 1


def _turned(decoded: Decoded, orientation: int) -> Decoded:
    """The picture rotated by its EXIF orientation, 1 to 8; other values are ignored."""
    image = decoded.image
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return Decoded(np.ascontiguousarray(image), decoded.truncated)
