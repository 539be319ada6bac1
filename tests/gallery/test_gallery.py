"""What a gallery stores, counts, changes and removes, in a file and on a server."""

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from PIL import Image

from svllreid.errors import EvaluationError, GalleryError, ImageError, OutputError
from svllreid.evaluation.table_file import TableBlock
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.crop import Crop, file_digest
from svllreid.gallery.gallery import Gallery

WEIRD = [
    'a "quoted" one',
    "it's",
    "back\\slash",
    "two\nlines\ttab",
    "snow ☃ and 😀",
    "100 % _ *",
    '"] or pid != ["',
    "x\\",
    "{pid}",
    "a and b or not c",
    "e\u0301",
    "\x7f",
    "line\u2028separator",
]


def by_path(gallery):
    return {crop.path.rsplit("/", 1)[-1]: crop for crop in gallery.crops()}


def labels(crop):
    return crop.pid, crop.camid, crop.time, crop.tracklet, crop.tags


def counts(report):
    return report.added, report.present, report.skipped, report.updated, report.differing


def test_an_image_is_stored_once_by_its_content(opened, encoder, photos, tmp_path):
    gallery = opened(encoder)
    other = tmp_path / "other name.png"
    other.write_bytes(photos[0].read_bytes())
    assert counts(gallery.add([photos[0], other, photos[1], str(photos[1])])) == (2, 2, 0, 0, 0)
    assert counts(gallery.add(other)) == (0, 1, 0, 0, 0)
    assert sorted(crop.id for crop in gallery.crops()) == sorted(file_digest(path) for path in photos[:2])
    assert {crop.path for crop in gallery.crops()} == {str(photos[0]), str(photos[1])}
    array = np.asarray(Image.open(photos[0]))
    assert counts(gallery.add(iter([array, array.copy(), array[::-1]]))) == (2, 1, 0, 0, 0), "pixels, not a file"
    assert counts(gallery.add(Image.fromarray(array))) == (0, 1, 0, 0, 0), "the pixels of the array"
    assert len(gallery) == 4
    assert counts(gallery.add(iter(photos), progress=None)) == (8, 2, 0, 0, 0)


def test_labels_come_back_as_they_were_given(opened, encoder, photos):
    gallery, now = opened(encoder), time.time()
    gallery.add(
        photos[:6],
        [7, "7", None, "0012", np.int64(-3), "rita"],
        [0, 1, -1, 2, np.int64(5), 0],
        [12.5, "2026-05-01T12:30:00+02:00", None, datetime(1969, 1, 1, tzinfo=UTC), 0, "1970-01-02"],
        ["night; door", ["door"], None, [], ["b", "a", "b"], "x"],
        ["t1", "", "", "t2", "t1", ""],
    )
    crops = by_path(gallery)
    found = [crops[path.name] for path in photos[:6]]
    assert [crop.pid for crop in found] == [7, "7", None, "0012", -3, "rita"]
    assert [type(crop.pid) for crop in found] == [int, str, type(None), str, int, str]
    assert [crop.camid for crop in found] == [0, 1, -1, 2, 5, 0]
    assert [crop.time for crop in found] == [12.5, 1777631400.0, None, -31536000.0, 0.0, 86400.0]
    assert [crop.tags for crop in found] == [("door", "night"), ("door",), (), (), ("a", "b"), ("x",)]
    assert [crop.tracklet for crop in found] == ["t1", "", "", "t2", "t1", ""]
    assert all(now <= crop.added <= time.time() for crop in found)
    gallery.add(photos[6:8], pids="one", camids=3, times="1970-01-02", tags="all;of;them", tracklets="t")
    for path in photos[6:8]:
        crop = by_path(gallery)[path.name]
        assert labels(crop) == ("one", 3, 86400.0, "t", ("all", "of", "them"))


def test_labels_of_stored_images_are_kept_or_updated(opened, encoder, photos, caplog):
    gallery = opened(encoder)
    gallery.add(photos[:3], ["a", "b", "c"])
    before = by_path(gallery)
    assert counts(gallery.add(photos[:3], ["a", "B", "C"])) == (0, 3, 0, 0, 2)
    assert "2 images were there with other labels, and kept those" in caplog.text
    assert by_path(gallery) == before
    vectors = [gallery.vector(crop.id) for crop in before.values()]
    assert counts(gallery.add(photos[:3], ["a", "B", "C"], update=True)) == (0, 3, 0, 2, 0)
    after = by_path(gallery)
    assert [after[path.name].pid for path in photos[:3]] == ["a", "B", "C"]
    assert [crop.added for crop in after.values()] == [crop.added for crop in before.values()]
    np.testing.assert_array_equal([gallery.vector(crop.id) for crop in before.values()], vectors)
    assert len(gallery) == 3


