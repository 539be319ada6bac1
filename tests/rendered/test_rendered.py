from __future__ import annotations

import errno
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from svllreid.errors import DatasetError, OutputError
from svllreid.rendered import (
    Item,
    Person,
    Tint,
    caption,
    describe_person,
    draw_image,
    draw_person,
    make_camera,
    synthesize,
)
from svllreid.rendered.camera import turn_hues

FOLDER = "Market-1501-v15.09.15"
NAME = re.compile(r"(\d{4})_c([1-6])s1_(\d{6})_00\.jpg")


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.jpg"))}


def small(root: Path, **options: int) -> Path:
    return synthesize(root, **{"identities": 2, "cameras": 2, "images_per_camera": 2, **options})


def listing(folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    paths = sorted(folder.iterdir())
    fields = [NAME.fullmatch(path.name).groups() for path in paths]
    pids, camids, _ = np.array(fields, dtype=int).T
    return paths, pids, camids


def pixels(paths: list[Path]) -> np.ndarray:
    """(n, 128, 64, 3) float32 in [0, 1]."""
    images = [Image.open(path).resize((64, 128), Image.Resampling.BILINEAR) for path in paths]
    return np.stack([np.asarray(image, dtype=np.float32) / 255 for image in images])


def normalised(features: np.ndarray) -> np.ndarray:
    flat = features.reshape(len(features), -1)
    return flat / np.linalg.norm(flat, axis=1, keepdims=True)


def colour_layout(images: np.ndarray, camids: np.ndarray) -> np.ndarray:
    """Colour histograms of eight stripes of the middle columns, each camera's colours standardised."""
    counts = np.zeros((len(images), 8 * 3 * 8))
    for camid in np.unique(camids):
        own = images[camids == camid]
        even = (own[:, :, 14:50] - own.mean(axis=(0, 1, 2))) / own.std(axis=(0, 1, 2))
        bins = np.clip((even + 2.5) * 8 / 5, 0, 7).astype(int)
        stripes = np.arange(8).repeat(16)[None, :, None, None]
        cells = (stripes * 3 + np.arange(3)) * 8 + bins  # (n, 128, 36, 3)
        rows = [np.bincount(image.ravel(), minlength=counts.shape[1]) for image in cells]
        counts[camids == camid] = rows
    return normalised(np.sqrt(counts))


def whitening(features: np.ndarray, pids: np.ndarray) -> np.ndarray:
    """The projection under which a person's images scatter evenly in all directions."""
    means = np.stack([features[pids == pid].mean(axis=0) for pid in pids])
    values, vectors = np.linalg.eigh(np.cov((features - means).T) + 1e-4 * np.eye(features.shape[1]))
    return vectors / np.sqrt(values)


def rank1(query: tuple[np.ndarray, ...], gallery: tuple[np.ndarray, ...]) -> float:
    (q_feats, q_pids, q_camids), (g_feats, g_pids, g_camids) = query, gallery
    distmat = 2 - 2 * q_feats @ g_feats.T
    distmat[(q_pids[:, None] == g_pids) & (q_camids[:, None] == g_camids)] = np.inf
    return float((g_pids[distmat.argmin(axis=1)] == q_pids).mean())


def test_layout_names_and_counts(tmp_path):
    seen = []
    root = synthesize(
        tmp_path / "new" / "data",
        identities=3,
        cameras=2,
        images_per_camera=4,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert root == tmp_path / "new" / "data"
    assert [path.name for path in root.iterdir()] == [FOLDER]
    expected = {
        "bounding_box_train": ({1, 2, 3}, {1, 2, 3, 4}),
        "query": ({4, 5, 6}, {1}),
        "bounding_box_test": ({4, 5, 6}, {2, 3, 4}),
    }
    assert {path.name for path in (root / FOLDER).iterdir()} == set(expected)
    for part, (pids, shots) in expected.items():
        names = {path.name for path in (root / FOLDER / part).iterdir()}
        assert names == {f"{pid:04d}_c{c}s1_{shot:06d}_00.jpg" for pid in pids for c in (1, 2) for shot in shots}
    assert seen == [(done, 48) for done in range(1, 49)]
    with Image.open(root / FOLDER / "query" / "0004_c1s1_000001_00.jpg") as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 128))


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path):
    first, again, other = (tree(small(tmp_path / str(i), seed=seed)) for i, seed in enumerate((7, 7, 8)))
    assert first == again
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())
    assert len(set(first.values())) == len(first)


