"""Pictures of every mode and format, turned, damaged or made to fill the memory, through every door for images."""

import random
import shutil
import struct
import warnings
import zlib
from itertools import product

import numpy as np
import pytest
import torch
from campaign import snapshot
from command_line import call, check_call
from damage import damaged, declared, with_checksums
from pictures import HEIGHT, MODES, WIDTH, by_hand, chunk, every_format, picture, png, with_orientation, written, zeros
from PIL import Image

from svllreid.data.datasets import ImageDataset, TrainDataset
from svllreid.data.describe import describe
from svllreid.data.images import open_image
from svllreid.data.transforms import TestTransform, TrainTransform
from svllreid.errors import DatasetError, ImageError
from svllreid.types import Sample, Splits

pytestmark = pytest.mark.slow
SIZE, HALF = (32, 16), (0.5, 0.5, 0.5)
PIXEL = 24  # bytes of memory that a pixel may take while it is decoded
SUFFIXES = ("jpg", "png", "tif", "gif", "webp", "bmp", "avif", "jp2", "ppm", "")


@pytest.fixture(scope="module")
def doors(encoder):
    """Sends a file through every door: a picture that all of them take, or the error of all of them."""
    train_transform = TrainTransform(SIZE, HALF, HALF, flip=0.5, padding=2, erase=0.5, augmented=2)
    test_transform = TestTransform(SIZE, HALF, HALF)

    def enter(path):
        sample = Sample(path, 1, 0, 0)
        train = TrainDataset([sample], {1: 0}, train_transform)[0, 7]
        test = ImageDataset([sample], test_transform)[0]
        described = taken(lambda: describe(Splits("folder", (sample,), (), ())).sizes.frequent[0][0])
        features = taken(lambda: encoder.encode([path]))
        try:
            picture = open_image(path)
        except ImageError as error:
            for found in (train, test, features):
                assert isinstance(found, DatasetError) and str(found) == str(error)
            assert str(path) in str(error) and "\n" not in str(error)
            raise
        assert picture.mode == "RGB" and 0 not in picture.size
        assert described == (picture.height, picture.width)
        assert all(image.shape == (3, *SIZE) and torch.isfinite(image).all() for image in (*train[0], *test[0]))
        assert features.shape[0] == 1 and np.isfinite(features).all()
        return picture

    return enter


def taken(door):
    """What a door gives, or its error."""
    try:
        return door()
    except DatasetError as error:
        return error


@pytest.fixture(scope="module")
def whole():
    return [*every_format(), *by_hand()]


def test_every_mode_and_format(campaign, doors, whole, tmp_path):
    accepted = set()
    with campaign("whole pictures of every mode and format", tmp_path) as run:
        for name, content in whole:
            path = tmp_path / f"{len(name)}.bin"
            path.write_bytes(content)
            with run.attempt(name):
                doors(path)
                accepted.add(name.split()[0])
            path.unlink()
    assert accepted >= {"JPEG", "PNG", "TIFF", "GIF", "WEBP", "BMP", "AVIF", "JPEG2000", "PPM", "TGA", "ICO", "MPO"}


def test_orientations(campaign, doors, tmp_path):
    with campaign("pictures turned by EXIF", tmp_path) as run:
        for form in ("JPEG", "PNG", "WEBP", "TIFF", "MPO", "AVIF", "JPEG2000"):
            for value in (*range(10), 255, 65535, "6", "top", (1, 2), b"6"):
                content = with_orientation(form, value)
                if content is None:
                    continue
                path = tmp_path / "turned.jpg"
                path.write_bytes(content)
                with run.attempt(f"{form}, orientation {value!r}"):
                    turned = doors(path)
                    sideways = value in (5, 6, 7, 8) and form != "JPEG2000"
                    assert turned.size == ((HEIGHT, WIDTH) if sideways else (WIDTH, HEIGHT))