def test_copies_with_other_labels_count_as_if_they_came_later(opened, encoder, photos, tmp_path):
    gallery, copies = opened(encoder), []
    for number in range(3):
        copies.append(tmp_path / f"copy{number}.png")
        copies[-1].write_bytes(photos[0].read_bytes())
    pids = ["a", "b", "b", None, "a"]
    assert counts(gallery.add([photos[0], *copies, photos[1]], pids)) == (2, 3, 0, 0, 2)
    assert by_path(gallery)["p0.png"].pid == "a"
    assert counts(gallery.add([photos[0], *copies, photos[1]], pids, update=True)) == (0, 5, 0, 1, 0)
    assert by_path(gallery)["p0.png"].pid == "b", "the last one counts"


def test_copies_of_an_unreadable_image_are_skipped_too(opened, encoder, tmp_path):
    broken = [tmp_path / "one.png", tmp_path / "two.png"]
    for file in broken:
        file.write_bytes(b"no image")
    report = opened(encoder).add(broken)
    assert counts(report) == (0, 0, 2, 0, 0) and {name for name, _ in report.reasons} == set(map(str, broken))


def test_labels_of_stored_features_are_kept_or_updated(opened, spec, block_of, random_vectors, caplog):
    gallery, vectors = opened(), random_vectors(3)
    gallery.add_features([block_of(vectors, pid=["a", "b", "c"])], spec)
    block = block_of(vectors, pid=["a", "B", ""])
    assert counts(gallery.add_features([block], spec)) == (0, 3, 0, 0, 1)
    assert "1 images were there with other labels" in caplog.text
    assert {crop.pid for crop in gallery.crops()} == {"a", "b", "c"}
    assert counts(gallery.add_features([block], spec, update=True)) == (0, 3, 0, 1, 0)
    assert {crop.pid for crop in gallery.crops()} == {"a", "B", "c"}


def test_a_path_with_dots_is_that_of_the_file(opened, encoder, photos, tmp_path, monkeypatch):
    gallery = opened(encoder)
    monkeypatch.chdir(photos[0].parent)
    gallery.add(["../photos/p0.png", "./p1.png"])
    assert {crop.path for crop in gallery.crops()} == {str(photo) for photo in photos[:2]}
    monkeypatch.chdir(tmp_path)
    assert gallery.remove(path="photos/../photos/p0.png") == gallery.remove(path=photos[1]) == 1
    (tmp_path / "far" / "inside").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "inside")
    (tmp_path / "far" / "p.png").write_bytes(photos[2].read_bytes())
    gallery.add("link/../p.png")
    assert [crop.path for crop in gallery.crops()] == [str(tmp_path / "link/../p.png")], "beyond a link"


def test_what_is_removed_may_come_from_a_generator(opened, encoder, photos):
    gallery = opened(encoder)
    gallery.add(photos[:3])
    assert gallery.remove(ids=(crop.id for crop in list(gallery.crops())[:2])) == 2 and len(gallery) == 1


def test_unreadable_images_are_skipped_or_an_error(opened, encoder, photos, tmp_path, caplog):
    gallery, broken = opened(encoder), tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    report = gallery.add([photos[0], broken, tmp_path / "absent.png", photos[1]])
    assert counts(report) == (2, 0, 2, 0, 0)
    assert {name for name, _ in report.reasons} == {str(broken), str(tmp_path / "absent.png")}
    assert "2 images could not be read and were left out" in caplog.text
    with pytest.raises(ImageError, match="broken"):
        gallery.add([photos[2], broken], on_error="raise")
    with pytest.raises(ImageError, match=r"absent\.png cannot be read \(No such file"):
        gallery.add(tmp_path / "absent.png", on_error="raise")
    with pytest.raises(GalleryError, match="give 'skip' or 'raise'"):
        gallery.add(photos[0], on_error="ignore")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"pids": ["a"]}, "2 or more images but 1 pids"),
        ({"pids": ["a", "b", "c"]}, "more pids than images"),
        ({"camids": iter([1])}, "2 or more images but 1 camids"),
        ({"pids": [1.5, 2]}, "1.5 is neither a text nor a whole number"),
        ({"pids": [True, 2]}, "True is neither"),
        ({"times": ["yesterday", None]}, "'yesterday' is neither seconds"),
        ({"times": [float("nan"), None]}, "nan is neither seconds"),
        (
            {"times": [1777638600000, None]},
            "1777638600000 is beyond the years 1 to 9999; give seconds since 1970, not mil",
        ),
        ({"times": [-1e30, None]}, "beyond the years"),
        ({"tags": [["a;b"], None]}, "none empty or with ';'"),
        ({"tags": [[""], None]}, "none empty"),
        ({"tags": [[str(i) for i in range(65)], None]}, "give 64 at most"),
        ({"pids": "x" * 513}, "its pid has 513 bytes, and 512 are possible"),
        ({"tracklets": "\ud800"}, "is not Unicode"),
        ({"camids": 2**63}, "camid"),
        ({"camids": -2}, "no camera is numbered -2; give camids as whole numbers from 0, and -1 for unknown"),
        ({"camids": ["front", "back"]}, "camid"),
        ({"camids": [0.5, 1]}, "camid"),
        ({"pids": 2**70}, None),
        ({"tracklets": [5, 6]}, "tracklet"),
        ({"tags": [[5], None]}, "tag"),
    ],
)
def test_labels_that_do_not_fit(opened, encoder, photos, labels, message):
    gallery = opened(encoder)
    if message is None:
        gallery.add(photos[:2], **labels)
        assert {crop.pid for crop in gallery.crops()} == {labels["pids"]}
        return
    with pytest.raises(GalleryError, match=message):
        gallery.add(photos[:2], **labels)
    assert len(gallery) == 0