def test_an_image_does_not_depend_on_how_many_are_made(tmp_path):
    few = small(tmp_path / "few")
    many = small(tmp_path / "many", identities=3, cameras=3, images_per_camera=3)
    by_name = {Path(name).name: data for name, data in tree(many).items()}
    for name, data in tree(few).items():
        assert by_name[Path(name).name] == data


def test_size_is_height_and_width(tmp_path):
    root = small(tmp_path, size=(96, 40))
    with Image.open(root / FOLDER / "query" / "0003_c2s1_000001_00.jpg") as image:
        assert image.size == (40, 96)


@pytest.mark.parametrize("seed", [0, 2])
def test_raw_pixels_fail_where_a_learner_succeeds(tmp_path, seed):
    root = synthesize(tmp_path, identities=20, images_per_camera=2, seed=seed) / FOLDER
    train, query, gallery = (listing(root / part) for part in ("bounding_box_train", "query", "bounding_box_test"))
    images = [pixels(part[0]) for part in (train, query, gallery)]
    raw = rank1((normalised(images[1]), *query[1:]), (normalised(images[2]), *gallery[1:]))
    assert raw < 0.4

    camids = np.concatenate([part[2] for part in (train, query, gallery)])
    layout = colour_layout(np.concatenate(images), camids)
    learned = layout @ whitening(layout[: len(train[0])], train[1])
    _, q_feats, g_feats = np.split(normalised(learned), np.cumsum([len(train[0]), len(query[0])]))
    assert rank1((q_feats, *query[1:]), (g_feats, *gallery[1:])) > max(0.6, 2 * raw)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_two_people_look_the_same(seed):
    people = [draw_person(seed, pid) for pid in range(1, 401)]
    outfits = {(p.upper.name, p.pattern, p.lower_kind, p.lower.name) for p in people}
    assert len(outfits) == len(people)
    assert len({describe_person(p) for p in people}) == len(people)


def test_a_person_lasts_and_every_attribute_varies():
    people = [draw_person(0, pid) for pid in range(1, 201)]
    assert people == [draw_person(0, pid) for pid in range(1, 201)]
    assert people[0].height != draw_person(1, 1).height and people[0].height != people[1].height
    with pytest.raises(ValueError):
        draw_person(0, -1)
    for values in (
        {p.stature for p in people},
        {p.build for p in people},
        {p.hair_length for p in people},
        {p.sleeves for p in people},
        {p.lower_kind for p in people},
    ):
        assert len(values) == 3
    assert {p.pattern for p in people} == {"plain", "stripes", "checks", "dots", "two-tone"}
    assert {p.bag and p.bag.kind for p in people} == {None, "backpack", "shoulder bag", "handbag"}
    assert {p.hat and p.hat.kind for p in people} == {None, "cap", "beanie"}
    assert all(p.second.name != p.upper.name for p in people)


def test_description_names_what_is_worn():
    for person in (draw_person(0, pid) for pid in range(1, 201)):
        text = describe_person(person)
        assert person.upper.name in text and f"{person.lower.name} {person.lower_kind}" in text
        assert (person.second.name in text) or person.pattern == "plain"
        assert ("carrying" in text) == (person.bag is not None)
        assert ("wearing" in text) == (person.hat is not None)
        assert person.sex in text and ("jacket over" in text) == (person.jacket is not None)
        assert not re.search(r"\ba [aeio]|\ban [^aeio]|\b(he|she|his|her)\b", text)


def test_wordings_differ_and_name_nothing_that_is_not_there():
    person = replace(draw_person(0, 3), jacket=None, pattern="plain", bag=None, hat=None)
    rng = np.random.default_rng(0)
    texts = [caption(person, rng) for _ in range(300)]
    assert len(set(texts)) > 100
    assert texts[:20] == [caption(person, again) for again in [np.random.default_rng(0)] for _ in range(20)]
    assert not any(re.search("jacket|backpack|handbag|shoulder bag|cap|beanie|striped|checked|dots", t) for t in texts)
    for word in (person.upper.name, person.lower.name, person.shoes.name, person.hair.name):
        assert 0.05 < np.mean([word in text for text in texts]) < 1
    only = [text for text in texts if re.fullmatch(r"(?:.* )?a \w+ (?:in|wearing|dressed in) \w+ shoes\.?", text, re.I)]
    assert 0 < len(only) < 40
    assert not any(re.search(r"\ba [aeio]|\ban [^aeio]|  |,,", text) for text in texts)


