"""Searches find what exact distances and plain filters find, in a file and on a server."""

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import svllreid
from svllreid.errors import GalleryError
from svllreid.evaluation.ranking.rerank import RerankOptions
from svllreid.gallery import milvus, searching
from svllreid.gallery.conditions import moment, search_conditions
from svllreid.gallery.crop import Crop
from svllreid.gallery.searching import SearchOptions, decision_note, tracklets_of

COUNT = 60


def columns(count=COUNT, seed=1):
    """Labels at random, many unknown."""
    random = np.random.default_rng(seed)
    return {
        "pid": random.choice(["", "a", "b", "7"], count),
        "camid": random.integers(-1, 3, count),
        "time": random.choice([np.nan, 0, 50, 100], count),
        "tags": random.choice(["", "x", "y", "x;y"], count),
        "path": np.array([f"/{row}.png" for row in range(count)]),
    }


@pytest.fixture
def filled(opened, block_of, random_vectors, spec):
    """A gallery with labelled features, and them."""
    gallery, vectors = opened(), random_vectors(COUNT)
    gallery.add_features([block_of(vectors, **columns())], spec)
    return gallery, vectors


def rows(hits):
    return [int(hit.path[1:-4]) for hit in hits]


def exact(query, vectors, kept=None):
    """The rows in the order of their distances, and these."""
    near = np.asarray(svllreid.distances(query, vectors)).min(0)
    kept = np.arange(len(vectors)) if kept is None else np.flatnonzero(kept)
    order = kept[np.argsort(near[kept], kind="stable")]
    return order.tolist(), near[order]


def test_hits_are_those_of_exact_distances(filled, random_vectors):
    gallery, vectors = filled
    for seed in range(5):
        query = random_vectors(1, seed + 10)
        order, near = exact(query, vectors)
        hits = gallery.search_features(query, SearchOptions(k=10))
        assert rows(hits) == order[:10]
        np.testing.assert_allclose([hit.distance for hit in hits], near[:10], atol=1e-6)
        assert {hit.probability for hit in hits} == {None}
        assert rows(gallery.search_features(query, SearchOptions(k=1000))) == order, "more hits than crops"
    hit = gallery.search_features(vectors[5:6], SearchOptions(k=1))[0]
    table = columns()
    assert (hit.path, hit.camid, hit.pid) == ("/5.png", table["camid"][5], table["pid"][5] or None)
    assert hit.distance == pytest.approx(0, abs=1e-3)


conditions = st.fixed_dictionaries(
    {},
    optional={
        "camids": st.lists(st.integers(-1, 3), max_size=3) | st.integers(-1, 3),
        "not_camids": st.lists(st.integers(-1, 3), max_size=2),
        "after": st.sampled_from([-1, 0, 50, "1970-01-01T00:01:00Z", 100, 101]),
        "before": st.sampled_from([-1, 0, 50, 50.5, 101]),
        "tags": st.lists(st.sampled_from(["x", "y", "z"]), max_size=2),
        "pids": st.lists(st.sampled_from(["a", "b", 7, "7", None, "c"]), max_size=3),
    },
)


def plainly(chosen):
    """Which rows meet conditions, by plain Python."""
    table = columns()
    kept = []
    for pid, camid, time, tags in zip(table["pid"], table["camid"], table["time"], table["tags"], strict=True):
        after, before = chosen.get("after"), chosen.get("before")
        after = 60 if isinstance(after, str) else after
        camids = chosen.get("camids", range(-1, 9))
        kept.append(
            camid in (camids if not isinstance(camids, int) else [camids])
            and camid not in chosen.get("not_camids", ())
            and (after is None or time >= after)
            and (before is None or time < before)
            and all(tag in tags for tag in chosen.get("tags", ()))
            and ("pids" not in chosen or pid in ["" if one is None else str(one) for one in chosen["pids"]])
        )
    return np.array(kept)


def test_filters_are_those_of_plain_python(filled, random_vectors):
    gallery, vectors = filled

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
    @given(conditions, st.integers(0, 99))
    @example({"after": 50}, 0)
    @example({"before": 50}, 0)
    def check(chosen, seed):
        if "after" in chosen and "before" in chosen and moment(chosen["before"]) <= moment(chosen["after"]):
            with pytest.raises(GalleryError, match="no time lies after"):
                search_conditions(**chosen)
            return
        where, query = search_conditions(**chosen), random_vectors(1, seed)
        order, _ = exact(query, vectors, plainly(chosen))
        assert rows(gallery.search_features(query, SearchOptions(k=COUNT), where)) == order
        assert sorted(rows(gallery.crops(where))) == sorted(order)
        assert gallery.store.count(where) == len(order)

    check()


def test_a_threshold_leaves_nobody(filled, random_vectors):
    gallery, vectors = filled
    query = random_vectors(1, 10)
    order, near = exact(query, vectors)
    between = float((near[2] + near[3]) / 2)
    assert rows(gallery.search_features(query, SearchOptions(threshold=between))) == order[:3]
    assert gallery.search_features(query, SearchOptions(threshold=float(near[0]) - 1e-3)) == []


