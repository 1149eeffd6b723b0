"""One pass of the reconciler: look at what is wanted and what is, and write the difference.

It is level-triggered: every pass starts from the job folders, so a process killed anywhere is made good by the next
pass, whoever runs it (a command, the agent, a server). Passes may overlap; the index's slot transaction and the
exclusive creation of launch.json see to it that an attempt is started once.
"""

from __future__ import annotations

import itertools
import logging
import secrets
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon import request
from gnomon.errors import Cancelled, ExecutorError, GnomonError
from gnomon.executors import Capacity
from gnomon.index import Index
from gnomon.index_decision import Decision, room_left
from gnomon.index_table import ACTIVE
from gnomon.job import Attempt, JobDir, JobStore, Reason, State
from gnomon.site import Site, load_sites
from gnomon.status import Status, derive

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 0.2
"""So long a running job that has not ended is not looked at again."""

MOST_SEEN = 10_000

CLAIM_LIMIT_S = 60.0
"""How long the index may say "launching" while the folder has no launch.json before the slot is given back."""

PATIENCE_S = 600.0
"""A job that has waited for this long is not passed over by smaller ones any more."""

QUEUE_LOOK_ROWS = 200
QUEUE_LOOK_INTERVAL_S = 0.5
"""So many waiting jobs are looked at so often, in turn, for cancel markers and other changes from outside."""


@dataclass
class Pass:
    """What one pass found: how many jobs are not finished, and how many of them wait."""

    active: int = 0
    queued: int = 0
    changed: list[Status] = field(default_factory=list)

    @property
    def unfinished(self) -> int:
        return self.active + self.queued


