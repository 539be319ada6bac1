"""Decoding: files, PIL images and arrays become upright 8-bit RGB images, in the same way everywhere.

Training, testing, describing a dataset and `Encoder.encode` all decode with `to_rgb`, so the same picture gives the
same pixels. What cannot be decoded raises an ImageError that names it.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, UnidentifiedImageError

from svllreid.errors import DatasetError, ImageError

AnyImage = str | os.PathLike[str] | Image.Image | np.ndarray
ChannelOrder = Literal["rgb", "bgr"]

# The version of the decoder, raised when it gives other pixels for some files; cached pixels and features record it.
DECODING = 2
BACKGROUND = 128  # the grey value that replaces transparent pixels
ORIENTATION = 0x0112  # the EXIF tag
# The operation that turns a picture upright, by the value of that tag; 1 is upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_ADVICE = "restore it"


def open_image(path: Path) -> Image.Image:
    """Decodes an image file to an upright 8-bit RGB image; of several frames, the first.

    Raises: ImageError: the file cannot be opened, or not be decoded to its end.
    """
    with _decoding(path, _ADVICE, settings=("unreadable images",)), _open(path) as image:
        return to_rgb(image)


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of an image file when upright. It is decoded only if the file's header does not give them.

    Raises: ImageError: the file cannot be opened.
    """
    with _decoding(path, _ADVICE, settings=("unreadable images",)), _open(path) as image:
        if _orientation(image) in TURNS:
            image = to_rgb(image)
        return image.height, image.width


def any_image(image: AnyImage, name: str, channel_order: ChannelOrder = "rgb") -> Image.Image:
    """Makes an upright 8-bit RGB image of anything that `Encoder.encode` accepts as an image.

    Args:
        image: a path; a PIL image, whose current frame is used and which is not changed; or an array (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4) of uint8, uint16 (0 to 65535) or float (0 to 1).
        name: the image's name in messages.
        channel_order: order of an array's colours; a fourth channel is always alpha.
    Raises:
        ImageError: the image cannot be decoded, or has no pixels.
        DatasetError: this is not an image, or an array of another shape, type or range.
    """
    if isinstance(image, str | os.PathLike):
        return open_image(Path(image))
    if isinstance(image, np.ndarray):
        image = _from_array(image, name, channel_order)
    if isinstance(image, Image.Image):
        file = getattr(image, "filename", "")
        with _decoding(f"{name} ({file or 'a PIL image'})", "give a picture that can be decoded"):
            return to_rgb(image)
    raise DatasetError(f"{name}: an image is a path, a PIL image or a NumPy array, not a {type(image).__name__}")


def to_rgb(image: Image.Image) -> Image.Image:
    """Converts any PIL image to an upright 8-bit RGB one. An upright RGB image is returned itself.

    - Grey of more than 8 bits follows fixed rules. Mode I;16: 0..65535 becomes 0..255. Mode I (32 bit): values that all
      lie in 0..255 stay as they are; else, values that all lie in 0..65535 are taken as 16 bit; else, the range from
      the picture's smallest to its largest value becomes 0..255. Mode F (float): values that all lie in 0..1 are
      multiplied by 255; else, the picture's range becomes 0..255.
    - Transparent pixels are put over grey (128). Palette, 1-bit, CMYK, YCbCr, LAB and HSV are converted by Pillow.
    - At last the image is turned according to its EXIF orientation; EXIF data that cannot be read is ignored.

    >>> to_rgb(Image.new("L", (1, 1), 200)).getpixel((0, 0))
    (200, 200, 200)
    >>> to_rgb(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))  # transparent
    (128, 128, 128)

    Raises:
        ValueError: no pixels, or float values that are NaN or infinite.
        Exception: anything that Pillow raises, if the image is not decoded yet.
    """
    if 0 in image.size:
        raise ValueError(f"it has no pixels: {image.width} x {image.height}")
    image.load()
    turn = TURNS.get(_orientation(image))
    rgb = _rgb(image)
    if turn is None:
        return rgb
    upright = rgb.transpose(turn)
    upright.info.clear()  # or it would be turned again
    return upright


