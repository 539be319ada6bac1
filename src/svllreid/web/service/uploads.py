"""Pictures that clients send: read within limits, told by their content, and refused in clear words."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, UnidentifiedImageError
from starlette.datastructures import UploadFile

from svllreid.data.images import HEIF_BRANDS, any_image
from svllreid.embedding.boxes import crop_boxes
from svllreid.errors import ImageError
from svllreid.web.errors import Refusal
from svllreid.web.service.records import Limits

FORMATS = {
    "JPEG": ".jpg",
    "MPO": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "AVIF": ".avif",
    "GIF": ".gif",
    "BMP": ".bmp",
    "TIFF": ".tif",
    "JPEG2000": ".jp2",
    "PPM": ".ppm",
    "HEIF": ".heic",
}
"""The formats that are read, by Pillow's names, with the suffix that files of them get here."""
Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 of an upright picture, in pixels."""
_decoders = threading.BoundedSemaphore(4)  # decoded pictures are large


@dataclass(frozen=True)
class Picture:
    """A picture that a client sent.

    Args:
        content: the bytes of the file.
        image: upright, 8-bit RGB.
        suffix: of a file with this content.
    """

    content: bytes
    image: Image.Image
    suffix: str


def read(files: Sequence[UploadFile], limits: Limits, most: int) -> list[bytes]:
    """The contents of uploaded files. Their names are not looked at.

    Args:
        files: of a form; empty ones, which a form sends where no file was chosen, are left out if others are there.
        limits: what the server accepts.
        most: files.
    Raises: Refusal: no file, too many, or too large ones.
    """
    given = [file for file in files if file.size or file.filename]
    if not given:
        raise Refusal(422, "no picture was sent; choose one or more")
    if len(given) > most:
        raise Refusal(413, f"{len(given)} pictures were sent; send {most} at most at once")
    contents = []
    for number, file in enumerate(given, 1):
        if (file.size or 0) > limits.file_bytes:
            raise Refusal(413, f"picture {number} is larger than {limits.file_bytes >> 20} MiB; make it smaller")
        contents.append(file.file.read(limits.file_bytes + 1))
    return contents


def decode(content: bytes, number: int, limits: Limits) -> Picture:
    """Decode a picture.

    Args:
        content: the bytes of the file.
        number: of the picture in the request, for messages.
        limits: what the server accepts.
    Raises: Refusal: it is empty, too large, animated, no picture, or damaged.
    """
    name = f"picture {number}"
    if not content:
        raise Refusal(422, f"{name} is empty")
    if len(content) > limits.file_bytes:
        raise Refusal(413, f"{name} is larger than {limits.file_bytes >> 20} MiB; make it smaller")
    with _decoders:
        image = _opened(content, name)
        if image.width * image.height > limits.pixels:
            raise Refusal(
                413, f"{name} has {image.width} x {image.height} pixels; {limits.pixels // 1_000_000} million are taken"
            )
        if image.format != "MPO" and _is_animated(image):
            raise Refusal(422, f"{name} has several frames; send one of them as a picture of its own")
        try:
            return Picture(content, any_image(image, name), FORMATS[image.format or ""])
        except ImageError:
            raise Refusal(422, f"{name} is damaged or incomplete; send it again") from None


def cut(image: Image.Image, box: Box) -> Image.Image:
    """The part of an upright picture in a box. Refusal where it has no pixel in it."""
    try:
        return Image.fromarray(crop_boxes(np.asarray(image), [box])[0])
    except ImageError:
        raise Refusal(
            422, f"the box has no pixel in the picture of {image.width} x {image.height}; draw it again"
        ) from None


def _opened(content: bytes, name: str) -> Image.Image:
    known = [kind for kind in FORMATS if kind in _registered()]
    try:
        return Image.open(io.BytesIO(content), formats=known)
    except UnidentifiedImageError:
        if content[4:8] == b"ftyp" and content[8:12] in HEIF_BRANDS:
            raise Refusal(415, f"{name} is HEIC, which this server does not read; send it as JPEG") from None
        raise Refusal(415, f"{name} is no picture that is read here; send JPEG, PNG or WebP") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Refusal(413, f"{name} has too many pixels; make it smaller") from None
    except Exception:  # decoders raise anything
        raise Refusal(422, f"{name} is damaged or incomplete; send it again") from None


@cache
def _registered() -> set[str]:
    """The formats that Pillow reads here; HEIF with pillow-heif."""
    Image.init()
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return set(Image.OPEN)
    register_heif_opener()
    return set(Image.OPEN)


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # decoders raise anything; what is damaged is said where it is decoded
        return False
