"""A job is a directory. This module alone knows the names inside it; it needs nothing but the standard library.

    jobs/<id>/
      request.json          sealed, written once (see request.py)
      inputs/               files by name
      attempts/0001/        launch.json process.json exit.json   written by the launcher
                            events.jsonl log.txt env.json        written by the worker
                            out/                                 the worker's private results
      results/              appears by one rename of an attempt's out/, once
      cancel                empty marker
      private.json          complete URLs of remote inputs, readable by the owner alone, gone once they are fetched
      submission.json       who asked for the job and whom to tell of its end; readable by the owner alone

A later attempt takes over its predecessor's out/ by a rename. That one step keeps every finished piece of work and
fences the predecessor: its path is gone, so a late process can neither add to the results nor publish them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from gnomon import atomic
from gnomon.errors import NotFound


class State(StrEnum):
    """Where a job is in its life. Those that are final are not left again, except by a retry."""

    QUEUED = "queued"
    LAUNCHING = "launching"
    STAGING = "staging"
    RUNNING = "running"
    PUBLISHING = "publishing"
    LOST = "lost"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)

    @property
    def is_active(self) -> bool:
        """Some machine is, or may be, working on it."""
        return self in (State.LAUNCHING, State.STAGING, State.RUNNING, State.PUBLISHING, State.LOST)


class Reason(StrEnum):
    """Why a job is in its state. Whether another attempt is made by itself depends on it."""

    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    NODE_FAIL = "node_fail"
    PREEMPTED = "preempted"
    WORKER_KILLED = "worker_killed"
    LAUNCH_FAILED = "launch_failed"
    BAD_INPUT = "bad_input"
    NOT_INSTALLED = "not_installed"
    METHOD_FAILED = "method_failed"
    INTERNAL = "internal"
    CANCELLED_BY_USER = "cancelled_by_user"
    ITEMS_FAILED = "items_failed"

    @property
    def is_transient(self) -> bool:
        """The same request may well succeed when tried again unchanged."""
        return self in (Reason.NODE_FAIL, Reason.PREEMPTED, Reason.WORKER_KILLED, Reason.LAUNCH_FAILED)


_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """16 characters: 10 of milliseconds since 1970, 6 random. Sorting by name is sorting by time."""
    value = (int(time.time() * 1000) << 30) | secrets.randbits(30)
    return "".join(_BASE32[(value >> shift) & 31] for shift in range(75, -1, -5))


def is_id(text: str) -> bool:
    return len(text) == 16 and all(character in _BASE32 for character in text)


@dataclass(frozen=True)
class Attempt:
    """One try at a job: a folder whose files each have one writer."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def job(self) -> JobDir:
        return JobDir(self.path.parent.parent)

    @property
    def out(self) -> Path:
        return self.path / "out"

    @property
    def steps(self) -> Path:
        """Records of finished steps; they live in out/ so that a successor takes them over with the files."""
        return self.out / ".steps"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def environment(self) -> Path:
        return self.path / "env.json"

    # These three are not synced to the disk. They speak of processes, which a power cut ends too; a file that it
    # tore is read as one that says nothing, and the attempt is then found dead, closed, and followed by another.

    def launch(self) -> dict[str, Any] | None:
        return _read_unsynced(self.path / "launch.json")

    def process(self) -> dict[str, Any] | None:
        return _read_unsynced(self.path / "process.json")

    def exit(self) -> dict[str, Any] | None:
        return _read_unsynced(self.path / "exit.json")

    def claim(self, launch: dict[str, Any]) -> bool:
        """Write launch.json unless someone else did; only the caller that gets True may start a worker."""
        return atomic.create_json(self.path / "launch.json", launch, synced=False)

    def record_process(self, process: dict[str, Any]) -> bool:
        return atomic.create_json(self.path / "process.json", process, synced=False)

    def record_exit(self, outcome: dict[str, Any]) -> bool:
        """Write exit.json once; the first account of how the attempt ended stands."""
        return atomic.create_json(self.path / "exit.json", outcome, synced=False)

    def take_over_out(self) -> None:
        """Make out/, from the nearest predecessor's if it left one. This fences every earlier attempt."""
        if self.out.is_dir():
            return
        for earlier in reversed(self.job.attempts()):
            if earlier.number < self.number:
                with contextlib.suppress(FileNotFoundError):
                    earlier.out.rename(self.out)
                    return
        self.out.mkdir(exist_ok=True)

    def has_ended(self) -> bool:
        """Whether the job has its results, or exit.json says how this attempt ended."""
        return self.job.result_file.exists() or (self.path / "exit.json").exists()

    def is_current(self, token: str) -> bool:
        """Whether the holder of `token` still is the job's newest, unfinished attempt."""
        newest = self.job.newest_attempt()
        launch = self.launch()
        return newest == self and launch is not None and launch.get("token") == token and self.exit() is None

    def publish(self, token: str) -> bool:
        """Turn out/ into the job's results by one rename; False when this attempt is no longer the one."""
        if not self.is_current(token):
            return False
        steps = self.path / "steps"
        try:
            if self.steps.is_dir() and not steps.exists():
                self.steps.rename(steps)
            self.out.rename(self.job.results)
        except OSError:
            if self.out.is_dir() and not self.job.results.exists():
                raise
            # out/ was taken over by a successor, or a result is there already; both mean "not ours".
            return False
        atomic.sync_folder(self.job.path)
        return True


