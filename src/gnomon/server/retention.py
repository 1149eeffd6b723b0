"""What a server deletes by itself: unused uploads, and jobs only where its policy says so."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from gnomon.api import Home, Job
from gnomon.errors import GnomonError
from gnomon.job import State
from gnomon.server.disk_usage import FolderSize, SizeCache, Tally, measure
from gnomon.server.uploads import UploadStore
from gnomon.status import Status

log = logging.getLogger(__name__)

DAY_S = 86400.0
KEEP_PARTIAL_S = 24 * 3600.0
SPARED_AFTER_END_S = 600.0
"""A job that ended this recently is not removed for want of space: whoever waits for it has to fetch it first."""
USAGE_MAX_AGE_S = 30.0
PAGE_ROWS = 1000

FINAL = [state.value for state in State if state.is_final]


@dataclass(frozen=True)
class RetentionPolicy:
    """How long things are kept; None keeps them for good."""

    keep_days: float | None = None
    keep_failed_days: float | None = None
    """For jobs that failed or were cancelled; None: as long as the others."""
    disk_gb: float | None = None
    keep_uploads_hours: float = 24.0

    @property
    def removes_jobs(self) -> bool:
        return (self.keep_days, self.keep_failed_days, self.disk_gb) != (None, None, None)

    def keep_s(self, state: str) -> float | None:
        """How long a job that ended in this state is kept, in seconds."""
        days = self.keep_days
        if state != State.SUCCEEDED and self.keep_failed_days is not None:
            days = self.keep_failed_days
        return None if days is None else days * DAY_S


@dataclass(frozen=True)
class Swept:
    """What a sweep removed. `freed_bytes` counts a file that jobs shared when its last user goes."""

    jobs: int = 0
    uploads: int = 0
    freed_bytes: int = 0


class Retention:
    """Removes by age and for space. Everything here blocks, for seconds where there are many thousand jobs.

    `is_held` says of a job id that it has to stay: its webhook is undelivered, or it is being packed for a download.
    """

    def __init__(
        self,
        policy: RetentionPolicy,
        home: Home,
        uploads: UploadStore,
        is_held: Callable[[str], bool] = lambda job_id: False,
    ) -> None:
        self.policy = policy
        self._home = home
        self._uploads = uploads
        self._is_held = is_held
        self._sizes = SizeCache()
        self._lock = threading.Lock()
        self._usage: tuple[float, dict[str, int]] | None = None

    def sweep(self, now: float) -> Swept:
        """Remove what the policy says; `now` in Unix seconds. Jobs that have not ended always stay."""
        with self._lock:
            uploads = self._uploads.sweep(
                unused_before=now - self.policy.keep_uploads_hours * 3600, partial_before=now - KEEP_PARTIAL_S
            )
            jobs, jobs_bytes = self._sweep_jobs(now) if self.policy.removes_jobs else (0, 0)
            if jobs or uploads.files:
                self._usage = None
                freed = jobs_bytes + uploads.freed_bytes
                log.info("retention: removed %d jobs and %d uploads, %.1f MB", jobs, uploads.files, freed / 1e6)
            return Swept(jobs, uploads.files, jobs_bytes + uploads.freed_bytes)

    def usage(self) -> dict[str, int]:
        """Bytes on the disk: `jobs`, `uploads` (those that no job shares), `free`; up to half a minute old."""
        with self._lock:
            if self._usage is None or time.monotonic() - self._usage[0] > USAGE_MAX_AGE_S:
                tally, _ = self._measure_jobs(list(self._rows()))
                jobs_bytes = tally.total_bytes
                tally.add(measure(self._uploads.folder))
                found = {"jobs": jobs_bytes, "uploads": tally.total_bytes - jobs_bytes}
                self._usage = (time.monotonic(), found)
            return self._usage[1] | {"free": shutil.disk_usage(self._home.path).free}

    def _sweep_jobs(self, now: float) -> tuple[int, int]:
        """Remove finished jobs, the oldest first, that are past their time or beyond the space."""
        rows = list(self._rows())
        tally, sizes = self._measure_jobs(rows)
        tally.add(measure(self._uploads.folder))
        limit_bytes = float("inf") if self.policy.disk_gb is None else self.policy.disk_gb * 1e9
        jobs = freed_bytes = 0
        for row in sorted((row for row in rows if row["state"] in FINAL), key=lambda row: (_ended_at(row), row["id"])):
            keep_s = self.policy.keep_s(row["state"])
            is_too_much = tally.total_bytes > limit_bytes
            if is_too_much:
                keep_s = min(SPARED_AFTER_END_S, keep_s or SPARED_AFTER_END_S)
            if keep_s is None or _ended_at(row) > now - keep_s:
                continue
            if self._remove(row, ended_before=now - keep_s, why="for space" if is_too_much else "for its age"):
                jobs += 1
                freed_bytes += tally.remove(sizes[row["id"]])
        if tally.total_bytes > limit_bytes:
            log.warning(
                "jobs and uploads take %.3f GB, more than the limit of %g GB, and nothing more may be removed",
                tally.total_bytes / 1e9,
                self.policy.disk_gb,
            )
        return jobs, freed_bytes

    def _remove(self, row: dict[str, Any], *, ended_before: float, why: str) -> bool:
        """Remove a job if its folder, which alone knows, agrees that it ended so long ago and nothing holds it."""
        job = Job(self._home, self._home.store.job(row["id"]))
        if not job.directory.path.exists():
            # Its folder was deleted behind the index's back.
            self._home.index.remove(job.id)
            return False
        try:
            status = job.status()
            if not status.state.is_final or _end_of(job, status) > ended_before or self._is_held(job.id):
                return False
            # The folder is renamed before it is emptied. A client that is reading one of its files goes on to the
            # end of it, because an open file lives until it is closed; the next request finds no job at all. Never is
            # a job seen with half of its files. Whoever reads many files one after another has to hold the job.
            job.remove()
        except (GnomonError, OSError, ValueError) as error:
            # Retried, removed by someone else, or damaged: one job is no reason to leave the others.
            log.warning("retention: job %s stays: %s", job.id, error)
            return False
        log.info("retention: removed job %s %s", job.id, why)
        return True

    def _rows(self) -> Iterator[dict[str, Any]]:
        """All jobs of the index, the newest first."""
        before = None
        while page := self._home.index.list(limit=PAGE_ROWS, before=before):
            yield from page
            before = page[-1]["id"]

    def _measure_jobs(self, rows: list[dict[str, Any]]) -> tuple[Tally, dict[str, FolderSize]]:
        tally = Tally()
        sizes: dict[str, FolderSize] = {}
        for row in rows:
            # Only what a worker is busy with changes from one look to the next.
            is_still = row["state"] in FINAL or row["state"] == State.QUEUED
            state = (row["state"], row["attempt"], row["ended_at"]) if is_still else None
            sizes[row["id"]] = self._sizes.size(self._home.store.job(row["id"]).path, state)
            tally.add(sizes[row["id"]])
        self._sizes.forget_all_but(sizes)
        return tally, sizes


def _ended_at(row: dict[str, Any]) -> float:
    """When a job ended, as far as the index knows; one that was cancelled while it waited has no end of its own."""
    return row["ended_at"] if row["ended_at"] is not None else row["submitted_s"]


def _end_of(job: Job, status: Status) -> float:
    """When a job ended, by its folder."""
    if status.ended_at is not None:
        return status.ended_at
    return job.directory.cancel_marker.stat().st_mtime
