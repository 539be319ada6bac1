"""Galleries written anew: for another model, and without what was removed; killed at any moment, they go on."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from svllreid.errors import EvaluationError, GalleryError
from svllreid.gallery import gallery as gallery_module
from svllreid.gallery import rewriting
from svllreid.gallery.conditions import Conditions
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.milvus import MilvusStore


class Killed(BaseException):
    """The process ends here."""


def killed_at(monkeypatch, owner, name, call=1, before=True):
    """Ends the process at the n-th call of a method, before or after it."""
    original, calls = getattr(owner, name), []

    def stopped(*arguments, **options):
        calls.append(arguments)
        if len(calls) != call:
            return original(*arguments, **options)
        if not before:
            original(*arguments, **options)
        raise Killed

    monkeypatch.setattr(owner, name, stopped)


def labels(gallery):
    return {crop.id: crop for crop in gallery.crops()}


def test_migrated_to_another_model(opened, place, encoder, encoder_of, photos, tmp_path):
    gallery, other, done = opened(encoder, thumbnails=tmp_path / "small"), encoder_of("5555"), []
    gallery.add(photos, range(10), tags="x")
    before = labels(gallery)
    assert gallery.migrate(other, progress=done.append) == 0 and sum(done) == 10
    assert labels(gallery) == before and gallery.spec == other.spec
    for photo, crop in zip(photos, sorted(before.values(), key=lambda crop: crop.path), strict=True):
        np.testing.assert_allclose(gallery.vector(crop.id), other.encode(photo)[0], atol=1e-6)
    assert gallery.search(photos[3], k=1)[0].pid == 3 and gallery.stats().thumbnails == 10
    assert gallery.add(photos).present == 10
    gallery.close()
    with pytest.raises(EvaluationError, match="weights"):
        Gallery(place.uri, encoder, name=place.name)
    with Gallery(place.uri, other, name=place.name) as again:
        assert len(again) == 10


def test_missing_and_changed_files(opened, encoder, encoder_of, photos, tmp_path):
    gallery, other = opened(encoder, thumbnails=tmp_path / "small"), encoder_of("5555")
    gallery.add([*photos[:5], np.zeros((4, 2, 3), np.uint8)])
    kept = photos[0].read_bytes()
    photos[0].unlink()
    Image.new("RGB", (2, 4)).save(photos[1])
    with pytest.raises(GalleryError, match=r"3 crops cannot be embedded again.*or drop these crops"):
        gallery.migrate(other)
    assert len(gallery) == 6 and gallery.spec == encoder.spec, "it serves as it was"
    photos[0].write_bytes(kept)
    seen = len(other.embedder.batches)
    assert gallery.migrate(other, drop_missing=True) == 2
    assert sum(other.embedder.batches[seen:]) == 1, "three were embedded before"
    assert {crop.path for crop in gallery.crops()} == {str(photo) for photo in photos[:5] if photo != photos[1]}
    assert gallery.stats().thumbnails == 4


@pytest.mark.parametrize(
    ("owner", "name", "call", "before"),
    [
        (rewriting, "_embed", 1, False),
        (MilvusStore, "create", 1, False),
        (MilvusStore, "rename", 1, True),
        (MilvusStore, "rename", 1, False),
        (MilvusStore, "rename", 2, False),
        (MilvusStore, "drop", 1, False),
    ],
)
def test_killed_while_migrating(opened, place, encoder, encoder_of, photos, monkeypatch, owner, name, call, before):
    gallery, other = opened(encoder), encoder_of("5555")
    gallery.add(photos, range(10))
    stored = labels(gallery)
    with monkeypatch.context() as patch:
        killed_at(patch, owner, name, call, before)
        with pytest.raises(Killed):
            gallery.migrate(other)
    gallery.close()
    with Gallery(place.uri, name=place.name) as again:
        assert labels(again) == stored, "one gallery or the other, whole"
        again.migrate(other)
        assert labels(again) == stored and again.spec == other.spec
        assert again.search(photos[3], k=1)[0].pid == 3
        for ending in ("_next", "_old"):
            assert not again.store.named(place.name + ending).exists()


def test_what_changed_after_an_unfinished_migration_counts(opened, encoder, encoder_of, photos, monkeypatch):
    gallery, other = opened(encoder), encoder_of("5555")
    gallery.add(photos[:6], range(6))
    with monkeypatch.context() as patch:
        killed_at(patch, MilvusStore, "rename")
        with pytest.raises(Killed):
            gallery.migrate(other)
    following = gallery.store.named(gallery.store.name + "_next")
    gone = [crop.id for crop in gallery.crops(Conditions(pids=[0]))]
    assert set(following.find(gone)) == set(gone)
    gallery.remove(pid=0)
    assert following.find(gone) == {}, "gone from both at once"
    with monkeypatch.context() as patch:
        killed_at(patch, gallery_module, "forget")
        with pytest.raises(Killed):
            gallery.remove(pid=5)
    first = next(gallery.crops(Conditions(pids=[1])))
    gallery.relabel([replace(first, pid="one", tags=("seen",))])
    gallery.add(photos[6:8], [6, 7])
    before, seen = labels(gallery), sum(other.embedder.batches)
    gallery.migrate(other)
    assert labels(gallery) == before and len(before) == 6
    assert sum(other.embedder.batches) - seen == 2, "only the new ones"


def test_an_unfinished_migration_to_a_third_model_is_dropped(opened, encoder, encoder_of, photos, monkeypatch):
    gallery, third, other = opened(encoder), encoder_of("5556"), encoder_of("5555")
    gallery.add(photos[:4], range(4))
    with monkeypatch.context() as patch:
        killed_at(patch, MilvusStore, "rename")
        with pytest.raises(Killed):
            gallery.migrate(third)
    gallery.migrate(other)
    assert gallery.search(photos[2], k=1)[0].distance == pytest.approx(0, abs=1e-3)


def test_removed_features_are_in_no_file_after_compaction(tmp_path, encoder, photos, spec, block_of, random_vectors):
    import pyarrow.ipc
    import pyarrow.parquet

    uri, secret = tmp_path / "people.db", random_vectors(1, 99)

    def readable():
        """Everything in the gallery's files, with tables decoded."""
        for file in sorted(uri.rglob("*")):
            if file.is_file():
                yield file.read_bytes()
                if file.suffix == ".parquet":
                    table = pyarrow.parquet.read_table(file)
                    yield str(table.drop_columns("vector").to_pylist()).encode()
                    vectors = table.column("vector").combine_chunks()
                    yield vectors.flatten().to_numpy().astype(np.float32).tobytes()

    def traces():
        content = list(readable())
        return sum(secret.tobytes() in part or b"a secret name" in part for part in content)

    with Gallery(uri, encoder) as gallery:
        gallery.add_features([block_of(secret, pid=["a secret name"])], spec)
        gallery.add_features([block_of(random_vectors(5))], spec)
    assert traces() > 0
    with Gallery(uri, encoder) as gallery:
        assert gallery.remove(pid="a secret name") == 1
        size, done = gallery.stats().bytes, []
        gallery.compact(done.append)
        assert traces() == 0, "while it is open"
        assert sum(done) == len(gallery) == 5 and gallery.stats().bytes < 2 * size
        assert len(gallery.search_features(secret)) == 5
        gallery.add(photos[:2])
    assert traces() == 0
    with Gallery(uri) as gallery:
        assert len(gallery) == 7


@pytest.mark.parametrize(("name", "call", "before"), [("rename", 1, True), ("rename", 2, True), ("drop", 1, True)])
def test_killed_while_compacting(tmp_path, encoder, photos, monkeypatch, name, call, before):
    uri = tmp_path / "people.db"
    with Gallery(uri, encoder) as gallery:
        gallery.add(photos, range(10))
        gallery.remove(pid=0)
        killed_at(monkeypatch, MilvusStore, name, call, before)
        with pytest.raises(Killed):
            gallery.compact()
    monkeypatch.undo()
    with Gallery(uri, encoder) as gallery:
        gallery.remove(pid=1)
        gallery.compact()
        assert sorted(crop.pid for crop in gallery.crops()) == list(range(2, 10))
    assert [folder.name for folder in (uri / "collections").iterdir()] == ["crops"]


def test_half_made_and_half_dropped_collections_are_removed(tmp_path, encoder, photos):
    uri = tmp_path / "people.db"
    for name in ("crops", "crops_next", "crops_old"):  # as a kill leaves them, before or after their description
        (uri / "collections" / name / "partitions").mkdir(parents=True)
    with Gallery(uri, encoder) as gallery:
        gallery.add(photos[:2])
        gallery.compact()
        assert len(gallery) == 2
