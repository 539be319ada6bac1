"""Changes of identities: written to a journal before the gallery is changed, so that a kill loses none of them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from svllreid.errors import OutputError
from svllreid.gallery.crop import Crop
from svllreid.types import Pid
from svllreid.web.errors import Refusal, ServeError
from svllreid.web.service.folder import append_line, lines
from svllreid.web.service.records import Change

logger = logging.getLogger(__name__)

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

    def __post_init__(self) -> None:
        if self.before.keys() != self.after.keys():
            raise ValueError("before and after are not of the same crops")


_ENTRY = TypeAdapter(Entry)


class Journal:
    """The changes that were made to the identities of a gallery.

    An entry is written first, then the crops get their new identities, then a line says that this is done. At start,
    entries without that line are carried out again, which changes nothing where it was done. One thread at a time may
    make changes; any thread may read what was changed.

    Args:
        path: of the file, lines of JSON.
        read: gives those of some crops that are in the gallery, by id.
        write: stores crops with new identities.
    Raises: ServeError: a line is no entry.
    """

    def __init__(self, path: Path, read: Read, write: Write) -> None:
        self.path, self.read, self.write = path, read, write
        self.lock = threading.RLock()  # held while what is in memory is read or changed
        self.entries: dict[int, Entry] = {}
        self.undone, self.unfinished = set[int](), set[int]()
        for number, content in lines(path):
            if isinstance(content.get("done"), int):
                self.unfinished.discard(content["done"])
            else:
                self._remember(_entry_of(content, f"{path}, line {number}"))
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
        with self.lock:
            for entry in reversed(self.entries.values()):
                if not entry.undoes and entry.number not in self.undone:
                    return entry
            return None

    def answers(self) -> dict[str, str]:
        """The verdict on each pair of the review that was answered, without answers that were taken back."""
        with self.lock:
            standing = [entry for entry in self.entries.values() if entry.number not in self.undone]
        return {entry.answer[0]: entry.answer[1] for entry in standing if entry.answer is not None}

    def changes(self, limit: int = 20) -> list[Change]:
        """The latest changes, the last one first."""
        with self.lock:
            return [self.shown(entry) for entry in islice(reversed(self.entries.values()), limit)]

    def shown(self, entry: Entry) -> Change:
        """A change as it is shown."""
        with self.lock:
            latest, undone = self.latest(), entry.number in self.undone
        can_undo = latest is not None and latest.number == entry.number
        texts = (entry.number, entry.kind, entry.text, len(entry.after), entry.when)
        return Change(*texts, undone=undone, can_undo=can_undo, pid=entry.pid)

    def _remember(self, entry: Entry) -> None:
        with self.lock:
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
        if self.unfinished:
            raise OutputError(f"{self.path} cannot be written to; free space on its disk")
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
            try:
                append_line(self.path, {"done": number})
            except OSError as error:  # the change was made, and is durable; before the next one this is repeated
                logger.error("%s cannot be written to: %s", self.path, error)
            else:
                self.unfinished.discard(number)


def _entry_of(content: dict[str, Any], place: str) -> Entry:
    """The entry of a line. ServeError where it is none."""
    try:
        return _ENTRY.validate_python(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in fault["loc"][:1])
        raise ServeError(
            f"{place} is no entry of the journal ({where}{fault['msg']}); restore the file from a copy, or move "
            "it away: the changes in it can then not be undone, and those that were not finished are lost"
        ) from None