def _rgb(image: Image.Image) -> Image.Image:
    """A decoded image in 8-bit RGB, not turned."""
    if image.mode == "F" or image.mode.startswith("I"):
        return _from_deep_grey(image)
    if image.mode == "La":  # the only conversion of it that Pillow knows
        image = image.convert("LA")
    if image.has_transparency_data:
        layer = image.copy().convert("RGBA")  # converting changes the palette of what it converts
        ground = Image.new("RGB", image.size, (BACKGROUND,) * 3)
        ground.paste(layer, mask=layer)
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")  # converting RGB would copy it


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Converts the modes I;16, I and F; see `to_rgb`."""
    values = np.asarray(image)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise ValueError("it holds values that are NaN or infinite; replace them by numbers")
        grey = _from_unit(values) if _within(values, 1) else _stretched(values)
    elif image.mode == "I" and _within(values, 255):
        grey = values.astype(np.uint8)
    else:
        grey = _from_16_bit(values) if _within(values, 65535) else _stretched(values)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):  # PNG: pixels of this value are transparent
        grey[values == transparent] = BACKGROUND
    return Image.fromarray(grey).convert("RGB")


def _from_array(array: np.ndarray, name: str, channel_order: ChannelOrder) -> Image.Image:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise DatasetError(
            f"{name}: an array image is (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), channels last, not {array.shape}"
        )
    if not array.size:
        raise ImageError(f"{name} has no pixels: it is an array {array.shape}")
    pixels = _to_8_bit(array, name)
    if channels == 1:
        return Image.fromarray(pixels.reshape(array.shape[:2]))
    if channel_order == "bgr":
        pixels = pixels[..., [2, 1, 0, 3][:channels]]
    return Image.fromarray(np.ascontiguousarray(pixels))


def _to_8_bit(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return _from_16_bit(array)
    if not np.issubdtype(array.dtype, np.floating):
        raise DatasetError(f"{name}: an array image is uint8, uint16 or float in 0..1, not {array.dtype}; convert it")
    if not np.isfinite(array).all():
        raise DatasetError(f"{name} holds values that are NaN or infinite; replace them by numbers")
    if not _within(array, 1):
        raise DatasetError(
            f"{name}: a float array is in 0..1, and this one goes from {array.min():g} to {array.max():g}; scale it, "
            "or give uint8"
        )
    return _from_unit(array)


def _within(values: np.ndarray, highest: int) -> bool:
    return bool(values.min() >= 0 and values.max() <= highest)


def _from_unit(values: np.ndarray) -> np.ndarray:
    return np.rint(values.astype(np.float64) * 255).astype(np.uint8)


def _from_16_bit(values: np.ndarray) -> np.ndarray:
    """Scales 0..65535 to 0..255, so that an 8-bit value times 257 becomes that value again."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _stretched(values: np.ndarray) -> np.ndarray:
    """Scales the range from the smallest to the largest value to 0..255; all values become 128 if they are equal."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.full(values.shape, BACKGROUND, np.uint8)
    return _from_unit(np.clip((values.astype(np.float64) - low) / (high - low), 0, 1))


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # decoders raise anything; a picture is not refused for faulty EXIF data
        return 1


class _Silence:
    """A context that ignores the warnings of Pillow's decoders, since what cannot be decoded raises an error anyway.

    Python's warning filters belong to the whole process, and several threads decode at once. So the first thread that
    enters sets the filter, and the last one that leaves restores it.
    """

    def __init__(self) -> None:
        self.lock, self.inside, self.filters = threading.Lock(), 0, warnings.catch_warnings()

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.filters = warnings.catch_warnings()
                self.filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL\.")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.filters.__exit__(None, None, None)


_silence = _Silence()


@contextmanager
def _decoding(name: object, advice: str, settings: tuple[str, ...] = ()) -> Iterator[None]:
    """A context in which anything that Pillow and its decoders raise becomes an ImageError; warnings are ignored.

    Damaged files raise nearly anything: RuntimeError, struct.error, SyntaxError, OverflowError, MemoryError …

    Args:
        name: the image's name in the message.
        advice: how to fix it.
        settings: as of ReidError.
    """
    try:
        with _silence:
            yield
    except ImageError:
        raise
    except Exception as error:
        text = str(error).replace(str(name), "the file")
        if isinstance(error, UnidentifiedImageError):
            text = "it is no kind of picture that Pillow knows, or damaged at its start"
        clear = isinstance(error, OSError | ValueError) and text
        reason = text if clear else ": ".join(filter(None, (type(error).__name__, text)))
        raise ImageError(f"{name} cannot be read as an image ({reason}); {advice}", settings=settings) from None


def _open(path: Path) -> Image.Image:
    """Opens an image file and reads its header; the caller closes it."""
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        if not _is_heif(path):
            raise
        _register_heif(path)
        image = Image.open(path)
    try:
        _check_harmless(image)
    except ValueError:
        image.close()
        raise
    return image


def _check_harmless(image: Image.Image) -> None:
    if image.format == "EPS":  # Pillow would run it in Ghostscript
        raise ValueError("EPS is a program that draws, and is not run; convert it to PNG")
    limit, pixels = Image.MAX_IMAGE_PIXELS, image.width * image.height
    if limit is not None and pixels > limit:  # Pillow only warns, up to twice the limit
        raise ValueError(f"{pixels} pixels are more than the {limit} that Pillow takes for harmless; make it smaller")


def _is_heif(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(12)
    return start[4:8] == b"ftyp" and start[8:] in HEIF_BRANDS


def _register_heif(path: Path) -> None:
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise ImageError(
            f"{path} is a HEIF picture (HEIC, as phones take them), which Pillow reads with pillow-heif: install it "
            "with pip install 'svllreid[heif]', or convert the pictures to JPEG"
        ) from None
    register_heif_opener()
