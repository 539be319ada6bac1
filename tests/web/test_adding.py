"""Pictures that are added in the background: jobs that fail, jobs that a restart continues, galleries of several."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from svllreid.errors import GalleryError
from svllreid.gallery.crop import AddReport, Crop
from svllreid.web.errors import Refusal, ServeError
from svllreid.web.service import stock
from svllreid.web.service.adding import AddQueue, Labels
from svllreid.web.service.crops import Crops
from svllreid.web.service.records import RemovalConditions
from svllreid.web.service.uploads import decode


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_job_goes_on_after_a_restart_with_what_was_left(tmp_path):
    begun, go_on, added = threading.Event(), threading.Event(), []

    def slow(files, labels):
        added.extend(file.name for file in files)
        begun.set()
        go_on.wait(20)
        return AddReport(added=len(files))

    first = AddQueue(tmp_path, slow)
    job = first.accept([tmp_path / str(number) for number in range(70)], Labels("anna", tags=("a", "b")), ["picture 9"])
    begun.wait(20)
    threading.Timer(0.1, go_on.set).start()
    first.close()
    assert len(added) == 32
    assert len(json.loads((tmp_path / f"{job.id}.json").read_text())["files"]) == 38
    seen = []
    second = AddQueue(tmp_path, lambda files, labels: seen.append((len(files), labels)) or AddReport(added=len(files)))
    until(lambda: second.job(job.id).state == "done")
    assert seen == [(32, Labels("anna", tags=("a", "b"))), (6, Labels("anna", tags=("a", "b")))]
    done = second.job(job.id)
    assert (done.total, done.finished, done.added, done.skipped, done.reasons) == (71, 71, 70, 1, ("picture 9",))
    assert not list(tmp_path.glob("*.json"))
    second.close()


def test_a_job_that_fails_ends_no_other_one_and_is_tried_again_at_the_next_start(tmp_path, caplog):
    broken = True

    def add(files, labels):
        if broken and files[0].name == "bad":
            raise GalleryError("/secret/people.db is gone")
        return AddReport(added=1)

    jobs = AddQueue(tmp_path, add)
    bad, good = jobs.accept([tmp_path / "bad"], Labels(), []), jobs.accept([tmp_path / "good"], Labels(), [])
    until(lambda: jobs.job(good.id).state == "done")
    failed = jobs.job(bad.id)
    assert failed.state == "failed" and "secret" not in failed.error
    assert "/secret/people.db is gone" in caplog.text
    jobs.close()
    broken = False
    again = AddQueue(tmp_path, add)
    until(lambda: again.job(bad.id).state == "done")
    again.close()


def test_more_jobs_than_may_wait_are_refused(tmp_path):
    go_on = threading.Event()
    jobs = AddQueue(tmp_path, lambda files, labels: go_on.wait(20) and AddReport(added=1), most=2)
    for _ in range(2):
        jobs.accept([tmp_path / "a"], Labels(), [])
    with pytest.raises(Refusal, match="being added") as error:
        jobs.accept([tmp_path / "a"], Labels(), [])
    assert (error.value.status, error.value.retry_after) == (503, 60)
    go_on.set()
    jobs.close()


def test_a_file_that_is_no_job_is_said_at_the_start(tmp_path):
    for content in ("", "{", '{"job": {}, "files": [], "labels": {}}'):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(ServeError, match=r"a\.json is no job of adding pictures .*delete it"):
            AddQueue(tmp_path, lambda files, labels: AddReport())


def pictures_of(service):
    return sorted(file.name for file in service.folder.pictures.glob("*/*"))


def test_a_picture_that_is_there_already_is_present_for_each_job(service, people):
    content = (people / "crops" / "rita_0.png").read_bytes()
    with service.lock:  # both are accepted before the first one is carried out
        jobs = [service.stock.start_adding([content]) for _ in range(2)]
    for job in jobs:
        until(lambda job=job: service.stock.adding.job(job.id).state == "done")
        done = service.stock.adding.job(job.id)
        assert (done.present, done.skipped, done.reasons) == (1, 0, ())
    assert pictures_of(service) == []


def test_a_job_that_is_refused_leaves_no_pictures(service, draw):
    service.stock.adding.most = 0
    with pytest.raises(Refusal, match="being added"):
        service.stock.start_adding([draw((1, 2, 3))])
    assert pictures_of(service) == []


def test_pictures_whose_crops_were_removed_meanwhile_are_deleted_at_the_start(open_service, draw, people, caplog):
    caplog.set_level("INFO")
    service = open_service()
    jobs = [service.stock.start_adding([draw((shade, 2, 3))]) for shade in (1, 2)]
    until(lambda: all(service.stock.adding.job(job.id).state == "done" for job in jobs))
    kept, removed = (service.folder.pictures / name[:2] / name for name in pictures_of(service))
    service.gallery.remove(ids=[removed.stem])  # as `svllreid gallery remove` does
    service.stock.adding.close()
    waiting = service.stock._keep(decode(draw((3, 2, 3)), 1, service.limits))
    job = replace(service.stock.adding.job(jobs[0].id), id="0" * 32)
    service.stock.adding._save(job, [waiting], Labels())
    left = waiting.with_name(f".{waiting.name}.1")  # the process 1 is always there
    left.write_bytes(b"half a picture")
    service.close()
    again = open_service()
    until(lambda: again.stock.adding.job(job.id).state == "done")
    assert (kept.exists(), removed.exists(), waiting.exists(), left.exists()) == (True, False, True, False)
    assert "1 added pictures" in caplog.text


def test_added_pictures_are_kept_where_the_gallery_has_none_of_them(open_service, draw, caplog):
    service = open_service()
    job = service.stock.start_adding([draw((1, 2, 3))])
    until(lambda: service.stock.adding.job(job.id).state == "done")
    (picture,) = service.folder.pictures.glob("*/*")
    service.gallery.remove(ids=[picture.stem])
    service.close()
    open_service()
    assert picture.exists()
    assert f"none of the 1 pictures in {service.folder.pictures}" in caplog.text


def test_plans_of_removals_do_not_grow_without_end(service, monkeypatch):
    monkeypatch.setattr(stock, "_MOST_PLANNED", 20)
    plans = [service.stock.plan_removal(RemovalConditions(camids=(0, 1))) for _ in range(3)]
    assert [plan.confirmation in service.stock.plans for plan in plans] == [False, False, True]


def test_a_gallery_that_others_change_is_read_again_after_a_while(monkeypatch):
    stored = [Crop("a", pid=1)]
    alone, shared = Crops(lambda: list(stored), shared=False), Crops(lambda: list(stored), shared=True)
    stored.append(Crop("b", pid="anna"))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert (alone.get("b"), shared.get("b").pid) == (None, "anna")
    assert [one.pid for one in shared.identities("", 0, 10)[0]] == ["1", "anna"]
    assert shared.identities("NN", 0, 10)[1] == 1
    shared.drop(["b"])
    assert not shared.has("anna")


def test_a_gallery_that_does_not_answer_leaves_the_crops_that_were_known(monkeypatch, caplog):
    answers = [[Crop("a", pid=1)], GalleryError("the server is gone"), [Crop("b", pid=2)]]

    def scan():
        answer = answers.pop(0)
        if isinstance(answer, GalleryError):
            raise answer
        return answer

    crops, now = Crops(scan, shared=True), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 61)
    assert crops.has("1") and "the server is gone" in caplog.text
    monkeypatch.setattr(time, "monotonic", lambda: now + 122)
    assert crops.has("2") and not crops.has("1")


def test_a_change_that_fails_half_way_is_seen_as_it_is(service, monkeypatch):
    upsert, pids = service.gallery.store.upsert, iter(range(2))

    def failing(crops, vectors):
        if next(pids, None) is None:
            upsert(crops[:1], vectors[:1])
            raise GalleryError("the disk is full")
        upsert(crops, vectors)

    monkeypatch.setattr(service.gallery.store, "upsert", failing)
    service.changing.rename("rita", "Rita")
    service.changing.rename("bob", "Bob")
    with pytest.raises(GalleryError, match="full"):
        service.changing.merge(["greta", "gil"])
    monkeypatch.setattr(service.gallery.store, "upsert", upsert)
    service.changing.rename("Rita", "rita")
    stored = sorted(str(crop.pid) for crop in service.gallery.crops())
    assert sorted(crop.pid for pid in ("Bob", "greta", "rita") for crop in service.identity(pid)) == stored


def test_changes_are_shown_while_pictures_are_being_added(service):
    with ThreadPoolExecutor(1) as pool, service.lock:
        assert pool.submit(service.journal.changes).result(5) == []