def test_texts_of_every_kind_are_stored_found_and_removed(opened, random_vectors, block_of, spec):
    gallery = opened()
    vectors = random_vectors(len(WEIRD))
    tags = [text.replace(";", ",") for text in WEIRD]
    block = block_of(vectors, pid=WEIRD, tracklet=WEIRD, tags=tags, path=[f"/{text}" for text in WEIRD])
    assert gallery.add_features([block], spec).added == len(WEIRD)
    assert {crop.pid for crop in gallery.crops()} == set(WEIRD)
    for row, text in enumerate(WEIRD):
        for where in (Conditions(pids=[text]), Conditions(tags=[text]), Conditions(paths=[f"/{text}"])):
            assert [crop.tracklet for crop in gallery.crops(where)] == [text], where
        assert [hit.pid for hit in gallery.search_features(vectors[row : row + 1], where=Conditions(pids=[text]))] == [
            text
        ]
        assert gallery.remove(pid=text, dry_run=True) == 1
    assert gallery.remove(pid='"] or pid != ["x') == 0
    for left, text in enumerate(reversed(WEIRD)):
        assert len(gallery) == len(WEIRD) - left
        assert gallery.remove(pid=text) == 1


@pytest.mark.parametrize("text", ["\ud800", "a\x00b"])
def test_conditions_that_no_crop_can_meet_are_no_crash(opened, text):
    gallery = opened()
    if text == "\ud800":
        with pytest.raises(GalleryError, match="is not Unicode; no crop"):
            gallery.remove(pid=text)
    else:
        assert gallery.remove(pid=text) == 0


def test_removal_by_each_condition(opened, encoder, photos):
    gallery = opened(encoder)
    labels = {"pids": ["a", "a", "b", None, 5], "camids": [0, 1, 0, 2, 2], "tags": ["x", "x;y", "y", None, "z"]}

    def removed(**conditions):
        gallery.add(photos[:5], **labels)
        before = by_path(gallery)
        assert len(before) == 5
        counted = gallery.remove(**conditions, dry_run=True)
        assert len(gallery) == 5
        assert gallery.remove(**conditions) == counted
        left = by_path(gallery)
        hits = gallery.search(photos[0], k=10)
        assert {hit.path for hit in hits} == {crop.path for crop in left.values()}, "gone from search at once"
        return {int(name[1]) for name in set(before) - set(left)}

    assert removed(pid="a") == {0, 1}
    assert removed(pid=["a", 5]) == {0, 1, 4}
    assert removed(pid=[None]) == {3}
    assert removed(camid=0) == {0, 2}
    assert removed(camid=[1, 2]) == {1, 3, 4}
    assert removed(tag="x") == {0, 1}
    assert removed(tag=["x", "y"]) == {1}
    assert removed(pid="a", camid=0) == {0}
    assert removed(path=photos[2]) == {2}
    assert removed(path=[str(photos[2]), photos[3]]) == {2, 3}
    assert removed(ids=[file_digest(photos[4])]) == {4}
    assert removed(pid="nobody") == set()
    for nothing in ({}, {"tag": ()}):
        with pytest.raises(GalleryError, match="nothing says which crops to remove"):
            gallery.remove(**nothing)
    for empty in ({"pid": []}, {"path": []}, {"camid": []}, {"ids": []}):
        assert removed(**empty) == set(), "none of nothing"


