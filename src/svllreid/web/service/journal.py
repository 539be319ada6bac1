"""Changes of identities: written to a journal before the gallery is changed, so that a kill loses none of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from svllreid.gallery.crop import Crop
from svllreid.types import Pid
from svllreid.web.errors import Refusal
from svllreid.web.service.folder import append_line, lines
from svllreid.web.service.records import Change

Pids = dict[str, Pid | None]
Read = Callable[[Sequence[str]], dict[str, Crop]]
Write = Callable[[Sequence[Crop]], None]


@dataclass(frozen=True)
class Entry:
    """An entry of the journal.

    Args:
        number: counts from 1.
        kind, text, pid, when: see `Change`.
        before, after: the identity of each crop that changes, by the crop's id.
        undoes: the number of the entry that this one takes back; 0: none.
        answer: of an answer of the review, the pair and the verdict.
    """

    number: int
    kind: str
    text: str
    pid: str
    before: Pids
    after: Pids
    when: float
    undoes: int = 0
    answer: tuple[str, str] | None = field(default=None)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Entry:
        """The entry of a line."""
        answer = content["answer"]
        return cls(**{**content, "answer": None if answer is None else (answer[0], answer[1])})


class Journal:
    """The changes that were made to the identities of a gallery.

    An entry is written first, then the crops get their new identities, then a line says that this is done. At start,
    entries without that line are carried out again, which changes nothing where it was done.

    Args:
        path: of the file, lines of JSON.
        read: gives those of some crops that are in the gallery, by id.
        write: stores crops with new identities.
    """

    def __init__(self, path: Path, read: Read, write: Write) -> None:
        self.path, self.read, self.write = path, read, write
        self.entries: dict[int, Entry] = {}
        self.undone, self.unfinished = set[int](), set[int]()
        for content in lines(path):
            if "done" in content:
                self.unfinished.discard(content["done"])
            else:
                self._remember(Entry.of(content))
        self.repaired = len(self.unfinished)
        self._carry_out()

    def change(self, kind: str, text: str, after: Pids, pid: str = "", answer: tuple[str, str] | None = None) -> Entry:
        """Give crops other identities; durable when this returns.

        Args:
            kind, text, pid, answer: see `Entry`.
            after: the new identity of each crop, by its id; crops that are not there are left out.
        """
        found = self.read(list(after))
        changed = {crop_id: new for crop_id, new in after.items() if crop_id in found and found[crop_id].pid != new}
        before: Pids = {crop_id: found[crop_id].pid for crop_id in changed}
        return self._add(kind, text, pid, before, changed, answer=answer)

    def undo(self, number: int | None = None) -> Entry:
        """Take back the latest change that was not taken back.

        Args:
            number: of the change, if only that one is meant.
        Raises: Refusal: there is none, or another one is the latest.
        """
        latest = self.latest()
        if latest is None:
            raise Refusal(409, "there is no change to undo")
        if number is not None and number != latest.number:
            raise Refusal(409, "other changes came after this one; undo them first")
        return self._add("undo", f"undid: {latest.text}", "", latest.after, latest.before, undoes=latest.number)

    def latest(self) -> Entry | None:
        """The latest change that was not taken back."""
        for entry in reversed(self.entries.values()):
            if not entry.undoes and entry.number not in self.undone:
                return entry
        return None

    def answers(self) -> dict[str, str]:
        """The verdict on each pair of the review that was answered, without answers that were taken back."""
        standing = [entry for entry in self.entries.values() if entry.number not in self.undone]
        return {entry.answer[0]: entry.answer[1] for entry in standing if entry.answer is not None}

    def changes(self, limit: int) -> list[Change]:
        """The latest changes, the last one first."""
        return [self.shown(entry) for entry in list(self.entries.values())[: -limit - 1 : -1]]

    def shown(self, entry: Entry) -> Change:
        """A change as it is shown."""
        latest, undone = self.latest(), entry.number in self.undone
        can_undo = latest is not None and latest.number == entry.number
        texts = (entry.number, entry.kind, entry.text, len(entry.after), entry.when)
        return Change(*texts, undone=undone, can_undo=can_undo, pid=entry.pid)

    def _remember(self, entry: Entry) -> None:
        self.entries[entry.number] = entry
        self.unfinished.add(entry.number)
        if entry.undoes:
            self.undone.add(entry.undoes)

    def _add(
        self,
        kind: str,
        text: str,
        pid: str,
        before: Pids,
        after: Pids,
        *,
        undoes: int = 0,
        answer: tuple[str, str] | None = None,
    ) -> Entry:
        self._carry_out()  # what a failing server left
        number = max(self.entries, default=0) + 1
        entry = Entry(number, kind, text, pid, before, after, time.time(), undoes, answer)
        append_line(self.path, {name: getattr(entry, name) for name in Entry.__dataclass_fields__})
        self._remember(entry)
        self._carry_out()
        return entry

    def _carry_out(self) -> None:
        """Carries out what was written and not done: crops that have the identity from before get the new one."""
        for number in sorted(self.unfinished):
            entry = self.entries[number]
            found = self.read(list(entry.after)) if entry.after else {}
            changed = [
                replace(crop, pid=entry.after[crop_id])
                for crop_id, crop in found.items()
                if crop.pid == entry.before[crop_id]
            ]
            if changed:
                self.write(changed)
            append_line(self.path, {"done": number})
            self.unfinished.discard(number)