class Reconciler:
    """Keeps the index and the sites it has looked up between passes."""

    def __init__(self, home: Path, index: Index, sites: dict[str, Site] | None = None) -> None:
        self.store = JobStore(home)
        self.index = index
        self.sites = sites if sites is not None else load_sites(home)
        self._touched: deque[str] = deque()
        self._looked_to = ""
        self._next_look = 0.0
        self._asked_for: set[str] = set()
        """Touched jobs that the pass at work looks at whatever it knows of them."""
        self._seen_until: dict[str, float] = {}
        self._turn = itertools.count(1)
        self._turns: dict[str, int] = {}
        """When each owner last had a job started, as a running number. Whoever waited longest is next."""

    def touch(self, job_id: str) -> None:
        """Have the next pass look at this job's folder: it was changed, say by a cancel marker. From any thread."""
        self._touched.append(job_id)

    def run_pass(self) -> Pass:
        """Observe every active job and some of those that wait, then start what there is room for."""
        seen = Pass(queued=self.index.count_queued())
        running: dict[str, list[dict[str, Any]]] = {name: [] for name in self.sites}
        gone: list[str] = []
        for row in self._rows_to_observe():
            if self._was_just_seen(row):
                running.setdefault(row["site"], []).append(row)
                continue
            status = self._observe(row)
            if status is None:
                gone.append(row["id"])
                seen.queued -= row["state"] == State.QUEUED
            elif self._note(row, status, seen):
                running.setdefault(row["site"], []).append(row)
        taken: list[tuple[dict[str, Any], Site]] = []
        if gone or seen.changed or (seen.queued and self._has_room(running)):
            # One transaction: what ended makes room for what starts.
            with self.index.deciding() as decision:
                for job_id in gone:
                    decision.remove(job_id)
                for status in seen.changed:
                    decision.update(status)
                for name, site in self.sites.items():
                    taken += [(row, site) for row in self._take_slots(decision, site, running[name], seen)]
        for row, site in taken:
            launch(self.store.job(row["id"]), site, row["gpu_ids"])
        seen.active = sum(len(rows) for rows in running.values())
        return seen

    def _was_just_seen(self, row: dict[str, Any]) -> bool:
        """Whether a job is active, has not ended, and was looked at a moment ago.

        A pass comes whenever some job ends; all that the others could have to say since is how far they are.
        """
        now = time.monotonic()
        if row["state"] not in ACTIVE or row["id"] in self._asked_for:
            return False
        if now < self._seen_until.get(row["id"], 0.0):
            return not self.store.job(row["id"]).attempt(row["attempt"]).has_ended()
        if len(self._seen_until) > MOST_SEEN:
            self._seen_until.clear()
        self._seen_until[row["id"]] = now + LOOK_AGAIN_S
        return False

    def _has_room(self, running: dict[str, list[dict[str, Any]]]) -> bool:
        return any(_has_room(room_left(running[name], site.launcher.capacity())) for name, site in self.sites.items())

    def _rows_to_observe(self) -> list[dict[str, Any]]:
        """All active jobs, those that were touched, and now and then the next part of the queue."""
        rows = {row["id"]: row for row in self.index.active()}
        touched = [self._touched.popleft() for _ in range(len(self._touched))]
        self._asked_for = set(touched)
        if touched:
            rows |= {row["id"]: row for row in self.index.observed(touched)}
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + QUEUE_LOOK_INTERVAL_S
            part = self.index.queued_after(self._looked_to, QUEUE_LOOK_ROWS)
            self._looked_to = part[-1]["id"] if len(part) == QUEUE_LOOK_ROWS else ""
            rows |= {row["id"]: row for row in part if not self.store.job(row["id"]).is_waiting(row["attempt"])}
        return list(rows.values())

    def _note(self, row: dict[str, Any], status: Status, seen: Pass) -> bool:
        """Remember what changed against the job's row; returns whether the job is active."""
        if status.state.value != row["state"] or status.attempt != row["attempt"]:
            if status.state is State.QUEUED and self._is_being_launched(row, status):
                return True
            seen.changed.append(status)
            seen.queued += (status.state is State.QUEUED) - (row["state"] == State.QUEUED)
        return status.state.is_active

    def _take_slots(
        self, decision: Decision, site: Site, running: list[dict[str, Any]], seen: Pass
    ) -> list[dict[str, Any]]:
        """Fill the site: one job of each owner in turn, and of each owner the oldest that fits. Returns their rows.

        A job that has waited for long is not passed over any more: the site then fills no further until it fits.
        """
        taken: list[dict[str, Any]] = []
        most = site.launcher.capacity()
        room = room_left(running, most)
        if not _has_room(room):
            return taken
        owners = sorted(decision.waiting_owners(site.name), key=lambda owner: self._turns.get(owner, 0))
        looked_at: set[str] = set()
        decision.lock()
        while owners and _has_room(room):
            owner = owners.pop(0)
            row = decision.next_queued(site.name, owner, room, most, time.time() - PATIENCE_S)
            if row is None or row["id"] in looked_at:
                continue
            looked_at.add(row["id"])
            if not self.store.job(row["id"]).is_waiting(row["attempt"]):
                # It was cancelled or started by somebody else: what is left of this owner's turn is the next job's.
                owners.insert(0, owner)
                if self._look_again(decision, row, seen):
                    running.append(row)
                room = room_left(running, most)
                continue
            gpu_ids = decision.take(row, most)
            if gpu_ids is None:
                return taken
            row["gpu_ids"] = gpu_ids
            running.append(row)
            taken.append(row)
            seen.queued -= 1
            owners.append(owner)
            self._turns[owner] = next(self._turn)
            room = room_left(running, most)
        return taken

    def _look_again(self, decision: Decision, row: dict[str, Any], seen: Pass) -> bool:
        """Bring the row of a job up to date that does not wait any more; returns whether it is active."""
        status = self._observe(row)
        if status is None:
            decision.remove(row["id"])
            seen.queued -= 1
            return False
        count = len(seen.changed)
        is_active = self._note(row, status, seen)
        for changed in seen.changed[count:]:
            decision.update(changed)
        return is_active

    def _observe(self, row: dict[str, Any]) -> Status | None:
        """The job's state now; dead attempts are closed and, where it makes sense, followed by another."""
        job = self.store.job(row["id"])
        if not job.request.exists():
            return None
        status = derive(job)
        if status.state.is_active and not self._is_running(job, row):
            _close_vanished(job.attempt(status.attempt))
            status = derive(job)
        if deserves_retry(job, status, row["max_attempts"]):
            log.info("job %s: attempt %s ended by %s, trying again", job.id, status.attempt, status.reason)
            job.add_attempt()
            status = derive(job)
        return status

    def _is_running(self, job: JobDir, row: dict[str, Any]) -> bool:
        attempt = job.newest_attempt()
        site = self.sites.get(row["site"])
        if attempt is None or site is None:
            # A site that is no longer configured cannot be asked; its jobs are left as they are.
            return True
        return site.launcher.poll([attempt])[attempt]

    def _is_being_launched(self, row: dict[str, Any], status: Status) -> bool:
        """Another process has taken the slot for this very attempt and is about to write launch.json."""
        claimed = row["state"] == State.LAUNCHING and row["attempt"] == status.attempt
        return claimed and time.time() - row["updated_at"] < CLAIM_LIMIT_S