def test_people_who_share_an_outfit_differ_in_the_rest():
    people = [draw_person(5, pid, alike=3) for pid in range(1, 31)]
    outfits = [(p.upper.name, p.pattern, p.lower_kind, p.lower.name) for p in people]
    assert len(set(outfits)) == 10
    assert all(outfits[i] == outfits[i - i % 3] for i in range(30))
    assert len({describe_person(p) for p in people}) == 30


def test_description_in_full():
    def tint(name: str) -> Tint:
        return Tint(name, (0, 0, 0))

    person = Person(
        pid=1,
        sex="woman",
        beard=False,
        stature="short",
        height=0.93,
        build="average",
        width=1.0,
        skin=tint("pale"),
        hair=tint("red"),
        hair_length="short",
        upper=tint("orange"),
        second=tint("beige"),
        pattern="stripes",
        sleeves="short",
        jacket=None,
        lower_kind="skirt",
        lower=tint("purple"),
        shoes=tint("white"),
        bag=Item("handbag", tint("black")),
        hat=Item("beanie", tint("dark blue")),
    )
    assert describe_person(person) == (
        "a short woman with short red hair, in an orange and beige striped shirt with short sleeves, a purple skirt "
        "and white shoes, carrying a black handbag, wearing a dark blue beanie"
    )
    plain = replace(person, stature="average", pattern="plain", lower_kind="shorts", bag=None, hat=None)
    assert describe_person(plain) == (
        "a woman with short red hair, in an orange shirt with short sleeves, purple shorts and white shoes"
    )


def test_cameras_of_a_site_differ_in_place_and_colour():
    cameras = [make_camera(3, camid) for camid in range(6)]
    assert len({camera.style for camera in cameras}) == 6
    warmth = np.sort([np.log(camera.gains[0]) for camera in cameras])
    assert warmth[-1] - warmth[0] > 0.2
    images = [np.asarray(draw_image(3, 1, camera, 0), dtype=float) for camera in cameras]
    gaps = [np.abs(a - b).mean() for i, a in enumerate(images) for b in images[:i]]
    assert min(gaps) > 15


def test_cameras_turn_colours_by_their_own_angle():
    third = turn_hues(np.radians(120))  # red's part goes to green, green's to blue, blue's to red
    np.testing.assert_allclose(third @ [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(third @ [0.4, 0.4, 0.4], [0.4, 0.4, 0.4], atol=1e-6)
    plain, turned = ([make_camera(3, camid, hue=hue) for camid in range(6)] for hue in (0, 90))
    angles = [
        np.degrees(np.arctan2((c.mixing[1, 0] - c.mixing[0, 1]) * 3**0.5, np.trace(c.mixing) - 1)) for c in turned
    ]
    assert np.abs(angles).max() <= 90 and np.diff(np.sort(angles)).min() > 1 and np.ptp(angles) > 100
    for before, after in zip(plain, turned, strict=True):
        assert np.array_equal(before.mixing, np.eye(3))
        assert np.array_equal(before.background, after.background)


@pytest.mark.parametrize(
    "options",
    [
        {"identities": 1},
        {"identities": 0},
        {"seed": -1},
        {"cameras": 1},
        {"cameras": 7},
        {"images_per_camera": 1},
        {"alike": 0},
        {"hue": -1},
        {"hue": 181},
        {"size": (128, 8)},
        {"size": (16, 64)},
    ],
)
def test_arguments_out_of_range_are_refused_by_name(tmp_path, options):
    (name,) = options
    with pytest.raises(DatasetError, match=name) as caught:
        small(tmp_path / "data", **options)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "data").exists()


def test_a_target_that_holds_something_is_refused_and_kept(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "precious.txt").write_text("mine")
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path / FOLDER))):
        small(tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == [FOLDER, "precious.txt"]


def test_an_empty_target_and_neighbours_are_no_obstacle(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / "dukemtmcreid").mkdir()
    small(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {FOLDER, "dukemtmcreid"}
    assert len(tree(tmp_path)) == 16


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_nothing(tmp_path, error):
    def interrupt(done: int, total: int) -> None:
        assert not (tmp_path / "a" / "b" / FOLDER).exists()
        if done == 5:
            raise error

    with pytest.raises(error):
        synthesize(tmp_path / "a" / "b", identities=2, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path, monkeypatch):
    write, count = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        count.append(path)
        if len(count) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left on device"):
        small(tmp_path / "data")
    assert count and list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_root_is_an_output_error(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OutputError, match="data"):
        small(tmp_path / "data")
    assert (tmp_path / "data").read_text() == "a file"
