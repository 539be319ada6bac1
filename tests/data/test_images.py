"""Decoding: every use of an image gets the same upright RGB pixels; errors for images that cannot be decoded."""

import struct
import sys
import warnings
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from torchvision.transforms.v2.functional import pil_to_tensor

from svllreid.data.datasets import ImageDataset, TrainDataset
from svllreid.data.decodable import keep_decodable
from svllreid.data.describe import describe
from svllreid.data.images import TURNS, open_image, to_rgb
from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import ImageError
from svllreid.types import Sample, SideRows, Splits
from svllreid.viz.canvas import FRAME, GAP, LINE, TOP
from svllreid.viz.sheet import draw_sheet

HEIGHT, WIDTH = 6, 4
COLOURS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
INDEX = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
GREY = 10 * INDEX
RAMP = INDEX / INDEX.max()
ALPHA = np.where(INDEX < 10, 0, 255).astype(np.uint8)  # the upper rows are transparent
INKS = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
INKS[0, :3] = (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 0, 255)
INKS_AS_RGB = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
INKS_AS_RGB[0, :3] = (0, 255, 255), (255, 0, 255), (0, 0, 0)


def rgb(values):
    """(H, W, 3) of a grey (H, W), or of one grey or one colour."""
    values = np.asarray(values)
    return np.broadcast_to(values if values.shape == (3,) else values[..., None], (HEIGHT, WIDTH, 3)).astype(np.uint8)


def hidden(pixels, where):
    """The pixels, those that are transparent in grey."""
    return np.where(where[..., None], 128, pixels).astype(np.uint8)


def image(values, dtype=np.uint8, transparency=None):
    found = Image.fromarray(np.asarray(values).astype(dtype))
    return found if transparency is None else with_key(found, transparency)


def flat(mode, colour):
    return Image.new(mode, (WIDTH, HEIGHT), colour)


def with_key(image, transparency):
    image.info["transparency"] = transparency
    return image


def palette(transparency=None):
    found = Image.frombytes("P", (WIDTH, HEIGHT), INDEX.tobytes())
    found.putpalette(COLOURS.reshape(-1, 3).tobytes())
    return found if transparency is None else with_key(found, transparency)