def _has_room(room: Capacity) -> bool:
    """Whether any job at all could fit: each wants a core and some memory."""
    return room.cpus >= 1 and room.mem_gb > 0


def launch(job: JobDir, site: Site, gpu_ids: list[int]) -> bool:
    """Claim the job's newest attempt and start it on the site; False when someone else claimed it."""
    attempt = job.newest_attempt()
    if attempt is None:
        return False
    claim = {
        "token": secrets.token_hex(16),
        "gpu_ids": gpu_ids,
        # A job that was given no GPU does not see any, so that it cannot take one from its neighbours.
        "environment": {"CUDA_VISIBLE_DEVICES": ",".join(map(str, gpu_ids))},
        "site": site.name,
        "launched_at": round(time.time(), 3),
        "host": socket.gethostname(),
    }
    if site.price_per_hour is not None:
        claim |= {"price_per_hour": site.price_per_hour, "currency": site.currency}
    try:
        sealed = request.recall(job)
    except GnomonError as error:
        if attempt.claim(claim):
            _record_failure(attempt, error, Reason.BAD_INPUT)
        return True
    command = site.runtime.wrap(_worker_command(job, attempt), sealed.resources)
    if not attempt.claim(claim | {"command": command, "resources": sealed.resources.model_dump()}):
        return False
    attempt.take_over_out()
    try:
        site.transfer.push(job)
        site.launcher.submit(attempt, command, sealed)
    except OSError as error:
        _record_failure(attempt, ExecutorError(f"the worker could not be started: {error}"), Reason.LAUNCH_FAILED)
    return True


def _worker_command(job: JobDir, attempt: Attempt) -> list[str]:
    # -P: files in the worker's folder are never taken for modules.
    return [sys.executable, "-P", "-m", "gnomon.worker", str(job.path), "--attempt", str(attempt.number)]


def _close_vanished(attempt: Attempt) -> None:
    if attempt.job.cancel_marker.exists():
        _record_failure(attempt, Cancelled("the job was cancelled"), Reason.CANCELLED_BY_USER)
        return
    error = ExecutorError(
        "the worker's processes vanished without a word (killed, or the machine was restarted)",
        code="worker_killed",
        fix="gnomon retry goes on from the last finished step",
    )
    _record_failure(attempt, error, Reason.WORKER_KILLED)


def _record_failure(attempt: Attempt, error: GnomonError, reason: Reason) -> None:
    record = {**error.to_dict(), "exit_code": error.exit_code}
    attempt.record_exit({"reason": reason.value, "error": record, "ended_at": round(time.time(), 3)})


def deserves_retry(job: JobDir, status: Status, max_attempts: int) -> bool:
    return (
        status.state is State.FAILED
        and status.reason is not None
        and status.reason.is_transient
        and status.attempt < max_attempts
        and not job.cancel_marker.exists()
    )
