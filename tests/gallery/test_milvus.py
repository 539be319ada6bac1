"""What stands in the way of a gallery is one message: locks, files, folders, other versions, missing libraries."""

import builtins
import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from svllreid.errors import GalleryError
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.milvus import _RECORD, MilvusStore
from svllreid.gallery.record import GalleryRecord

HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("open", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def held(tmp_path):
    """Another process that has the gallery's file open for some seconds."""
    processes = []

    def hold(seconds):
        words = [sys.executable, "-c", HOLD, str(tmp_path / ".people.db.lock"), str(seconds)]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True))
        assert processes[-1].stdout.readline() == "open\n"
        return processes[-1]

    yield hold
    for process in processes:
        process.kill()
        process.communicate()


def test_a_second_process_stops_or_waits(held, tmp_path, encoder):
    process, uri = held(60), tmp_path / "people.db"
    with pytest.raises(GalleryError, match="is open in another process; put the gallery on") as error:
        Gallery(uri, encoder)
    assert error.value.settings == ("waiting",)
    threading.Timer(0.5, process.kill).start()
    start = time.monotonic()
    Gallery(uri, encoder, wait=True).close()
    assert 0.4 < time.monotonic() - start < 20


def test_closed_galleries_leave_nothing_behind(tmp_path, encoder, photos):
    uri = tmp_path / "people.db"

    def leftovers():
        files = []
        for number in list(Path("/proc/self/fd").iterdir()):
            with suppress(FileNotFoundError):  # the listing's own
                files.append(number.readlink())
        return threading.active_count(), len([file for file in files if tmp_path in file.parents])

    with Gallery(uri, encoder) as gallery:
        gallery.add(photos)
    time.sleep(0.2)
    before = leftovers()
    start = time.monotonic()
    for _ in range(3):
        with Gallery(uri, encoder) as gallery:
            gallery.search(photos[0])
    assert time.monotonic() - start < 10
    time.sleep(0.5)
    after = leftovers()
    assert after[0] <= before[0] + 1 and after[1] == 0
    gallery.close()
    with Gallery(uri) as one, Gallery(uri) as other:
        one.close()
        one.close()
        assert len(other) == 10, "closed twice, it lets go once"


def test_files_that_are_no_galleries(tmp_path, encoder):
    with pytest.raises(GalleryError, match=r"a gallery's file ends in \.db; name it people\.sqlite\.db"):
        Gallery(tmp_path / "people.sqlite", encoder)
    (tmp_path / "people.db").write_bytes(b"SQLite format 3")
    with pytest.raises(GalleryError, match="is no gallery, but another file"):
        Gallery(tmp_path / "people.db", encoder)
    (tmp_path / "file").touch()
    with pytest.raises(GalleryError, match="cannot be opened"):
        Gallery(tmp_path / "file" / "people.db", encoder)
    assert Gallery(tmp_path / "new" / "folder" / "people.db", encoder).close() is None
    with pytest.raises(GalleryError, match="there is no such gallery"):
        Gallery(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists() and not (tmp_path / ".absent.db.lock").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path, encoder):
    tmp_path.chmod(0o555)
    with pytest.raises(GalleryError, match=r"people\.db cannot be opened \(Permission denied\)"):
        Gallery(tmp_path / "people.db", encoder)
    tmp_path.chmod(0o755)


def changed_record(uri, change):
    """Changes what the gallery's file says of itself."""
    file = uri / "collections/crops/schema.json"
    schema = json.loads(file.read_text())
    schema["properties"][_RECORD] = change(schema["properties"][_RECORD])
    file.write_text(json.dumps(schema))


def test_other_versions_and_damaged_records(tmp_path, encoder):
    uri = tmp_path / "people.db"
    Gallery(uri, encoder).close()
    whole = []
    changed_record(uri, lambda text: whole.append(text) or json.dumps({**json.loads(text), "version": 9}))
    with pytest.raises(GalleryError, match=r"made by another version of svllreid \(format 9, here 1\)"):
        Gallery(uri)
    for broken in (
        "{",
        "[]",
        "{}",
        json.dumps({**json.loads(whole[0]), "embedding": {}}),
        json.dumps({**json.loads(whole[0]), "index": "BEST"}),
        json.dumps({**json.loads(whole[0]), "thumbnails": 5}),
        whole[0].replace("0f3a", "0f3b"),
    ):
        changed_record(uri, lambda text, broken=broken: broken)
        with pytest.raises(GalleryError, match="has a damaged record"):
            Gallery(uri)
    changed_record(uri, lambda text: whole[0])
    Gallery(uri, encoder).close()


def test_collections_of_others_are_no_galleries(tmp_path, encoder):
    store = MilvusStore(tmp_path / "people.db")
    store.client.create_collection("crops", dimension=4)
    store.close()
    with pytest.raises(GalleryError, match="collection crops is no gallery of svllreid"):
        Gallery(tmp_path / "people.db", encoder)