# A file name (empty: of a mode that stands in no file), the picture, and the pixels it must give.
PICTURES = {
    **{
        f"RGB {suffix}": (f"a.{suffix}", image(COLOURS), COLOURS)
        for suffix in ("png", "bmp", "ppm", "tga", "tif", "jp2", "qoi")
    },
    "grey": ("a.png", image(GREY), rgb(GREY)),
    "1-bit": ("a.png", image(INDEX > 9, bool), rgb(255 * (INDEX > 9))),
    "palette": ("a.png", palette(), COLOURS),
    "palette in GIF": ("a.gif", palette(), COLOURS),
    "palette with a transparent colour": ("a.png", palette(3), hidden(COLOURS, INDEX == 3)),
    "palette with a transparent colour in GIF": ("a.gif", palette(3), hidden(COLOURS, INDEX == 3)),
    "palette with alpha": ("a.png", palette(ALPHA.tobytes()), hidden(COLOURS, ALPHA == 0)),
    "alpha": ("a.png", image(np.dstack([COLOURS, ALPHA])), hidden(COLOURS, ALPHA == 0)),
    "alpha of a half": ("a.png", flat("RGBA", (0, 0, 254, 128)), rgb([64, 64, 191])),
    "grey with alpha": ("a.png", image(np.dstack([GREY, ALPHA])), hidden(rgb(GREY), ALPHA == 0)),
    "grey with a transparent value": ("a.png", image(GREY, transparency=50), hidden(rgb(GREY), GREY == 50)),
    "a transparent colour": ("a.png", with_key(flat("RGB", (1, 2, 3)), (1, 2, 3)), rgb(128)),
    "16-bit": ("a.png", image(65535 * RAMP, np.uint16), rgb(np.rint(np.floor(65535 * RAMP) / 257))),
    "16-bit in TIFF": ("a.tif", image(257 * GREY.astype(int), np.uint16), rgb(GREY)),
    "16-bit in PGM": ("a.pgm", image(257 * GREY.astype(int), np.uint16), rgb(GREY)),
    "16-bit with a transparent value": (
        "a.png",
        image(257 * GREY.astype(int), np.uint16, transparency=257 * 50),
        hidden(rgb(GREY), GREY == 50),
    ),
    "32-bit of 8 bits": ("a.tif", image(GREY, np.int32), rgb(GREY)),
    "32-bit of 16 bits": ("a.tif", image(257 * GREY.astype(int), np.int32), rgb(GREY)),
    "32-bit": ("a.tif", image(23000 * INDEX.astype(int) - 10**5, np.int32), rgb(np.rint(255 * RAMP))),
    "float in 0..1": ("a.tif", image(RAMP, np.float32), rgb(np.rint(255 * RAMP))),
    "float in degrees": ("a.tif", image(60 * RAMP - 20, np.float32), rgb(np.rint(255 * RAMP))),
    "float of one value": ("a.tif", image(300 + 0 * RAMP, np.float32), rgb(128)),
    "CMYK": ("a.tif", Image.frombytes("CMYK", (WIDTH, HEIGHT), INKS.tobytes()), INKS_AS_RGB),
    "LAB": ("a.tif", flat("LAB", (255, 128, 128)), rgb(255)),
    "YCbCr": ("", flat("YCbCr", (255, 128, 128)), rgb(255)),
    "HSV": ("", flat("HSV", (0, 255, 255)), rgb([255, 0, 0])),
    "RGBX": ("", flat("RGBX", (1, 2, 3, 0)), rgb([1, 2, 3])),
    "premultiplied": ("", flat("RGBa", (0, 0, 0, 0)), rgb(128)),
    "premultiplied grey": ("", flat("La", (0, 0)), rgb(128)),
    "palette and alpha": ("", flat("PA", (0, 0)), rgb(128)),
    "16-bit big-endian": ("", flat("I;16B", 2570), rgb(10)),
}
TURNED = dict.fromkeys(range(9), COLOURS) | {
    2: COLOURS[:, ::-1],
    3: COLOURS[::-1, ::-1],
    4: COLOURS[::-1],
    5: COLOURS.swapaxes(0, 1),
    6: np.rot90(COLOURS, -1),
    7: np.rot90(COLOURS, 2).swapaxes(0, 1),
    8: np.rot90(COLOURS),
}


class Pixels:
    """An embedder whose features are the pixels."""

    device, dim = torch.device("cpu"), 0
    spec = SimpleNamespace(sie_camera=False, sie_view=False, precision="32")

    def __call__(self, images, camids, viewids):
        return images.flatten(1)


@pytest.fixture(scope="module")
def encoder():
    def transform(picture):
        return pil_to_tensor(picture).float()

    return FeatureEncoder(Pixels(), transform, SideRows())


def through_every_door(path, encoder, folder):
    """The pixels (H, W, 3) of a file by the name of each door."""
    transform = SimpleNamespace(resize=pil_to_tensor, augment=lambda pixels, seed: (pixels,))
    sample = Sample(path, 1)
    height, width = np.asarray(open_image(path)).shape[:2]
    sizes = describe(Splits("folder", (sample,), (), ())).sizes
    assert (sizes.heights.low, sizes.widths.low) == (height, width)
    draw_sheet(folder / "sheet.png", [[sample]], "", open_image, size=(height, width))
    with Image.open(folder / "sheet.png") as page:
        left, top = GAP + FRAME, TOP + LINE + FRAME
        sheet = np.asarray(page.crop((left, top, left + width, top + height)))
    with Image.open(path) as opened:
        features = encoder.encode([path, opened])
    found = {
        "training": TrainDataset([sample], {1: 0}, transform)[0, 0][0][0],
        "testing": ImageDataset([sample], pil_to_tensor)[0][0][0],
        "encoding a path": features[0].reshape(3, height, width),
        "encoding a PIL image": features[1].reshape(3, height, width),
    }
    return {"sheet": sheet} | {door: np.asarray(pixels).transpose(1, 2, 0) for door, pixels in found.items()}