@dataclass(frozen=True)
class JobDir:
    """The folder of one job."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    @property
    def inputs(self) -> Path:
        return self.path / "inputs"

    @property
    def results(self) -> Path:
        return self.path / "results"

    @property
    def result_file(self) -> Path:
        return self.results / "result.json"

    @property
    def cancel_marker(self) -> Path:
        return self.path / "cancel"

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first."""
        try:
            names = sorted(path.name for path in (self.path / "attempts").iterdir())
        except FileNotFoundError:
            return []
        return [Attempt(self.path / "attempts" / name) for name in names if name.isdigit()]

    def newest_attempt(self) -> Attempt | None:
        attempts = self.attempts()
        return attempts[-1] if attempts else None

    def attempt(self, number: int) -> Attempt:
        return Attempt(self.path / "attempts" / f"{number:04d}")

    def add_attempt(self) -> Attempt | None:
        """Ask for one more try; None when somebody else asked at the same moment."""
        newest = self.newest_attempt()
        attempt = self.attempt(newest.number + 1 if newest else 1)
        try:
            attempt.path.mkdir(parents=True)
        except FileExistsError:
            return None
        return attempt

    def keep_private_urls(self, urls: dict[str, str]) -> None:
        """Put down URLs that may carry passwords or signatures, for the worker alone."""
        _write_private(self.path / "private.json", urls)

    def private_urls(self) -> dict[str, str]:
        return atomic.read_json(self.path / "private.json") or {}

    def forget_private_urls(self) -> None:
        (self.path / "private.json").unlink(missing_ok=True)

    def keep_submission(self, record: Mapping[str, Any]) -> None:
        """Put down who asked for the job and whom to tell; once, before the job becomes visible."""
        _write_private(self.path / "submission.json", record)

    def submission(self) -> dict[str, Any]:
        """Who asked for the job and whom to tell; empty for a job that was made without such a record."""
        return atomic.read_json(self.path / "submission.json") or {}

    def is_waiting(self, attempt: int) -> bool:
        """Whether this attempt still waits to be launched. A quick look, for queues with thousands of jobs."""
        folder = str(self.path)
        return (
            not os.access(f"{folder}/attempts/{attempt:04d}/launch.json", os.F_OK)
            and os.access(f"{folder}/attempts/{attempt:04d}", os.F_OK)
            and not os.access(f"{folder}/cancel", os.F_OK)
            and os.access(f"{folder}/request.json", os.F_OK)
        )

    def is_queued(self) -> bool:
        """Whether an attempt was asked for that nobody has launched yet."""
        newest = self.newest_attempt()
        waits = newest is not None and newest.launch() is None
        return waits and not self.result_file.exists() and not self.cancel_marker.exists()

    def read_result(self) -> dict[str, Any] | None:
        return atomic.read_json(self.result_file)


@dataclass(frozen=True)
class JobStore:
    """All job folders under one home."""

    home: Path

    @property
    def folder(self) -> Path:
        return self.home / "jobs"

    def job(self, job_id: str) -> JobDir:
        return JobDir(self.folder / job_id)

    def all(self) -> list[JobDir]:
        """Every sealed job, oldest first; folders that are still being made are not jobs yet."""
        try:
            names = sorted(path.name for path in self.folder.iterdir())
        except FileNotFoundError:
            return []
        return [self.job(name) for name in names if is_id(name)]

    def sweep(self, older_than_s: float = 3600.0) -> None:
        """Remove what killed processes left: jobs that were never sealed, and jobs half deleted."""
        for path in [*self.folder.glob(".new-*"), *self.folder.glob(".removed-*")]:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > older_than_s:
                    shutil.rmtree(path, ignore_errors=True)

    def find(self, text: str) -> JobDir:
        """The job whose id is, begins or ends with `text`; `@last` is the newest.

        Raises:
            NotFound: no job, or more than one, fits.
        """
        jobs = self.all()
        if text == "@last" and jobs:
            return jobs[-1]
        matches = [job for job in jobs if job.id == text] or [
            job for job in jobs if len(text) >= 3 and (job.id.startswith(text) or job.id.endswith(text))
        ]
        if len(matches) == 1:
            return matches[0]
        if not matches:
            raise NotFound(
                f"there is no job {text!r}",
                code="job_not_found",
                field="job",
                value=text,
                expected="a job id, three or more characters of its start or end, or @last",
                fix="gnomon jobs lists them; gnomon reindex finds folders that the list has forgotten",
            )
        some = ", ".join(job.id for job in matches[:5])
        raise NotFound(f"{text!r} fits {len(matches)} jobs: {some}", code="job_ambiguous", field="job", value=text)


def _read_unsynced(path: Path) -> dict[str, Any] | None:
    try:
        return atomic.read_json(path)
    except ValueError:
        return {}


def _write_private(path: Path, value: Mapping[str, Any]) -> None:
    """A file that only the owner may read; its folder is not visible yet, so it need not appear in one step."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(atomic.to_json(dict(value)))
        stream.flush()
        os.fsync(stream.fileno())
