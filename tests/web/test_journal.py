"""The journal of changes: what was written is carried out once, whenever the server was killed."""

import json
import threading

import pytest

from svllreid.errors import OutputError
from svllreid.gallery.crop import Crop
from svllreid.web.errors import Refusal, ServeError
from svllreid.web.service.folder import append_line, lines
from svllreid.web.service.journal import Journal


class Shelf:
    """Crops in memory, in place of a gallery that can be killed."""

    def __init__(self, **pids):
        self.crops = {name: Crop(name, pid=pid) for name, pid in pids.items()}
        self.broken = False

    def read(self, ids):
        return {crop_id: self.crops[crop_id] for crop_id in ids if crop_id in self.crops}

    def write(self, crops):
        if self.broken:
            raise OSError("the gallery is gone")
        self.crops |= {crop.id: crop for crop in crops}

    def pids(self):
        return {crop_id: crop.pid for crop_id, crop in self.crops.items()}


@pytest.fixture
def shelf():
    return Shelf(a="rita", b=7, c=None)


def test_changes_are_undone_one_after_the_other_also_by_a_later_server(shelf, tmp_path):
    journal = Journal(tmp_path / "j", shelf.read, shelf.write)
    journal.change("merge", "merged", {"a": 7, "b": 7, "gone": 7})
    journal.change("split", "split", {"c": "new"})
    assert shelf.pids() == {"a": 7, "b": 7, "c": "new"}
    later = Journal(tmp_path / "j", shelf.read, shelf.write)
    later.undo()
    with pytest.raises(Refusal, match="other changes came after"):
        later.undo(2)
    later.undo(1)
    assert shelf.pids() == {"a": "rita", "b": 7, "c": None}
    with pytest.raises(Refusal, match="no change to undo"):
        later.undo()
    assert [change.undone for change in later.changes(10)] == [False, False, True, True]


def test_a_change_that_was_written_but_not_carried_out_is_carried_out_at_the_next_start(shelf, tmp_path):
    journal = Journal(tmp_path / "j", shelf.read, shelf.write)
    shelf.broken = True
    with pytest.raises(OSError, match="gone"):
        journal.change("rename", "renamed", {"a": "ria"})
    shelf.broken = False
    later = Journal(tmp_path / "j", shelf.read, shelf.write)
    assert (later.repaired, shelf.pids()["a"]) == (1, "ria")
    assert Journal(tmp_path / "j", shelf.read, shelf.write).repaired == 0


def test_a_change_that_failed_is_carried_out_before_the_next_one(shelf, tmp_path):
    journal = Journal(tmp_path / "j", shelf.read, shelf.write)
    shelf.broken = True
    with pytest.raises(OSError, match="gone"):
        journal.change("rename", "renamed", {"a": "ria"})
    shelf.broken = False
    journal.change("merge", "merged", {"a": 7})
    journal.undo()
    assert shelf.pids()["a"] == "ria"


def test_what_is_done_is_not_done_again_over_later_labels(shelf, tmp_path):
    Journal(tmp_path / "j", shelf.read, shelf.write).change("rename", "renamed", {"a": "ria"})
    shelf.write([Crop("a", pid="by hand")])
    journal = Journal(tmp_path / "j", shelf.read, shelf.write)
    assert shelf.pids()["a"] == "by hand"
    journal.undo()  # does not touch what somebody else named
    assert shelf.pids()["a"] == "by hand"


def test_a_full_disk_after_a_change_was_made_does_not_deny_it(shelf, tmp_path, monkeypatch):
    def full(path, content):
        if "done" in content:
            raise OSError(28, "No space left on device")
        append_line(path, content)

    journal = Journal(tmp_path / "j", shelf.read, shelf.write)
    monkeypatch.setattr("svllreid.web.service.journal.append_line", full)
    assert journal.change("rename", "renamed", {"a": "ria"}).after == {"a": "ria"}
    with pytest.raises(OutputError, match="free space"):
        journal.undo()  # while the first change is not known to be done, it could be carried out over this one
    monkeypatch.undo()
    journal.undo()
    assert shelf.pids()["a"] == "rita"
    assert (Journal(tmp_path / "j", shelf.read, shelf.write).repaired, shelf.pids()["a"]) == (0, "rita")


def test_answers_that_were_taken_back_do_not_count(shelf, tmp_path):
    journal = Journal(tmp_path / "j", shelf.read, shelf.write)
    journal.change("review", "same", {}, answer=("p1", "same"))
    journal.change("review", "skipped", {}, answer=("p2", "skip"))
    journal.undo()
    assert Journal(tmp_path / "j", shelf.read, shelf.write).answers() == {"p1": "same"}


def test_a_line_written_in_part_spoils_no_other_one(tmp_path, caplog):
    file = tmp_path / "j"
    append_line(file, {"number": 1})
    file.write_bytes(file.read_bytes() + b'{"number": 2, "te')
    append_line(file, {"number": 3})
    file.write_bytes(file.read_bytes() + b"\xff\n[1]\n\n")
    assert [(place, line["number"]) for place, line in lines(file)] == [(1, 1), (3, 3)]
    assert "3 lines were written in part" in caplog.text and "the first is line 2" in caplog.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"after": None}, "after: "),
        ({"number": "one"}, "number: "),
        ({"before": {"b": 7}}, "not of the same crops"),
        ({"answer": ["pair"]}, "answer: "),
    ],
)
def test_a_line_that_is_no_entry_is_refused_in_clear_words(shelf, tmp_path, changes, words):
    file = tmp_path / "j"
    Journal(file, shelf.read, shelf.write).change("rename", "renamed", {"a": "ria"})
    entry = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps({**entry, **changes}) + "\n")
    with pytest.raises(ServeError, match=r"line 1 is no entry .*move it away") as error:
        Journal(file, shelf.read, shelf.write)
    assert words in str(error.value)
    file.write_text(json.dumps({"number": 1}) + "\n")
    with pytest.raises(ServeError, match="kind: Field required"):
        Journal(file, shelf.read, shelf.write)


def test_changes_are_read_while_others_are_made(shelf, tmp_path):
    journal, ended, failures = Journal(tmp_path / "j", shelf.read, shelf.write), threading.Event(), []

    def read():
        while not ended.is_set():
            try:
                journal.answers(), journal.changes(1000), journal.latest()
            except RuntimeError as error:
                failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(150):
        journal.change("review", "same", {}, answer=(f"pair {number}", "same"))
    ended.set()
    for reader in readers:
        reader.join()
    assert not failures


def test_every_part_of_a_line_is_a_journal_that_can_be_read(shelf, tmp_path):
    file = tmp_path / "j"
    journal = Journal(file, shelf.read, shelf.write)
    journal.change("rename", "renamed é", {"a": "ria"})
    journal.change("rename", "renamed", {"b": "eight"})
    entries = [line for line in file.read_bytes().splitlines(keepends=True) if b"kind" in line]  # none of them done
    assert json.loads(entries[0])["before"] == {"a": "rita"}
    for length in range(sum(map(len, entries)) + 1):
        file.write_bytes(b"".join(entries)[:length])
        fresh = Shelf(a="rita", b=7)
        Journal(file, fresh.read, fresh.write)
        whole = (length >= len(entries[0]) - 1) + (length >= sum(map(len, entries)) - 1)  # but for their last line end
        states = [{"a": "rita", "b": 7}, {"a": "ria", "b": 7}, {"a": "ria", "b": "eight"}]
        assert fresh.pids() == states[whole], length