@pytest.mark.parametrize("name", PICTURES)
def test_every_mode_at_every_door(name, encoder, tmp_path):
    file, picture, expected = PICTURES[name]
    tolerance = 1 if name == "LAB" else 0  # converted by a colour management system
    direct = np.asarray(to_rgb(picture))  # before it is saved, which shows a palette that was changed
    np.testing.assert_allclose(direct.astype(int), expected.astype(int), atol=tolerance)
    if file:
        picture.save(tmp_path / file, **({"transparency": picture.info["transparency"]} if picture.info else {}))
        for door, pixels in through_every_door(tmp_path / file, encoder, tmp_path).items():
            assert pixels.shape == expected.shape, door
            np.testing.assert_allclose(pixels.astype(int), expected.astype(int), atol=tolerance, err_msg=door)


@pytest.mark.parametrize("value", range(10))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_every_orientation_at_every_door(suffix, value, encoder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = value
    path = tmp_path / f"a.{suffix}"
    image(COLOURS).save(path, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    for door, pixels in through_every_door(path, encoder, tmp_path).items():
        np.testing.assert_array_equal(pixels, TURNED.get(value, COLOURS), err_msg=door)


@pytest.mark.parametrize("suffix", ["jpg", "avif", "mpo"])
def test_orientation_of_lossy_files(suffix, tmp_path):
    exif = Image.Exif()
    path, turned = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    smooth = Image.linear_gradient("L").resize((16, 32)).convert("RGB")
    smooth.save(path)
    for value, turn in TURNS.items():
        exif[0x0112] = value
        smooth.save(turned, exif=exif)
        expected = np.asarray(open_image(path).transpose(turn)).astype(int)
        np.testing.assert_allclose(np.asarray(open_image(turned)).astype(int), expected, atol=2)


def test_a_turned_picture_is_not_turned_again(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image(COLOURS).save(tmp_path / "a.png", exif=exif)
    upright = open_image(tmp_path / "a.png")
    assert upright.size == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(np.asarray(to_rgb(upright)), np.asarray(upright))


def test_what_a_caller_holds_stays_as_it_is():
    for _, picture, _ in PICTURES.values():
        before = picture.mode, picture.tobytes(), dict(picture.info)
        to_rgb(picture)
        assert (picture.mode, picture.tobytes(), picture.info) == before


def test_ordinary_files_are_not_copied(tmp_path):
    image(COLOURS).save(tmp_path / "a.jpg")
    found = open_image(tmp_path / "a.jpg")
    assert isinstance(found, JpegImageFile)  # the decoder's own image
    with Image.open(tmp_path / "a.jpg") as plain:
        np.testing.assert_array_equal(np.asarray(found), np.asarray(plain))


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_the_first_of_several_frames(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    first, second = flat("RGB", (255, 255, 255)), flat("RGB", (0, 0, 0))
    first.save(path, save_all=True, append_images=[second], **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(path) as opened:
        assert opened.n_frames == 2
    np.testing.assert_array_equal(np.asarray(open_image(path)), rgb(255))


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0not TIFF at all", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x09\0\0"]
)
def test_exif_that_cannot_be_read_says_nothing(exif, tmp_path):
    image(COLOURS).save(tmp_path / "a.png", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's on the EXIF
        np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.png")), COLOURS)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_values_that_are_no_numbers_are_refused(value, tmp_path):
    values = RAMP.astype(np.float32)
    values[0, 0] = value
    image(values, np.float32).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif cannot be read.*NaN or infinite.*restore it"):
        open_image(tmp_path / "a.tif")


def test_pictures_without_pixels_are_refused():
    with pytest.raises(ValueError, match="no pixels: 0 x 5"):
        to_rgb(Image.new("RGB", (0, 5)))


RAISED = [
    *(RuntimeError("Failed to decode frame 0"), struct.error("unpack"), SyntaxError("broken"), OverflowError("big")),
    *(MemoryError(), EOFError(), KeyError(5), IndexError("range"), TypeError("type"), zlib.error("inflate")),
    *(AssertionError(), NotImplementedError(), AttributeError("fp"), ZeroDivisionError("zero"), RecursionError()),
    *(
        OSError("truncated"),
        ValueError("buffer"),
        Image.DecompressionBombError("bomb"),
        UnicodeDecodeError("a", b"", 0, 1, "b"),
    ),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["load", "open"])
def test_whatever_a_decoder_raises_names_the_file(error, where, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    image(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setattr(*((ImageFile.ImageFile, "load") if where == "load" else (Image, "open")), fail)
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "a.png")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'a.png'} cannot be read as an image (") and "()" not in text
    assert keep_decodable([Sample(tmp_path / "a.png", 1)])[0] == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    image(COLOURS).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(error):
        open_image(tmp_path / "a.png")


def test_bombs_are_refused_unread(tmp_path, monkeypatch):
    flat("RGB", 0).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH - 1)
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("decoded"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(ImageError, match=r"24 pixels are more than the 23"):
            open_image(tmp_path / "a.png")


def test_no_program_is_run_for_an_image(tmp_path, monkeypatch):
    flat("RGB", 0).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.jpg")
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("Ghostscript"))
    with pytest.raises(ImageError, match=r"EPS .* convert it"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a.heic", "really_heic.jpg"])
def test_heif_without_its_plug_in_names_it(name, tmp_path, monkeypatch):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"HEIF.*pip install 'svllreid\[heif\]'"):
        open_image(tmp_path / name)


def test_heif_is_read_where_its_plug_in_is_installed(tmp_path, monkeypatch):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))

    class HeifImageFile(ImageFile.ImageFile):
        format = "TEST-HEIF"

        def _open(self):
            self._size, self._mode = (WIDTH, HEIGHT), "RGB"
            self.tile = [("raw", (0, 0, WIDTH, HEIGHT), 24, ("RGB", 0, 1))]

    def register():
        monkeypatch.setattr(Image, "ID", [*Image.ID, "TEST-HEIF"])
        monkeypatch.setitem(Image.OPEN, "TEST-HEIF", (HeifImageFile, lambda start: start[4:12] == b"ftypheic"))

    monkeypatch.setitem(sys.modules, "pillow_heif", SimpleNamespace(register_heif_opener=register))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "a.heic")), rgb(0))