@pytest.mark.parametrize("damage", ["manifest.json", "schema.json", "parquet", "absent"])
def test_damaged_files(tmp_path, encoder, photos, damage):
    uri = tmp_path / "people.db"
    with Gallery(uri, encoder) as gallery:
        gallery.add(photos)
    victims = [file for file in uri.rglob("*") if file.name == damage or file.suffix == f".{damage}"]
    for file in victims or [next(uri.rglob("*.parquet"))]:
        file.write_bytes(b"{damaged")
        if damage == "absent":
            file.unlink()
    assert victims or damage == "absent"
    with pytest.raises(GalleryError, match=r"people\.db"), Gallery(uri, encoder) as gallery:
        gallery.search(photos[0])


def test_names_of_unfinished_galleries(tmp_path, encoder):
    for name in ("crops_next", "crops_old"):
        with pytest.raises(GalleryError, match="those of unfinished ones"):
            Gallery(tmp_path / "people.db", encoder, name=name)


def test_without_pymilvus_the_extra_is_named(tmp_path, encoder, monkeypatch):
    original = builtins.__import__

    def missing(name, *arguments, **options):
        if name.split(".")[0] == "pymilvus":
            raise ImportError(name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(GalleryError, match=r"pip install 'svllreid\[search\]'"):
        Gallery(tmp_path / "people.db", encoder)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "milvus_lite.server_manager", None)
    with pytest.raises(GalleryError, match=r"need milvus-lite; install it with: pip install 'svllreid\[search\]'"):
        Gallery(tmp_path / "people.db", encoder)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, r"No space left on device; free space, then give the same command again"),
        (errno.EACCES, r"Permission denied; make it and its folder writable"),
        (errno.EIO, "if the file is damaged, restore it or make it anew"),
    ],
)
def test_a_file_that_cannot_be_written(tmp_path, encoder, photos, monkeypatch, code, advice):
    with Gallery(tmp_path / "people.db", encoder) as gallery:

        def fail(*arguments, **options):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(gallery.store.client, "upsert", fail)
        with pytest.raises(GalleryError, match=advice):
            gallery.add(photos[:1])


def test_other_log_handlers_stay_open(tmp_path):
    script = "import logging, logging.config, sys\nfrom svllreid.gallery.pymilvus_library import load_pymilvus\n"
    script += "logging.basicConfig(filename=sys.argv[1], filemode='w', level='INFO')\n"
    script += (
        "logging.info('before')\nload_pymilvus()\nlogging.info('after')\nlogging.config.dictConfig({'version': 1})"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "log.txt"], check=True)
    assert (tmp_path / "log.txt").read_text() == "INFO:root:before\nINFO:root:after\n"


def test_a_server_that_is_not_there(encoder):
    start = time.monotonic()
    with pytest.raises(GalleryError, match=r"127\.0\.0\.1:9: .*check that the server runs at this address"):
        Gallery("http://127.0.0.1:9", encoder, timeout=2)
    assert time.monotonic() - start < 15
    with pytest.raises(GalleryError, match="ftp"):
        Gallery("ftp://127.0.0.1:9", encoder, timeout=2)


def test_records_are_read_as_written(spec):
    record = GalleryRecord(spec, "HNSW", "/small")
    assert GalleryRecord.from_json(record.to_json(), "it") == record


def test_a_gallery_moves_with_its_thumbnails(tmp_path, encoder, photos):
    with Gallery(tmp_path / "people.db", encoder, thumbnails=True) as gallery:
        gallery.add(photos[:2])
        assert gallery.thumbnails.folder == tmp_path / "people.thumbnails"
    shutil.copytree(tmp_path / "people.db", tmp_path / "copy.db")
    with Gallery(tmp_path / "copy.db") as gallery:
        assert gallery.remove(older_than=0) == 2
    with Gallery(tmp_path / "people.db") as gallery:
        assert gallery.stats().thumbnails == 2, "those of the original stay"
    (tmp_path / "moved").mkdir()
    for name in ("people.db", "people.thumbnails"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    with Gallery(tmp_path / "moved" / "people.db") as gallery:
        assert all(gallery.thumbnails.path(crop.id).is_file() for crop in gallery.crops())
        assert gallery.remove(older_than=0) == gallery.stats().thumbnails + 2 == 2


def test_many_pages(tmp_path, random_vectors, block_of, spec, encoder):
    with Gallery(tmp_path / "people.db", encoder) as gallery:
        vectors = random_vectors(5000)
        gallery.add_features([block_of(vectors, path=[f"/{row}" for row in range(5000)])], spec)
        crops = list(gallery.crops())
        assert len({crop.id for crop in crops}) == len(crops) == 5000
        assert sum(len(block.vectors) for block in gallery.table()) == 5000
        found = [hit.id for hit in gallery.search_features(vectors[:1])]
        np.testing.assert_allclose(gallery.vector(found[0]), vectors[0])
        assert gallery.remove(ids=[crop.id for crop in crops[:4500]]) == 4500 and len(gallery) == 500