def test_removal_by_age(opened, encoder, photos):
    gallery, now = opened(encoder), time.time()
    gallery.add(photos[:4], times=[now - 10 * 86400, now - 3600, None, -1e9])
    assert gallery.remove(older_than="30d", dry_run=True) == 1
    assert gallery.remove(older_than="9d", dry_run=True) == 2
    assert gallery.remove(older_than=timedelta(hours=2), dry_run=True) == 2
    assert gallery.remove(older_than="59m", dry_run=True) == 3
    time.sleep(0.05)
    assert gallery.remove(older_than=0.04, dry_run=True) == 4, "the one without a time counts from when it was added"
    for wrong in ("30", "-1d", "1y", -5, "", "d", float("nan")):
        with pytest.raises(GalleryError, match="is no length of time"):
            gallery.remove(older_than=wrong)
    for long in ("9999999d", "9" * 400 + "d", float("inf")):
        assert gallery.remove(older_than=long) == 0
    assert gallery.remove(older_than="9d") == 2 and len(gallery) == 2


def test_thumbnails_come_and_go_with_their_crops(opened, encoder, photos, tmp_path):
    gallery = opened(encoder, thumbnails=tmp_path / "small")
    gallery.add(photos[:4], ["a", "a", "b", "b"])
    ids = [file_digest(path) for path in photos[:4]]
    pictures = [gallery.thumbnails.path(crop_id) for crop_id in ids]
    for picture in pictures:
        with Image.open(picture) as opened_picture:
            assert opened_picture.size == (2, 4)
    assert gallery.stats().thumbnails == 4
    gallery.remove(pid="a", dry_run=True)
    assert [picture.exists() for picture in pictures] == [True] * 4
    gallery.remove(pid="a")
    assert [picture.exists() for picture in pictures] == [False, False, True, True]
    pictures[2].unlink()
    pictures[2].mkdir()
    with pytest.raises(OutputError, match=r"the thumbnail .* cannot be deleted .*; make its folder writable"):
        gallery.remove(pid="b")
    assert len(gallery) == 2
    pictures[2].rmdir()
    pictures[2].touch()
    stray = gallery.thumbnails.path("ff" * 32)
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"of a crop that is gone")
    assert gallery.compact() == 1 and not stray.exists() and pictures[2].exists()


def test_relabelled_crops_keep_their_vectors(opened, encoder, photos):
    from dataclasses import replace

    gallery = opened(encoder)
    gallery.add(photos[:3], ["a", "b", "c"])
    crop = by_path(gallery)["p1.png"]
    vector = gallery.vector(crop.id)
    gallery.relabel([replace(crop, pid=9, tags=("seen",)), Crop("00" * 32, pid="never stored")])
    assert by_path(gallery)["p1.png"] == replace(crop, pid=9, tags=("seen",)) and len(gallery) == 3
    np.testing.assert_array_equal(gallery.vector(crop.id), vector)
    with pytest.raises(GalleryError, match="holds no crop 0000"):
        gallery.vector("00" * 32)


def test_stats_count(opened, encoder, photos, place, spec):
    gallery = opened(encoder)
    empty = gallery.stats()
    assert (empty.crops, empty.identities, empty.cameras, empty.tags, empty.first) == (0, 0, {}, {}, None)
    gallery.add(photos[:4], ["a", "a", 1, None], [1, 0, 1, -1], [5, None, 3, None], ["x", "x;y", None, None])
    found = gallery.stats()
    assert (found.crops, found.identities, found.unidentified) == (4, 2, 1)
    assert found.cameras == {-1: 1, 0: 1, 1: 2} and found.tags == {"x": 2, "y": 1}
    assert (found.first, found.last, found.index, found.spec) == (3, 5, "FLAT", spec)
    assert found.bytes is None if place.server else found.bytes > 0


def test_a_table_goes_out_and_in_again(opened, encoder, photos, spec, block_of, random_vectors):
    gallery = opened(encoder)
    gallery.add(photos[:4], ["a", 12, None, "0012"], [0, 1, -1, 2], [5, None, 1e9, 0], ["x;y", None, "z", None])
    gallery.add_features([block_of(random_vectors(2), pid=["p", "q"])], spec, tags=["old"])
    before, blocks = {crop.id: crop for crop in gallery.crops()}, list(gallery.table())
    vectors = {crop_id: gallery.vector(crop_id) for crop_id in before}
    done = []
    report = gallery.add_features(blocks, spec, done.append)
    assert counts(report) == (0, 6, 0, 0, 0) and sum(done) == 6
    assert gallery.remove(older_than=0) == 6 and len(gallery) == 0
    assert counts(gallery.add_features(blocks, spec)) == (6, 0, 0, 0, 0)
    after = {crop.id: crop for crop in gallery.crops()}
    assert {key: (labels(crop), crop.path) for key, crop in after.items()} == {
        key: (labels(crop), crop.path) for key, crop in before.items()
    }
    for crop_id, vector in vectors.items():
        np.testing.assert_array_equal(gallery.vector(crop_id), vector)
    assert {crop.pid for crop in gallery.crops(Conditions(tags=["old"]))} == {"p", "q"}