def whole_files():
    """A small file of each format, and of PNG several."""
    for name in (
        "RGB png",
        "palette with alpha",
        "16-bit",
        "RGB bmp",
        "RGB tif",
        "palette in GIF",
        "RGB jp2",
        "RGB qoi",
    ):
        file, picture, _ = PICTURES[name]
        yield file.partition(".")[2], picture
    for suffix in ("jpg", "webp", "avif"):
        yield suffix, image(COLOURS)


def test_damaged_files_are_image_errors_or_pictures(tmp_path):
    random = np.random.default_rng(0)
    refused = 0
    for suffix, picture in whole_files():
        picture.save(tmp_path / f"whole.{suffix}")
        whole = (tmp_path / f"whole.{suffix}").read_bytes()
        for _ in range(15):
            content = np.frombuffer(whole[: random.integers(len(whole) // 2, len(whole) + 1)], np.uint8).copy()
            content[random.integers(0, len(content), 4)] = random.integers(0, 256, 4)
            path = tmp_path / f"damaged.{suffix}"
            path.write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    assert open_image(path).mode == "RGB"
                except ImageError as error:
                    assert str(path) in str(error)
                    refused += 1
    assert refused > 50


def test_warnings_of_decoders_stay_inside(tmp_path):
    Image.new("1", (9500, 9500)).save(tmp_path / "large.png")
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        with pytest.raises(ImageError, match="90250000 pixels are more than"):
            open_image(tmp_path / "large.png")
        warnings.warn("of others", stacklevel=1)
    assert [str(warning.message) for warning in escaped] == ["of others"]


def test_a_file_of_another_kind_is_said_to_be_one(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(
        ImageError, match=r"a\.jpg cannot be read as an image \(it is no kind of picture .*\); restore it$"
    ):
        open_image(tmp_path / "a.jpg")
