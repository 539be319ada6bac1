"""Crops that come into the gallery and leave it."""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time as clock
from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from svllreid.gallery.crop import MAX_BYTES, AddReport
from svllreid.gallery.gallery import Gallery
from svllreid.gallery.tables import pid_of
from svllreid.web.errors import Refusal
from svllreid.web.service.adding import AddQueue, Labels
from svllreid.web.service.audit import Audit
from svllreid.web.service.checks import checked_camera, checked_tags, checked_time, clean_text, removal_filter
from svllreid.web.service.crops import Crops
from svllreid.web.service.folder import StateFolder, write_durably
from svllreid.web.service.queries import CROP_ID
from svllreid.web.service.records import AddJob, Limits, Removal, RemovalConditions, ShownCrop
from svllreid.web.service.uploads import Picture, decode

logger = logging.getLogger(__name__)

_CONFIRM_SECONDS = 600
_MOST_PLANS = 100  # removals that wait for their confirmation
_MOST_PLANNED = 1_000_000  # crops in all of them
_EXAMPLES = 12


class Stock:
    """Adds crops to a gallery and removes them.

    Args:
        gallery: the gallery.
        crops: its crops.
        folder: where added pictures and unfinished jobs are kept.
        audit: the record of who changed what.
        limits: what the server accepts.
        lock: held while the gallery is changed.
    """

    def __init__(
        self,
        gallery: Gallery,
        crops: Crops,
        folder: StateFolder,
        audit: Audit,
        limits: Limits,
        lock: threading.RLock,
    ) -> None:
        self.gallery, self.crops, self.folder = gallery, crops, folder
        self.audit, self.limits, self.lock = audit, limits, lock
        self.plans: OrderedDict[str, tuple[list[str], float]] = OrderedDict()
        self.adding = AddQueue(folder.jobs, self._add)
        self._delete_strays()

    def start_adding(
        self,
        contents: Sequence[bytes],
        *,
        pid: str = "",
        camid: int | None = None,
        time: str = "",
        tracklet: str = "",
        tags: Sequence[str] = (),
    ) -> AddJob:
        """Accept pictures that are then added in the background, also after a restart.

        Pictures that cannot be used are left out, and the job says why; one alone is refused. The labels are those of
        all pictures.
        """
        if not 1 <= len(contents) <= self.limits.add_pictures:
            raise Refusal(422, f"add 1 to {self.limits.add_pictures} pictures at once")
        labels = Labels(
            pid_of(clean_text(pid, "name", MAX_BYTES["pid"])),
            checked_camera(camid),
            checked_time(time),
            clean_text(tracklet, "tracklet", MAX_BYTES["tracklet"]),
            checked_tags(tags),
        )
        self.adding.check_room()
        files, reasons = list[Path](), list[str]()
        for number, content in enumerate(contents, 1):
            try:
                files.append(self._keep(decode(content, number, self.limits)))
            except Refusal as error:
                if len(contents) == 1:
                    raise
                reasons.append(str(error))
        job = self.adding.accept(files, labels, reasons)
        self.audit.note("add", job=job.id, pictures=len(files), refused=len(reasons))
        return job

    def plan_removal(self, conditions: RemovalConditions) -> Removal:
        """Which crops would be removed, and a confirmation that `remove` takes."""
        if any(not CROP_ID.fullmatch(crop_id) for crop_id in conditions.ids):
            raise Refusal(422, "the id of a crop has 64 hexadecimal digits")
        crops = sorted(self.gallery.crops(removal_filter(conditions)), key=lambda crop: crop.id)
        if not crops:
            return Removal(0, (), "")
        token = secrets.token_hex(16)
        with self.lock:
            self.plans[token] = ([crop.id for crop in crops], clock.monotonic() + _CONFIRM_SECONDS)
            while len(self.plans) > _MOST_PLANS or (len(self.plans) > 1 and self._planned() > _MOST_PLANNED):
                self.plans.popitem(last=False)
        return Removal(len(crops), tuple(ShownCrop.of(crop) for crop in islice(crops, _EXAMPLES)), token)

    def remove(self, confirmation: str) -> int:
        """Remove the crops that a confirmation names, with thumbnails and pictures that were added here; how many."""
        with self.lock:
            ids, until = self.plans.pop(confirmation, ([], 0.0))
            if until < clock.monotonic():
                raise Refusal(409, "this confirmation is unknown or too old; look at what would be removed again")
            files = [Path(crop.path) for crop in self.gallery.store.find(ids).values() if crop.path]
            self.audit.announce("remove", crops=ids)
            with self.crops.following():
                count = self.gallery.remove(ids=ids)
                self.crops.drop(ids)
            for file in files:
                self._delete_own(file)
        return count

    def _planned(self) -> int:
        return sum(len(ids) for ids, _ in self.plans.values())

    def _keep(self, picture: Picture) -> Path:
        """The file of an added picture, named by its content."""
        digest = hashlib.sha256(picture.content).hexdigest()
        path = self.folder.pictures.absolute() / digest[:2] / f"{digest}{picture.suffix}"
        if not path.exists():
            write_durably(path, picture.content)
        return path

    def _add(self, files: Sequence[Path], labels: Labels) -> AddReport:
        """Adds files to the gallery; those whose content is there under another path are deleted again."""
        with self.lock, self.crops.following():
            gone = [file for file in files if not file.exists()]  # deleted by a job that found its content stored
            present = len(self.gallery.store.find(file.stem for file in gone))
            if len(gone) > present:
                logger.warning("%d pictures to be added are not there any more", len(gone) - present)
            files = [file for file in files if file not in gone]
            report = AddReport(present=present, skipped=len(gone) - present)
            if files:
                tags = [labels.tags] * len(files)
                report += self.gallery.add(files, labels.pid, labels.camid, labels.time, tags, labels.tracklet)
            stored = self.gallery.store.find(file.stem for file in files)
            self.crops.put(stored.values())
            for file in files:
                if file.stem not in stored or stored[file.stem].path != str(file):
                    self._delete_own(file)
        return report

    def _delete_strays(self) -> None:
        """Deletes pictures whose crop is not in the gallery: removed without the server, or by one that was killed.

        Where the gallery has none of them, it may have been made anew, so they are kept, and that is said.
        """
        waiting = {file.stem for file in self.adding.left}
        files = [file for file in self.folder.pictures.glob("*/*") if CROP_ID.fullmatch(file.stem)]
        added = [file for file in files if file.stem not in waiting]
        strays = [file for file in added if self.crops.get(file.stem) is None]
        if strays and len(strays) == len(added):
            logger.warning(
                "none of the %d pictures in %s, which were added here, is in the gallery; if their crops were removed, "
                "delete that folder",
                len(added),
                self.folder.pictures,
            )
            return
        for file in strays:
            file.unlink(missing_ok=True)
        if strays:
            logger.info("%d added pictures whose crops are not in the gallery any more were deleted", len(strays))

    def _delete_own(self, file: Path) -> None:
        """Deletes a picture that was added here; files of others stay."""
        if file.is_relative_to(self.folder.pictures.absolute()):
            file.unlink(missing_ok=True)