@pytest.mark.parametrize("part", range(2))
def test_damaged(part, campaign, doors, whole, tmp_path):
    contents = [content for _, content in whole]
    with campaign(f"damaged pictures, part {part + 1}", tmp_path, memory=PIXEL * Image.MAX_IMAGE_PIXELS) as run:
        for number in range(part * 1500, (part + 1) * 1500):
            draw = random.Random(f"picture {number}")
            name, content = draw.choice(whole)
            content = declared(draw, content, HEIGHT, WIDTH) if number % 5 == 0 else damaged(draw, content, contents)
            if number % 2:
                content = with_checksums(content)
            path = tmp_path / f"a.{draw.choice(SUFFIXES)}"
            path.write_bytes(content)
            with run.attempt(f"picture {number}, {name}"):
                doors(path)
            path.unlink()


def bombs():
    """Small files that unfold, or say they do, to more than a picture has."""
    large, dot = png(12000, 10000, 1, 0, zeros(12000 * 1251)), zlib.compress(bytes(6))
    yield "PNG of 4 gigapixels", png(65535, 65535, 8, 2, zlib.compress(bytes(9)))
    yield "PNG just over the limit", png(9500, 9500, 1, 0, zeros(9500 * 1189))
    yield "PNG in the range where Pillow warns", large
    yield "PNG with a large comment", png(2, 2, 8, 0, dot, chunk(b"zTXt", b"a\0\0" + zeros(600 << 20)))
    yield "PNG with a large profile", png(2, 2, 8, 0, dot, chunk(b"iCCP", b"a\0\0" + zeros(600 << 20)))
    yield "PNG with more rows than it says", png(2, 2, 8, 0, zeros(600 << 20))
    yield "ICO with a large PNG", struct.pack("<3HBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, 32, len(large), 22) + large
    yield "PPM", b"P6 60000 60000 255\n" + bytes(99)
    yield "PPM of long numbers", b"P3 1 1 255\n" + b"9" * 5_000_000
    yield "BMP", b"BM" + struct.pack("<IIIIiiHHIIIIII", 99, 0, 54, 40, 2**31 - 1, 2**31 - 1, 1, 24, 0, 0, 0, 0, 0, 0)
    yield "TGA", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, 65535, 65535, 24, 0) + bytes(99)
    screen = struct.pack("<HHBBB", 65535, 65535, 0xF7, 0, 0) + bytes(768)
    yield "GIF", b"GIF89a" + screen + b",\0\0\0\0\xff\xff\xff\xff\0\x08\0;"
    yield "many GIF frames", (written(Image.new("L", (300, 300)), "GIF") or b"")[:-1] * 2000
    yield "PSD", b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 30000, 30000, 8, 3) + bytes(14) + bytes(99)
    cards = ("SIMPLE  = T", "BITPIX  = -64", "NAXIS   = 2", "NAXIS1  = 99999", "NAXIS2  = 99999", "END")
    yield "FITS", "".join(card.ljust(80) for card in cards).ljust(2880).encode()
    yield "zeros", bytes(50_000_000)
    yield "empty", b""


def test_bombs(campaign, doors, tmp_path):
    with campaign("pictures that would fill the memory", tmp_path, memory=300 << 20) as run:
        for name, content in bombs():
            path = tmp_path / "bomb.png"
            path.write_bytes(content)
            with run.attempt(name):
                doors(path)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"])
def test_the_largest_pictures(mode, campaign, tmp_path):
    """What is just below the limit is read; its pixels, at most so many bytes each, are all that is kept of it."""
    side = 9400
    with campaign(f"the largest picture, {mode}", tmp_path, memory=PIXEL * side * side) as run:
        path = tmp_path / "large.tif"
        Image.new(mode, (side, side)).save(path, compression="packbits" if mode in "1LRGB" else "tiff_lzw")
        with run.attempt(mode):
            assert open_image(path).size == (side, side)
    assert run.outcomes == {"accepted": 1}


DTYPES = ("u1", "u1", "u1", "u2", "f4", "f8", "f2", "i4", "?", "c8", "U3", "O", "M8[s]", ">u2", "V4", "f16")
SHAPES = (
    (), (0,), (9,), (9, 7), (9, 7, 1), (9, 7, 3), (9, 7, 3), (9, 7, 4), (9, 7, 2), (0, 7, 3), (9, 0, 3), (2, 9, 7, 3),
    (0, 9, 7, 3), (1, 1, 3), (9, 7, 3, 1, 1), (3, 9, 7), (2, 0, 0, 3),
)  # fmt: skip


