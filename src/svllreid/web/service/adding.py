"""Pictures that are added to the gallery in the background; what was accepted is added also after a kill."""

from __future__ import annotations

import json
import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from svllreid.errors import ReidError
from svllreid.gallery.crop import AddReport
from svllreid.web.errors import Refusal, ServeError
from svllreid.web.service.folder import write_durably
from svllreid.web.service.records import AddJob

logger = logging.getLogger(__name__)

_PART = 32  # pictures that are added between two looks at whether to end
_REMEMBERED = 1000  # jobs that were done


@dataclass(frozen=True)
class Labels:
    """What all pictures of a job are given, see `Gallery.add`."""

    pid: str | int | None = None
    camid: int | None = None
    time: float | None = None
    tracklet: str = ""
    tags: tuple[str, ...] = ()


class AddQueue:
    """Jobs that add pictures, one after the other, in a thread of its own.

    A job is a file from when it was accepted until it is done. At start, those that are there go on.

    Args:
        folder: of these files.
        add: adds files with labels to the gallery.
        most: jobs that may wait; more are refused.
    Raises: ServeError: a file is no job.
    """

    def __init__(self, folder: Path, add: Callable[[Sequence[Path], Labels], AddReport], most: int = 100) -> None:
        self.folder, self.add, self.most = folder, add, most
        self.lock, self.ending = threading.Lock(), threading.Event()
        self.jobs: OrderedDict[str, AddJob] = OrderedDict()
        self.waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.left = set[Path]()
        """The files of the jobs that go on."""
        for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime):
            job, files, _ = _read(file)
            self.left.update(files)
            self._remember(replace(job, state="waiting", error=""))
            self.waiting.put(job.id)
        self.thread = threading.Thread(target=self._work, name="adding", daemon=True)
        self.thread.start()

    def check_room(self) -> None:
        """Refusal where too many jobs wait."""
        with self.lock:
            if sum(one.state in ("waiting", "running") for one in self.jobs.values()) >= self.most:
                raise Refusal(503, "many pictures are being added; try again in a minute", 60)

    def accept(self, files: Sequence[Path], labels: Labels, reasons: Sequence[str]) -> AddJob:
        """Make a job; it is on the disk when this returns.

        Args:
            files: the pictures.
            labels: of all of them.
            reasons: why other pictures were refused.
        Raises: Refusal: too many jobs wait.
        """
        job = AddJob(
            secrets.token_hex(16),
            "waiting",
            len(files) + len(reasons),
            len(reasons),
            skipped=len(reasons),
            reasons=tuple(reasons),
        )
        self.check_room()
        self._save(job, files, labels)
        with self.lock:
            self._remember(job)
        self.waiting.put(job.id)
        return job

    def job(self, job_id: str) -> AddJob:
        """A job. Refusal where it is unknown."""
        with self.lock:
            if job_id not in self.jobs:
                raise Refusal(404, "this job is unknown, or was done long ago")
            return self.jobs[job_id]

    def close(self) -> None:
        """End after the pictures that are being added now; the next start goes on."""
        self.ending.set()
        self.waiting.put(None)
        self.thread.join()

    def _remember(self, job: AddJob) -> None:
        self.jobs[job.id] = job
        done = [one.id for one in self.jobs.values() if one.state in ("done", "failed")]
        for job_id in done[:-_REMEMBERED]:
            del self.jobs[job_id]

    def _path(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.json"

    def _save(self, job: AddJob, files: Sequence[Path], labels: Labels) -> None:
        content = {"job": asdict(job), "files": [str(file) for file in files], "labels": asdict(labels)}
        write_durably(self._path(job.id), json.dumps(content, ensure_ascii=False).encode())

    def _work(self) -> None:
        while (job_id := self.waiting.get()) is not None and not self.ending.is_set():
            try:
                self._run(job_id)
            except Exception as error:  # one failing job does not end the others
                logger.exception(
                    "adding pictures failed; it is tried again at the next start, unless %s is deleted",
                    self._path(job_id),
                )
                text = "the gallery refused them; the server's log says why"
                self._update(job_id, state="failed", error=text if isinstance(error, ReidError) else "internal error")

    def _run(self, job_id: str) -> None:
        _, files, labels = _read(self._path(job_id))
        job = self._update(job_id, state="running")
        while files and not self.ending.is_set():
            part, files = files[:_PART], files[_PART:]
            report = self.add(part, labels)
            lost = ("pictures could not be read again; the server's log says why",) if report.skipped else ()
            job = self._update(
                job_id,
                reasons=tuple(dict.fromkeys((*job.reasons, *lost))),
                finished=job.finished + len(part),
                added=job.added + report.added,
                present=job.present + report.present,
                skipped=job.skipped + report.skipped,
            )
            # What is added is not added again after a restart, when somebody may have removed it.
            self._save(job, files, labels)
        if not files:
            self._update(job_id, state="done")
            self._path(job_id).unlink()

    def _update(self, job_id: str, **changes: Any) -> AddJob:
        with self.lock:
            self.jobs[job_id] = replace(self.jobs[job_id], **changes)
            return self.jobs[job_id]


class _Saved(BaseModel):
    """The content of the file of a job."""

    job: AddJob
    files: list[Path]
    labels: Labels


def _read(file: Path) -> tuple[AddJob, list[Path], Labels]:
    """The job in a file, the pictures that are left, and their labels. ServeError where it is none."""
    try:
        saved = _Saved.model_validate_json(file.read_bytes())
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = "".join(f"{part}: " for part in fault["loc"][:2])
        raise ServeError(
            f"{file} is no job of adding pictures ({where}{fault['msg']}); delete it; its pictures are then not added"
        ) from None
    return saved.job, saved.files, saved.labels
