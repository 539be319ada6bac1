"""Identities merged, split and renamed, with an undo; every change is in the journal before the gallery has it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from svllreid.gallery.crop import Crop
from svllreid.gallery.tables import pid_of
from svllreid.types import Pid
from svllreid.web.errors import Refusal
from svllreid.web.service.audit import Audit
from svllreid.web.service.checks import clean_name
from svllreid.web.service.crops import Crops
from svllreid.web.service.journal import Entry, Journal
from svllreid.web.service.records import Change, Verdict
from svllreid.web.service.review import Asked

NEW = "new"
"""What the names of new identities begin with, where their crops had none."""


@dataclass(frozen=True)
class Identities:
    """Changes the identities of crops.

    Args:
        crops: the crops of the gallery.
        journal: of the changes.
        audit: the record of who changed what.
        lock: held while the gallery is changed.
    """

    crops: Crops
    journal: Journal
    audit: Audit
    lock: threading.RLock

    def merge(self, pids: Sequence[str], into: str = "") -> Change:
        """Make one identity of several.

        Args:
            pids: two or more identities; one is enough if `into` is another one.
            into: the name of the result; empty: the first of `pids`.
        Raises: Refusal: an identity is unknown, or there is nothing to merge.
        """
        with self.lock:
            into = clean_name(into or (pids[0] if pids else ""))
            pids = list(dict.fromkeys(pids))
            crops = [crop for pid in pids for crop in self._of(pid)]
            if not set(pids) - {into}:
                raise Refusal(422, "name two or more identities to merge")
            return self._change("merge", f"merged {_listed(pids)} into {into}", crops, into)

    def rename(self, pid: str, name: str) -> Change:
        """Give an identity another name.

        Raises: Refusal: it is unknown, or another identity has that name, with which it can be merged instead.
        """
        with self.lock:
            name = clean_name(name)
            if name != pid and self.crops.has(name):
                raise Refusal(409, f"there is an identity {name} already; merge the two instead")
            return self._change("rename", f"renamed {pid} to {name}", self._of(pid), name)

    def split(self, crop_ids: Sequence[str], name: str = "", *, join: bool = False) -> Change:
        """Make some crops an identity of their own; also of crops without identity.

        Args:
            crop_ids: of the crops.
            name: a new one; empty: one is made.
            join: an identity may have that name; the crops then become crops of it.
        Raises: Refusal: a crop is unknown, or an identity has that name and is not to be joined.
        """
        with self.lock:
            found = [self.crops.get(crop_id) for crop_id in dict.fromkeys(crop_ids)]
            crops = [crop for crop in found if crop is not None]
            if not crops or len(crops) < len(found):
                raise Refusal(404, "there are no such crops; load the page again")
            joins = bool(name) and self.crops.has(clean_name(name))
            if joins and not join:
                raise Refusal(409, f"there is an identity {name} already; choose another name, or merge the two")
            name = clean_name(name) if name else self._fresh(crops[0])
            olds = (
                _listed(sorted({str(crop.pid) for crop in crops if crop.pid is not None})) or "crops without identity"
            )
            count = f"{len(crops)} crop{'s' if len(crops) > 1 else ''}"
            text = f"moved {count} of {olds} to {name}" if joins else f"split {count} of {olds} off as {name}"
            return self._change("split", text, crops, name)

    def judge(self, pair: Asked, verdict: Verdict) -> Change:
        """Answer a question of the review, and change what follows from the answer.

        `same` of two identities merges them into the one with more crops; `different` within one identity splits the
        first crop of the pair off. Every other answer changes nothing, and is remembered.
        """
        with self.lock:
            left, right = (self.crops.get(crop_id) for crop_id in (pair.left, pair.right))
            if left is None or right is None or (left.pid == right.pid and left.pid is not None) != pair.part:
                raise Refusal(409, "these crops were changed meanwhile; go on with the next pair")
            crops, pid, text = (
                list[Crop](),
                "",
                "skipped" if verdict == "skip" else f"{_name(left)}, {_name(right)}: {verdict}",
            )
            if not pair.part and verdict == "same":
                sides = [self.crops.of(str(crop.pid)) if crop.pid is not None else [crop] for crop in (left, right)]
                sides.sort(key=lambda side: (side[0].pid is None, -len(side), str(side[0].pid)))
                pid = str(sides[0][0].pid) if sides[0][0].pid is not None else self.crops.fresh_name(NEW)
                crops = sides[0] + sides[1]
            elif pair.part and verdict == "different":
                pid, crops = self._fresh(left), [left]
                text = f"split a crop of {left.pid} off as {pid}"
            return self._change("review", text, crops, pid, (pair.id, verdict))

    def undo(self, number: int | None = None) -> Change:
        """Take back the latest change. Refusal where there is none, or `number` is not the latest."""
        with self.lock:
            entry = self.journal.undo(number)
            return self._noted(entry)

    def _change(
        self, kind: str, text: str, crops: Iterable[Crop], name: str, answer: tuple[str, str] | None = None
    ) -> Change:
        new = self._known(name) if name else None
        return self._noted(self.journal.change(kind, text, {crop.id: new for crop in crops}, name, answer))

    def _noted(self, entry: Entry) -> Change:
        self.audit.note(entry.kind, number=entry.number, text=entry.text, crops=list(entry.after))
        return self.journal.shown(entry)

    def _of(self, pid: str) -> list[Crop]:
        crops = self.crops.of(pid)
        if not crops:
            raise Refusal(404, f"there is no identity {pid}; it may have been renamed or merged")
        return crops

    def _known(self, name: str) -> Pid | None:
        """An identity as its crops have it, a number or a text."""
        crops = self.crops.of(name)
        return crops[0].pid if crops else pid_of(name)

    def _fresh(self, crop: Crop) -> str:
        return self.crops.fresh_name(NEW if crop.pid is None else str(crop.pid))


def _name(crop: Crop) -> str:
    return "a crop without identity" if crop.pid is None else str(crop.pid)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
