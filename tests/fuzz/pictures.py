"""Pictures of every mode in every format that Pillow writes, and what else they may hold; small, made on the spot."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Iterator

import numpy as np
from damage import PNG
from PIL import Image

HEIGHT, WIDTH = 41, 23  # numbers that stand for nothing else in a header
MODES = (
    "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16",
    "I;16L", "I;16B", "I;16N",
)  # fmt: skip
# More that the writers of some formats take.
OPTIONS: dict[str, list[dict]] = {
    "JPEG": [{"progressive": True}, {"quality": 100, "subsampling": 0}, {"exif": b"Exif\0\0MM"}],
    "PNG": [{"compress_level": 0}, {"bits": 2}, {"interlace": True}],
    "TIFF": [{"compression": name} for name in
             ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "group3", "group4", "tiff_thunderscan", "webp",
              "zstd", "lzma")] + [{"big_tiff": True}],
    "WEBP": [{"lossless": True}, {"quality": 5}],
    "TGA": [{"compression": "tga_rle"}],
    "BLP": [{"blp_version": "BLP1"}, {"blp_version": "BLP2"}],
    "DDS": [{"pixel_format": name} for name in ("DXT1", "DXT3", "DXT5", "BC2", "BC3", "BC5")],
    "GIF": [{"save_all": True, "append_images": 2}],
    "MPO": [{"save_all": True, "append_images": 2}],
    "JPEG2000": [{"irreversible": True}, {"no_jp2": True}],
    "ICO": [{"bitmap_format": "bmp"}],
    "SGI": [{"bpc": 2}],
}  # fmt: skip


def picture(mode: str, height: int = HEIGHT, width: int = WIDTH) -> Image.Image:
    """A picture of a mode, of noise where its bytes are its values."""
    image = Image.new(mode, (width, height))
    values = np.random.default_rng(0)
    if mode == "F":
        return Image.fromarray(values.random((height, width), np.float32))
    if mode == "1":
        return Image.fromarray(values.random((height, width)) > 0.5)
    size = len(image.tobytes())
    return Image.frombytes(mode, image.size, values.integers(0, 120, size, dtype=np.uint8).tobytes())


def written(image: Image.Image, form: str, **options) -> bytes | None:
    """A picture as a file; None where the format cannot hold it."""
    stream = io.BytesIO()
    if "append_images" in options:
        options["append_images"] = [image.rotate(90 * turn) for turn in range(options["append_images"])]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.save(stream, form, **options)
    except Exception:  # anything: what a format cannot hold its writer refuses in its own way
        return None
    return stream.getvalue()


def every_format() -> Iterator[tuple[str, bytes]]:
    """A name and the file of every mode in every format, and with every option, that Pillow writes."""
    Image.init()
    for form in sorted(Image.SAVE):
        for mode in MODES:
            for options in ({}, *OPTIONS.get(form, [])):
                image = picture(mode) if form != "ICNS" else picture(mode, 32, 32)
                content = written(image, form, **options)
                if content:
                    yield f"{form} {mode} {options or ''}", content


def with_orientation(form: str, value: object) -> bytes | None:
    """A picture in a format whose EXIF says how it is turned."""
    exif = Image.Exif()
    exif[0x0112] = value
    return written(picture("RGB"), form, exif=exif)


def by_hand() -> Iterator[tuple[str, bytes]]:
    """Pictures in formats that Pillow reads and does not write."""
    pixels = bytes(range(12))
    yield "PSD", b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 2, 2, 8, 3) + bytes(12) + struct.pack(">H", 0) + pixels
    yield "SUN", struct.pack(">8I", 0x59A66A95, 2, 2, 24, 12, 1, 0, 0) + pixels
    cards = ["SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 3", "NAXIS2  = 4", "END"]
    yield "FITS", "".join(card.ljust(80) for card in cards).ljust(2880).encode() + pixels
    yield "XPM", b'/* XPM */\nstatic char *a[] = {\n"2 2 2 1",\n"a c #ff0000",\n"b c #00ff00",\n"ab",\n"ba"\n};\n'
    yield "PFM", b"Pf\n2 3\n-1.0\n" + struct.pack("<6f", *range(6))
    yield "plain PGM", b"P2\n2 3\n65535\n0 1 2 3 4 65535\n"
    yield "PCX", (written(picture("RGB"), "PCX") or b"")[:200]
    yield "DCX", struct.pack("<3I", 0x3ADE68B1, 12, 0) + (written(picture("L"), "PCX") or b"")
    yield "FLI", struct.pack("<IHHHHHH", 144, 0xAF11, 1, 2, 2, 8, 0) + bytes(112) + struct.pack("<IHH8x", 16, 0xF1FA, 0)
    yield "GBR", struct.pack(">5I4sI", 29, 2, 2, 2, 1, b"GIMP", 1) + b"\0" + bytes(4)
    yield "PIXAR", b"\200\350\000\000" + bytes(412) + struct.pack("<HH", 2, 2) + bytes(4) + struct.pack("<HH", 14, 2)
    yield "MCIDAS", bytes(7) + b"\x04" + struct.pack(">62I", *range(62))
    yield "CUR", b"\0\0\2\0\1\0" + (written(picture("RGB", 16, 16), "ICO", bitmap_format="bmp") or b"")[6:]
    yield "HEIC without a picture", struct.pack(">I8s4x4s", 24, b"ftypheic", b"mif1") + bytes(99)
    yield "FTEX", b"FTEX" + struct.pack("<6i", 1, 2, 2, 1, 1, 1) + struct.pack("<2i", 1, 32) + bytes(12)
    yield "XV thumbnail", b"P7 332\n#END_OF_COMMENTS\n2 2 255\n" + bytes(4)
    yield "IM", b"Image type: L image\r\nImage size (x*y): 2*2\r\nFile size (no of images): 1\r\n" + bytes(511) + pixels


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(height: int, width: int, depth: int, colour: int, rows: bytes, *more: bytes) -> bytes:
    """A PNG of whatever is said of it."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return PNG + chunk(b"IHDR", head) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def zeros(size: int) -> bytes:
    """Zeros, compressed a few hundredfold, without having them in memory."""
    packer, parts = zlib.compressobj(1), []
    for start in range(0, size, 1 << 20):
        parts.append(packer.compress(bytes(min(1 << 20, size - start))))
    return b"".join([*parts, packer.flush()])