def test_several_images_are_one_query(filled, random_vectors):
    gallery, vectors = filled
    queries = random_vectors(3, 10)
    mean = queries.mean(0, keepdims=True)
    order, near = exact(mean / np.linalg.norm(mean), vectors)
    hits = gallery.search_features(queries, SearchOptions(k=5))
    assert rows(hits) == order[:5]
    np.testing.assert_allclose([hit.distance for hit in hits], near[:5], atol=1e-6)
    order, near = exact(queries, vectors)
    hits = gallery.search_features(queries, SearchOptions(k=5, combine="best"))
    assert rows(hits) == order[:5]
    np.testing.assert_allclose([hit.distance for hit in hits], near[:5], atol=1e-6)


def test_a_decision_about_another_number_of_images_than_was_calibrated_is_said():
    assert decision_note(1, "mean", 1) == decision_note(1, "best", 1) == decision_note(3, "mean", 3) == ""
    assert "a mean of 3 images" in decision_note(3, "mean", 1) and "more crops" in decision_note(3, "mean", 1)
    assert "a single image, and the calibration is of means of 5 images: fewer" in decision_note(1, "mean", 5)


def test_only_the_first_of_each_identity_is_a_hit(filled, random_vectors):
    gallery, vectors = filled
    pids = columns()["pid"]
    query = random_vectors(1, 10)
    order, _ = exact(query, vectors)
    firsts, seen = [], set()
    for row in order:
        if not pids[row] or pids[row] not in seen:
            firsts.append(row)
        seen.add(pids[row])
    assert rows(gallery.search_features(query, SearchOptions(k=6, group_by="pid"))) == firsts[:6]
    assert rows(gallery.search_features(query, SearchOptions(k=999, group_by="pid"))) == firsts


def test_vectors_that_do_not_fit_into_one_answer(filled, random_vectors, monkeypatch):
    gallery, _ = filled
    options = SearchOptions(k=20, combine="best")
    hits = gallery.search_features(random_vectors(3, 10), options)
    monkeypatch.setattr(milvus, "_ANSWER_BYTES", 100)
    assert gallery.search_features(random_vectors(3, 10), options) == hits


def test_groups_need_more_crops_than_hits(opened, block_of, random_vectors, spec):
    """Of fifty crops of a, all nearer than the others, one is a hit."""
    gallery, vectors = opened(), random_vectors(50)
    vectors[:48] = vectors[0] + 1e-3 * vectors[:48]
    pids = ["a"] * 48 + ["b", "c"]
    gallery.add_features([block_of(vectors, pid=pids)], spec)
    hits = gallery.search_features(vectors[:1], SearchOptions(k=3, group_by="pid"))
    assert hits[0].pid == "a" and {hit.pid for hit in hits[1:]} == {"b", "c"}


def test_only_the_first_of_each_tracklet_is_a_hit(opened, block_of, random_vectors, spec):
    gallery, vectors = opened(), random_vectors(8)
    labels = {
        "pid": ["a", "a", "a", "a", "b", "", "", ""],
        "camid": [0, 0, 0, 1, 0, 0, 0, 1],
        "time": [0, 8, 30, 8, 8, 8, 8, 8],
        "tracklet": ["", "", "", "", "", "t", "t", "t"],
        "path": [f"/{row}.png" for row in range(8)],
    }
    gallery.add_features([block_of(vectors, **labels)], spec)
    order, _ = exact(vectors[:1], vectors)
    group = [0, 0, 1, 2, 3, 4, 4, 5]
    firsts = [row for place, row in enumerate(order) if group[row] not in [group[other] for other in order[:place]]]
    assert rows(gallery.search_features(vectors[:1], SearchOptions(group_by="tracklet"))) == firsts
    wide = gallery.search_features(vectors[:1], SearchOptions(group_by="tracklet", gap=30))
    assert len(wide) == 5, "the third joins the first two"


def test_tracklets_of_crops():
    times = [0, 10, 20.5, None]
    crops = [Crop(str(number), pid="a", camid=0, time=time) for number, time in enumerate(times)]
    crops += [Crop("4", pid=None, camid=0, time=0), Crop("5", pid="a", camid=-1, time=0)]
    tracklets = tracklets_of(crops[::-1], 10)
    assert tracklets["0"] == tracklets["1"]
    assert len(set(tracklets.values())) == 5
    assert (
        len(set(tracklets_of([Crop("x", pid=7, camid=0, time=0), Crop("y", pid="7", camid=0, time=1)], 9).values()))
        == 2
    )


def test_reranked_as_the_published_test_does(filled, random_vectors):
    gallery, vectors = filled
    query = random_vectors(1, 10)
    order = np.asarray(svllreid.rerank(query, vectors, k1=20, k2=6, lambda_value=0.3))[0].argsort(kind="stable")
    plain, _ = exact(query, vectors)
    hits = gallery.search_features(query, SearchOptions(k=20, rerank=RerankOptions(k1=20, k2=6, lambda_value=0.3)))
    assert rows(hits) == order[:20].tolist() != plain[:20]
    near = np.asarray(svllreid.distances(query, vectors))[0]
    np.testing.assert_allclose([hit.distance for hit in hits], near[order[:20]], atol=1e-6)
    assert len(gallery.search_features(query, SearchOptions(rerank=RerankOptions(), k=1000))) == COUNT


