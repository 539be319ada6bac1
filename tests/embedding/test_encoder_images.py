"""What `encode` takes: images of every kind, one or many, and their ids; and what it refuses."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from svllreid.embedding.encoder import FeatureEncoder
from svllreid.errors import ConfigError, DatasetError, EvaluationError, ImageError
from svllreid.types import UNKNOWN, SideRows

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), dtype=np.uint8)
GREY = PIXELS[..., 0]


class Pixels:
    """An embedder whose features are the pixels, then camera and viewpoint."""

    device, dim = torch.device("cpu"), 74
    spec = SimpleNamespace(sie_camera=True, sie_view=False, precision="32")

    def __init__(self):
        self.batches = []

    def __call__(self, images, camids, viewids):
        assert torch.is_inference_mode_enabled()
        self.batches.append(len(images))
        return torch.cat([images.flatten(1), torch.stack([camids, viewids], dim=1).float()], dim=1)


@pytest.fixture
def encoder():
    return FeatureEncoder(Pixels(), lambda image: pil_to_tensor(image).float(), SideRows.counted(3, 1), batch_size=2)


@pytest.fixture
def path(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def pixels(features):
    """(n, H, W, 3) back from the features."""
    return features[:, :-2].reshape(-1, 3, 6, 4).transpose(0, 2, 3, 1)


def grey(values):
    return np.repeat(values[..., None], 3, axis=2)


ALPHA = np.where(GREY < 100, 0, 255).astype(np.uint8)
ARRAYS = {
    "uint8": (PIXELS, PIXELS),
    "not contiguous": (np.asfortranarray(PIXELS[:, ::-1])[:, ::-1], PIXELS),
    "grey": (GREY, grey(GREY)),
    "one channel": (GREY[..., None], grey(GREY)),
    "alpha": (np.dstack([PIXELS, ALPHA]), np.where(ALPHA[..., None] > 0, PIXELS, 128)),
    "uint16": (PIXELS.astype(np.uint16) * 257, PIXELS),
    "uint16 grey": (GREY.astype(">u2") * 257, grey(GREY)),
    "float32": (PIXELS.astype(np.float32) / 255, PIXELS),
    "float64 grey": (GREY / 255, grey(GREY)),
    "float16 of one channel": ((GREY[..., None] > 99).astype(np.float16), grey((GREY > 99) * 255)),
    "float with alpha": (np.dstack([PIXELS, ALPHA]) / 255, np.where(ALPHA[..., None] > 0, PIXELS, 128)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(encoder, name):
    array, expected = ARRAYS[name]
    np.testing.assert_array_equal(pixels(encoder.encode(array))[0], expected)
    np.testing.assert_array_equal(pixels(encoder.encode([array, array]))[1], expected)


@pytest.mark.parametrize("array", [PIXELS, np.dstack([PIXELS, ALPHA]), PIXELS / 255], ids=["uint8", "alpha", "float"])
def test_bgr_is_said_and_reverses_colours_alone(encoder, path, array):
    swapped = array[..., [2, 1, 0, 3][: array.shape[2]]]
    np.testing.assert_array_equal(encoder.encode(swapped, channel_order="bgr"), encoder.encode(array))
    same = [path, Image.fromarray(PIXELS), GREY]
    np.testing.assert_array_equal(encoder.encode(same, channel_order="bgr"), encoder.encode(same))
    with pytest.raises(DatasetError, match="channel_order is 'gbr'; give 'rgb' or 'bgr'"):
        encoder.encode(array, channel_order="gbr")


def test_one_image_or_several_of_any_kind(encoder, path):
    row = np.concatenate([PIXELS.transpose(2, 0, 1).ravel(), [UNKNOWN, UNKNOWN]])
    for one in (path, str(path), Image.open(path), PIXELS, np.str_(path)):
        np.testing.assert_array_equal(encoder.encode(one), row[None])
    for several in (
        [path, PIXELS, Image.fromarray(PIXELS)],
        (path,) * 3,
        np.stack([PIXELS] * 3),
        np.array([str(path)] * 3),
        (path for _ in range(3)),
        map(str, [path] * 3),
    ):
        np.testing.assert_array_equal(encoder.encode(several), np.stack([row] * 3))
    for nothing in ([], (), iter(()), np.empty((0, 6, 4, 3), np.uint8)):
        assert encoder.encode(nothing).shape == (0, 74)


def test_a_generator_is_read_a_batch_at_a_time_and_outside_inference_mode(encoder):
    ahead = []

    def images():
        for index in range(21):
            ahead.append(index - sum(encoder.embedder.batches))
            assert not torch.is_inference_mode_enabled()
            yield PIXELS

    assert len(encoder.encode(images())) == 21
    assert encoder.embedder.batches == [2] * 10 + [1]
    assert max(ahead) == 3 * 2 - 1, "three batches of two are in memory at most"


@pytest.mark.parametrize(
    ("camids", "expected"),
    [
        (None, [-1, -1, -1]),
        (2, [2, 2, 2]),
        (np.int64(1), [1, 1, 1]),
        (torch.tensor(1), [1, 1, 1]),
        (np.array(0), [0, 0, 0]),
        ([0, 1, -1], [0, 1, -1]),
        (np.array([2, 1, 0]), [2, 1, 0]),
        (torch.tensor([2, 1, 0]), [2, 1, 0]),
        ([0.0, 1.0, 2.0], [0, 1, 2]),
        (range(3), [0, 1, 2]),
        (iter([0, 1, 2]), [0, 1, 2]),
    ],
)
def test_ids_are_one_for_all_or_one_for_each(encoder, camids, expected):
    assert encoder.encode([PIXELS] * 3, camids=camids)[:, -2].tolist() == expected


def test_ids_of_a_generator(encoder):
    rows = encoder.encode((PIXELS for _ in range(5)), [0, 1, 2, 1, 0], viewids=0)[:, -2:]
    assert rows.tolist() == [[0, 0], [1, 0], [2, 0], [1, 0], [0, 0]]


@pytest.mark.parametrize(
    ("images", "camids", "message"),
    [
        ([PIXELS] * 3, [0], "3 images but 1 camids; give one for each image, or one number for all"),
        ([PIXELS], [0, 1], "1 images but 2 camids"),
        ([], [0], "0 images but 1 camids"),
        (PIXELS, [0, 1], "1 images but 2 camids"),
        (iter([PIXELS] * 3), [0, 1], "3 or more images but 2 camids"),
        (iter([PIXELS] * 3), [0, 1, 1, 1], "3 images but 4 camids"),
        ([PIXELS], [3], "camids 3 is none of those the model was trained with"),
        ([PIXELS], -2, "camids -2 is none of those the model was trained with"),
        ([PIXELS], "0", "camids '0' is no whole number"),
        ([PIXELS], [None], "camids None is no whole number"),
        ([PIXELS], 0.5, "camids 0.5 is no whole number"),
        ([PIXELS], [float("nan")], "camids nan is no whole number"),
        ([PIXELS], [[0]], r"camids \[0\] is no whole number"),
    ],
)
def test_ids_that_do_not_fit(encoder, images, camids, message):
    with pytest.raises(DatasetError, match=message):
        encoder.encode(images, camids)
    assert sum(encoder.embedder.batches) <= 3


HALF = np.full((6, 4, 3), 0.5)
REFUSED = [
    (np.zeros((3, 6, 5), np.uint8), DatasetError, r"channels last, not \(3, 6, 5\)"),
    (np.zeros((6, 4, 2), np.uint8), DatasetError, r"not \(6, 4, 2\)"),
    (np.zeros(5, np.uint8), DatasetError, r"not \(5,\)"),
    (np.uint8(3), DatasetError, "not a uint8"),
    (np.zeros((0, 4, 3), np.uint8), ImageError, r"no pixels: it is an array \(0, 4, 3\)"),
    (np.zeros((6, 0)), ImageError, "no pixels"),
    (PIXELS[5:3], ImageError, "no pixels"),
    (PIXELS.astype(int), DatasetError, "not int64; convert it"),
    (GREY > 3, DatasetError, "not bool"),
    (PIXELS.astype(object), DatasetError, "not object"),
    (255 * HALF, DatasetError, r"goes from 127\.5 to 127\.5; scale it"),
    (-HALF, DatasetError, r"goes from -0\.5"),
    (HALF * np.nan, DatasetError, "NaN or infinite"),
    (Image.new("RGB", (0, 3)), ImageError, "no pixels: 0 x 3"),
    (torch.zeros(3, 6, 4), DatasetError, "a path, a PIL image or a NumPy array, not a Tensor"),
    (b"bytes", DatasetError, "not a bytes"),
    (None, DatasetError, "not a NoneType"),
    (7, DatasetError, "not a int"),
]


@pytest.mark.parametrize(("image", "error", "message"), REFUSED)
def test_what_is_no_image_is_refused_with_its_index(encoder, image, error, message):
    with pytest.raises(error, match=rf"^image 3\b.*{message}"):
        encoder.encode([PIXELS, PIXELS, PIXELS, image])
    with pytest.raises(error, match=r"^image 0\b"):
        encoder.encode(image)


def test_files_that_cannot_be_read_are_named(encoder, path, tmp_path):
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"cut\.png cannot be read"):
        encoder.encode([path, tmp_path / "cut.png"])
    with Image.open(path) as closed:
        pass
    with pytest.raises(ImageError, match=r"image 1 \(.*a\.png\) cannot be read"):
        encoder.encode([path, closed])


def test_features_that_are_no_numbers_name_the_image(encoder):
    encoder.resize = lambda image: torch.full((3, 6, 4), float("inf") if image.getpixel((0, 0))[0] else 0.0)
    with pytest.raises(EvaluationError, match="image 2: its features hold NaN or infinity"):
        encoder.encode([np.full((6, 4, 3), value, np.uint8) for value in (0, 0, 255, 0)])


def test_a_stream_gives_blocks_with_their_indices(encoder):
    arrays = [np.full((6, 4, 3), value, np.uint8) for value in range(5)]
    blocks = list(encoder.encode_stream(iter(arrays), camids=iter([0, 1, 2, 0, 1])))
    assert [indices.tolist() for indices, _ in blocks] == [[0, 1], [2, 3], [4]]
    features = np.concatenate([features for _, features in blocks])
    assert features[:, 0].tolist() == [0, 1, 2, 3, 4] and features[:, -2].tolist() == [0, 1, 2, 0, 1]


def test_images_that_cannot_be_read_are_skipped_on_request(encoder, path, tmp_path):
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:60])
    bad = tmp_path / "cut.png"
    features, skipped = encoder.encode([bad, path, bad, bad, path], [0, 1, 2, 0, 2], on_error="skip")
    assert skipped == [0, 2, 3] and features[:, -2].tolist() == [1, 2]
    blocks = list(encoder.encode_stream([bad, path, bad, bad, path], on_error="skip"))
    assert [indices.tolist() for indices, _ in blocks] == [[1], [4]]
    assert encoder.encode([bad, bad], on_error="skip")[0].shape == (0, 74)
    with pytest.raises(DatasetError, match="image 1: an image is a path"):
        encoder.encode([path, None], on_error="skip")
    with pytest.raises(DatasetError, match="on_error is 'ignore'; give 'raise' or 'skip'"):
        encoder.encode([path], on_error="ignore")


def test_a_stream_that_is_left_reads_no_further(encoder):
    read = []

    def images():
        for index in range(100):
            read.append(index)
            yield PIXELS

    stream = encoder.encode_stream(images())
    next(stream)
    stream.close()
    assert len(read) == 6


def test_ids_of_a_generator_that_are_too_few_or_too_many(encoder):
    with pytest.raises(DatasetError, match="3 or more images but 2 camids"):
        list(encoder.encode_stream([PIXELS] * 3, camids=iter([0, 1])))
    with pytest.raises(DatasetError, match="2 images but 3 camids"):
        list(encoder.encode_stream([PIXELS] * 2, camids=iter([0, 1, 2])))


@pytest.mark.parametrize("batch_size", [0, -1, 2.5])
def test_batch_sizes_are_whole_numbers(encoder, batch_size):
    with pytest.raises(ConfigError, match=f"batch_size is {batch_size}; use a whole number of at least 1"):
        FeatureEncoder(encoder.embedder, encoder.resize, encoder.side_rows, batch_size=batch_size)


def test_a_batch_that_does_not_fit_is_halved(encoder):
    original, sizes = type(encoder.embedder).__call__, []

    class Small(Pixels):
        def __call__(self, images, camids, viewids):
            sizes.append(len(images))
            if len(images) > 1:
                raise torch.OutOfMemoryError("full")
            return original(self, images, camids, viewids)

    small = FeatureEncoder(Small(), encoder.resize, encoder.side_rows, batch_size=4)
    images = [np.full((6, 4, 3), value, np.uint8) for value in range(4)]
    np.testing.assert_array_equal(small.encode(images), encoder.encode(images))
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