def odd_array(draw):
    """An array of any type, shape, order and range."""
    shape, dtype = draw.choice(SHAPES), np.dtype(draw.choice(DTYPES))
    values = np.random.default_rng(draw.randrange(1000)).random(shape) * draw.choice((1, 255, 65535, -1, 1e300))
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = np.asarray(values).astype(dtype, casting="unsafe")
        except (TypeError, ValueError):  # NumPy has no such conversion
            return np.zeros(shape, dtype)
    if array.dtype.kind == "f" and array.size and draw.random() < 0.2:
        array[(0,) * array.ndim] = draw.choice((np.nan, np.inf, -np.inf, -1, 2))
    return draw.choice((array, array[::-1] if array.ndim else array, np.asfortranarray(array)))


def odd_image(draw, path):
    """What somebody may give as an image."""
    kind = draw.random()
    if kind < 0.6:
        return odd_array(draw)
    if kind < 0.8:
        return picture(draw.choice(MODES), draw.choice((1, 9)), draw.choice((1, 7)))
    others = (None, 1, "", "nowhere.jpg", b"a.jpg", path.parent, [], {}, torch.zeros(3, 9, 7), object(), "nul\0")
    return draw.choice((path, str(path), *others))


def test_what_is_given_to_the_encoder(campaign, encoder, tmp_path):
    path = tmp_path / "a.png"
    picture("RGB").save(path)
    with campaign("arrays, pictures and other things given to Encoder.encode", tmp_path) as run:
        for number in range(1500):
            draw = random.Random(f"given {number}")
            images = [odd_image(draw, path) for _ in range(draw.choice((0, 1, 1, 2)))]
            given = draw.choice((images, iter(images), images[0] if images else ()))
            ids = draw.choice(
                (None, None, 0, 1, -1, 7, [0], [0, 1], "a", 1.5, np.array([0]), np.array(1), [None], 10**30)
            )
            with run.attempt(f"given {number}"):
                features = encoder.encode(given, ids, channel_order=draw.choice(("rgb", "bgr", "rgb", "xyz")))
                assert features.ndim == 2 and np.isfinite(features).all()
    assert run.outcomes["accepted"] > 150


def test_datasets_with_damaged_pictures(campaign, whole, words, run_folder, tmp_path):
    contents = [content for _, content in whole]
    folder, image = tmp_path / "data", tmp_path / "a.png"
    picture("RGB").save(image)
    own = [*words, "DATASETS.NAMES=folder", f"DATASETS.ROOT_DIR={folder}", f"OUTPUT_DIR={tmp_path / 'out'}"]
    test = ["test", *own, f"TEST.WEIGHT={run_folder / 'tiny_1.pth'}", "--device", "cpu"]
    commands = (
        ["data", "check", "folder", str(folder), "--decode"],
        ["data", "describe", "folder", str(folder), "--sheet", str(tmp_path / "out" / "sheet.png")],
        ["train", *own, "--max-steps", "1", "--skip-unreadable", "--device", "cpu"],
        test,
        [*test, "--skip-unreadable"],
    )
    with campaign("datasets with damaged pictures, by command", memory=1 << 30) as run:
        for number in range(60):
            draw = random.Random(f"dataset {number}")
            shutil.rmtree(folder, ignore_errors=True)
            share = draw.choice((0, 0.1, 0.5, 0.9))
            for split, camera, person, shot in product(("train", "query", "gallery"), (1, 2), range(4), range(2)):
                file = folder / split / str(person + 10 * (split != "train")) / f"_c{camera}_{shot}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                broken = draw.random() < share
                file.write_bytes(damaged(draw, draw.choice(contents), contents) if broken else image.read_bytes())
            command = commands[number % len(commands)]
            before, case = snapshot(tmp_path), f"dataset {number}, {command[:2]}"
            with run.attempt(case):
                check_call(run, case, call(command), tmp_path, before)
            shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert run.outcomes["accepted"] > 15
