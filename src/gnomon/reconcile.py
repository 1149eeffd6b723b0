"""One pass of the reconciler: look at what is wanted and what is, and write the difference.

It is level-triggered: every pass starts from the job folders, so a process killed anywhere is made good by the next
pass, whoever runs it (a command, the agent, a server). Passes may overlap; the index's slot transaction and the
exclusive creation of launch.json see to it that an attempt is started once.
"""

from __future__ import annotations

import logging
import secrets
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon import request
from gnomon.errors import Cancelled, ExecutorError, GnomonError
from gnomon.index import Index
from gnomon.job import Attempt, JobDir, JobStore, Reason, State
from gnomon.site import Site, load_sites
from gnomon.status import Status, derive

log = logging.getLogger(__name__)

CLAIM_LIMIT_S = 60.0
"""How long the index may say "launching" while the folder has no launch.json before the slot is given back."""


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

    def run_pass(self) -> Pass:
        """Observe every unfinished job, then start what there is room for."""
        seen = Pass()
        waiting: list[dict[str, Any]] = []
        for row in self.index.unfinished():
            status = self._observe(row)
            if status is None:
                self.index.remove(row["id"])
                continue
            if status.state.value != row["state"] or status.attempt != row["attempt"]:
                if status.state is State.QUEUED and self._is_being_launched(row, status):
                    seen.active += 1
                    continue
                self.index.update(status)
                seen.changed.append(status)
            if status.state is State.QUEUED:
                waiting.append(row)
            elif not status.state.is_final:
                seen.active += 1
        for row in waiting:
            if self._try_launch(row):
                seen.active += 1
            else:
                seen.queued += 1
        return seen

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

    def _try_launch(self, row: dict[str, Any]) -> bool:
        site = self.sites.get(row["site"])
        gpu_ids = self.index.take_slot(row["id"], site.launcher.capacity()) if site is not None else None
        if site is None or gpu_ids is None:
            return False
        job = self.store.job(row["id"])
        launch(job, site, gpu_ids)
        self.index.update(derive(job))
        return True


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
        resources = request.read(job).resources
    except GnomonError as error:
        if attempt.claim(claim):
            _record_failure(attempt, error, Reason.BAD_INPUT)
        return True
    command = site.runtime.wrap(_worker_command(job, attempt), resources)
    if not attempt.claim(claim | {"command": command, "resources": resources.model_dump()}):
        return False
    attempt.take_over_out()
    try:
        site.transfer.push(job)
        site.launcher.submit(attempt, command, resources)
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
