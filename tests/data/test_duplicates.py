"""Files with the same picture: copies, links and files that are listed twice."""

import os
import shutil
from pathlib import Path

import pytest

from svllreid.data.duplicates import find_duplicates, overlap, same_pictures, within_identities
from svllreid.types import Sample, Splits


@pytest.fixture
def files(tmp_path):
    """Three files: two of equal size, of which no byte is an image's."""
    for name, content in {"a": b"1234", "b": b"1243", "c": b"12345"}.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def groups(paths):
    """The paths that share a picture, each group once."""
    numbers = same_pictures(paths)
    assert set(numbers) == set(paths)
    return sorted(sorted({p.name for p in paths if numbers[p] == number}) for number in set(numbers.values()))


def test_different_files_are_different_pictures(files):
    assert groups([files / "a", files / "b", files / "c", files / "a"]) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize(
    "make", [shutil.copy, os.link, lambda a, b: b.symlink_to(a)], ids=["copy", "hard link", "symbolic link"]
)
def test_copies_and_links_are_the_same_picture(files, make):
    make(files / "b", files / "twin")
    assert groups([files / name for name in ("a", "b", "c", "twin")]) == [["a"], ["b", "twin"], ["c"]]


def test_a_link_and_a_copy_of_one_file(files):
    os.link(files / "a", files / "link")
    shutil.copy(files / "a", files / "copy")
    assert groups([files / name for name in ("link", "b", "copy", "a")]) == [["a", "copy", "link"], ["b"]]


def test_a_linked_folder(files):
    (files / "linked").symlink_to(files, target_is_directory=True)
    numbers = same_pictures([files / "a", files / "b", files / "linked" / "b"])
    assert numbers[files / "b"] == numbers[files / "linked" / "b"] != numbers[files / "a"]


def test_only_files_of_equal_size_are_read(files, monkeypatch):
    opened = []
    original = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *a, **k: opened.append(path.name) or original(path, *a, **k))
    os.link(files / "a", files / "link")
    same_pictures([files / name for name in ("a", "link", "c")])
    assert opened == [], "one file under two names is no two files"
    same_pictures([files / name for name in ("a", "link", "b", "c")])
    assert opened == ["a", "b"]


def test_empty_and_missing_files_are_pictures_of_their_own(files):
    for name in ("empty", "also empty"):
        (files / name).touch()
    (files / "broken").symlink_to(files / "nowhere")
    names = ["also empty", "broken", "empty", "missing"]
    assert groups([files / name for name in names]) == [[name] for name in names]


def test_progress_counts_every_path_once(files):
    (files / "twin").write_bytes(b"1234")
    done = []
    same_pictures([files / name for name in ("a", "b", "c", "twin", "missing", "a")], done.append)
    assert sum(done) == 5


def sample(path, pid, camid=-1):
    return Sample(path, pid, camid)


def test_overlap_keeps_order_and_asks_which_pairs_are_wanted(files):
    shutil.copy(files / "a", files / "copy")
    query = [sample(files / "b", 1), sample(files / "a", 1, 0), sample(files / "c", 2, 0)]
    gallery = [sample(files / "c", 2, 0), sample(files / "copy", 1, 1), sample(files / "a", 3, 1)]
    numbers = same_pictures(s.path for s in query + gallery)
    found = overlap(query, gallery, numbers, lambda q, g: q.pid == g.pid)
    assert (found.queries, found.gallery) == (tuple(query[1:]), tuple(gallery[:2]))
    assert found.examples == ((query[1], gallery[1]), (query[2], gallery[0]))
    other_cameras = overlap(query, gallery, numbers, lambda q, g: q.camid != g.camid)
    assert (other_cameras.queries, other_cameras.gallery) == ((query[1],), tuple(gallery[1:]))


def test_within_identities_nothing_else_is_compared(files):
    for name in ("twin", "other"):
        shutil.copy(files / "a", files / name)
    numbers = within_identities(sample(files / name, pid) for name, pid in (("a", 1), ("twin", 1), ("other", 2)))
    assert numbers[files / "a"] == numbers[files / "twin"] != numbers[files / "other"]


@pytest.fixture
def splits(files):
    """a twice in train, once in gallery under another identity; b in query and gallery; c in train alone."""
    for name in ("a2", "a3"):
        shutil.copy(files / "a", files / name)
    return Splits(
        "folder",
        train=(sample(files / "a", 1), sample(files / "a2", 1), sample(files / "c", 2)),
        query=(sample(files / "b", 7),),
        gallery=(sample(files / "b", 7), sample(files / "a3", 8)),
    )


def test_duplicates_of_a_dataset(splits, files):
    found = find_duplicates(splits)
    assert found.within == {"train": 1, "query": 0, "gallery": 0}
    assert found.between == {("train", "query"): 0, ("train", "gallery"): 1, ("query", "gallery"): 1}
    assert (found.contradictions, found.examples) == (1, ((splits.train[0], splits.gallery[1]),))


def test_the_first_three_contradictions_are_kept(tmp_path):
    train = []
    for number in range(5):
        for pid in (1, 2):
            (tmp_path / f"{number}_{pid}").write_bytes(bytes([number]))
            train.append(sample(tmp_path / f"{number}_{pid}", pid))
    found = find_duplicates(Splits("folder", tuple(train), (), ()))
    assert found.contradictions == 5
    assert [(a.path.name, b.path.name) for a, b in found.examples] == [(f"{n}_1", f"{n}_2") for n in range(3)]


def test_identities_of_msmt17_are_not_compared_between_train_and_test(splits, files):
    from dataclasses import replace

    assert find_duplicates(replace(splits, name="msmt17")).contradictions == 0
    torn = replace(splits, name="msmt17", gallery=(sample(files / "b", 9),))
    assert find_duplicates(torn).contradictions == 1


def test_an_identity_that_is_text_at_test_alone_is_the_same(splits, files):
    from dataclasses import replace

    texts = (sample(files / "a3", "1"), sample(files / "b", "bob"))
    assert find_duplicates(replace(splits, query=texts, gallery=texts)).contradictions == 0