def test_features_of_another_model_are_refused(opened, place, encoder_of, block_of, random_vectors, spec):
    from dataclasses import replace

    gallery = opened()
    block = block_of(random_vectors(1))
    with pytest.raises(EvaluationError, match=r"the gallery .* the table|differ"):
        gallery.add_features([block], replace(spec, neck="after"))
    with pytest.raises(EvaluationError, match="do not say which model"):
        gallery.add_features([block], None)
    with pytest.raises(EvaluationError, match=r"weights.*0f3a.*beef"):
        Gallery(place.uri, encoder_of("beef"), name=place.name)
    for shape in ((1, 23), (0, 24), (24,)):
        with pytest.raises(GalleryError, match=r"give \(n, 24\)"):
            gallery.search_features(np.zeros(shape, np.float32))
    with pytest.raises(GalleryError, match="opened without a model"):
        gallery.search(np.zeros((4, 2, 3), np.uint8))


def test_features_that_no_search_could_compare_are_refused(opened, block_of, random_vectors, spec):
    gallery, paths = opened(), [f"/{row}.png" for row in range(3)]
    for value, message in (
        (np.nan, r"/1\.png has NaN or infinity"),
        (np.inf, "NaN or infinity"),
        (9, "not 1, as the mod"),
    ):
        vectors = random_vectors(3)
        vectors[1, 0] = value
        with pytest.raises(GalleryError, match=message):
            gallery.add_features([block_of(vectors, path=paths)], spec)
    with pytest.raises(GalleryError, match=r"features of shape \(3, 20\) for 3 crops; give \(n, 24\)"):
        gallery.add_features([block_of(random_vectors(3)[:, :20])], spec)
    assert len(gallery) == 0
    half = TableBlock({"path": np.array(["/\0y", "/a", "/b"])}, random_vectors(3).astype(np.float16))
    assert counts(gallery.add_features([half], spec)) == (3, 0, 0, 0, 0)
    with pytest.raises(GalleryError, match="the query's features hold NaN or infinity"):
        gallery.search_features(np.full((1, 24), np.nan, np.float32))


def test_two_objects_in_one_process_see_each_other(opened, encoder, photos):
    first, second = opened(encoder), opened(encoder)
    first.add(photos[:2])
    assert len(second) == 2
    first.close()
    assert counts(second.add(photos[:3])) == (1, 2, 0, 0, 0), "the other was closed"


def test_a_gallery_is_made_only_when_asked_for(place, encoder, tmp_path):
    with pytest.raises(GalleryError, match=r"there is no such gallery|holds no gallery named"):
        Gallery(place.uri, name=place.name)
    with pytest.raises(GalleryError, match=r"there is no such gallery|holds no gallery named"):
        Gallery(place.uri, encoder, name=place.name, mode="r+")
    with pytest.raises(GalleryError, match="needs the model"):
        Gallery(place.uri, name=place.name, mode="a")
    with pytest.raises(GalleryError, match="no index is named 'BEST'; give one of FLAT, HNSW"):
        Gallery(place.uri, encoder, name=place.name, index="BEST")
    Gallery(place.uri, encoder, name=place.name).close()
    with pytest.raises(GalleryError, match="already"):
        Gallery(place.uri, encoder, name=place.name, mode="x")
    for mode in ("w", ""):
        with pytest.raises(GalleryError, match=f"mode is '{mode}'; give one of 'r\\+', 'a', 'x'"):
            Gallery(place.uri, encoder, name=place.name, mode=mode)
    Gallery(place.uri, encoder, name=place.name, mode="a").close()
    Gallery(place.uri, name=place.name, mode="r+").close()
    for name in ("a-b", "1a", "", "é", "a b"):
        with pytest.raises(GalleryError, match="cannot be named"):
            Gallery(place.uri, encoder, name=name)


def test_a_closed_gallery_says_so(opened, encoder, photos):
    gallery = opened(encoder)
    gallery.close()
    with pytest.raises(GalleryError, match="the gallery is closed; open it again"):
        gallery.search(photos[0])