def test_equal_ones_always_come_in_the_same_order(opened, block_of, random_vectors, spec):
    gallery = opened()
    vectors = np.repeat(random_vectors(1), 6, 0)
    for row in (3, 1, 5, 0, 2, 4):  # vectors are alike: only their files tell them apart
        gallery.store.upsert([Crop(f"{row:064d}", f"/{row}.png")], vectors[row : row + 1])
    hits = gallery.search_features(vectors[:1])
    assert rows(hits) == [0, 1, 2, 3, 4, 5]
    assert len({hit.distance for hit in hits}) == 1


def test_searched_by_images(opened, encoder, photos):
    gallery = opened(encoder)
    gallery.add(photos, [f"p{number}" for number in range(10)], [number % 2 for number in range(10)])
    assert [gallery.search(photo, k=1)[0].pid for photo in photos] == [f"p{number}" for number in range(10)]
    assert {hit.camid for hit in gallery.search(photos[0], not_camids=0)} == {1}
    assert {hit.camid for hit in gallery.search(photos[0], camids=[0])} == {0}
    assert [hit.pid for hit in gallery.search(photos[0], pids=["p3", "p4"], threshold=9)][::1]
    assert len(gallery.search(photos[:3], k=4, combine="best", rerank=True, group_by="pid")) == 4
    assert gallery.search(photos[0], before="1971-01-01") == [], "no time is known"


def test_empty_gallery(opened, encoder, photos):
    gallery = opened(encoder)
    for options in (SearchOptions(), SearchOptions(rerank=RerankOptions()), SearchOptions(group_by="tracklet")):
        assert gallery.search_features(encoder.encode(photos[:2]), options) == []
    assert gallery.search(photos[0], combine="best") == [] and list(gallery.table()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "give 1 to 16384 hits"),
        ({"k": 16385}, "give 1 to 16384 hits"),
        ({"combine": "median"}, "'mean', 'best'"),
        ({"group_by": "camid"}, "None, 'pid', 'tracklet'"),
        ({"gap": -1.0}, "gap"),
        ({"gap": float("nan")}, "gap"),
        ({"threshold": float("nan")}, "threshold"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(GalleryError, match=message):
        SearchOptions(**options)


@pytest.mark.parametrize("index", ["HNSW", "IVF_FLAT", "IVF_SQ8"])
def test_other_indexes_find_nearly_the_same(opened, block_of, random_vectors, spec, index):
    gallery, vectors = opened(index=index), random_vectors(3000)
    paths = [f"/{row}.png" for row in range(3000)]
    gallery.add_features([block_of(vectors, path=paths)], spec)
    assert gallery.stats().index == index
    found = 0
    for seed in range(10):
        query = random_vectors(1, seed + 10)
        order, _ = exact(query, vectors)
        found += len(set(order[:10]) & set(rows(gallery.search_features(query))))
    assert found >= 90
    assert len(gallery.search_features(query, SearchOptions(k=500))) == 500, "more hits than the index' usual list"


def turned(angles):
    """Features of length 1 in the plane of the first two numbers, at these angles from the first."""
    vectors = np.zeros((len(angles), 24), np.float32)
    vectors[:, 0], vectors[:, 1] = np.cos(angles), np.sin(angles)
    return vectors


def test_groups_of_several_images_come_in_the_order_of_distance(opened, block_of, spec):
    gallery = opened()
    angles = [*np.linspace(0.01, 0.02, 30), 0.5, *np.linspace(2.6, 2.7, 30)]  # from two queries, at 0 and at 2
    pids = ["many"] * 30 + ["second"] + [f"far {number}" for number in range(30)]
    gallery.add_features([block_of(turned(angles), pid=pids)], spec)
    options = SearchOptions(k=3, combine="best", group_by="pid")
    assert [hit.pid for hit in gallery.search_features(turned([0, 2]), options)] == ["many", "second", "far 0"]


def test_groups_among_more_crops_than_a_search_can_have(opened, block_of, spec, monkeypatch, caplog):
    monkeypatch.setattr(searching, "MAX_HITS", 20)
    gallery = opened()
    pids = ["many"] * 30 + ["other"]
    gallery.add_features([block_of(turned(np.linspace(0, 1, 31)), pid=pids)], spec)
    options = SearchOptions(k=2, group_by="pid")
    assert [hit.pid for hit in gallery.search_features(turned([0]), options)] == ["many"]
    assert "the nearest 20 crops belong to 1 groups; more crops are not looked at" in caplog.text
    caplog.clear()
    near = SearchOptions(k=2, group_by="pid", threshold=0.1)
    assert [hit.pid for hit in gallery.search_features(turned([0]), near)] == ["many"]
    assert not caplog.text, "the others are beyond the threshold"
