"""The pool of warm workers: processes that have already imported and compiled what jobs need.

The pool is the server's end. Each of its slots is a detached process of its own (warm_slot.py) that keeps one worker
(warm_worker.py) and runs one job at a time in it, with the same files and the same limits as a supervisor. Server
and slot talk over a socket that only the two of them have: when one end is killed, the other notices at once. A slot
without its server finishes the job it has and leaves.
"""

from __future__ import annotations

import contextlib
import json
import logging
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gnomon.errors import GnomonError
from gnomon.executors import detached
from gnomon.job import Attempt
from gnomon.request import Request
from gnomon.tasks import get_task

log = logging.getLogger(__name__)

LONGEST_BACKOFF_S = 60.0
TEND_INTERVAL_S = 1.0


@dataclass(frozen=True)
class PoolSettings:
    """How many slots there are, and when a worker has lived long enough."""

    size: int
    warm_tasks: tuple[str, ...] = ()
    """Tasks that workers import and compile before their first job. With any, all slots are kept at all times."""
    max_jobs: int = 2000
    max_age_s: float = 3600.0
    max_rss_mb: float = 2000.0
    idle_s: float = 900.0
    """A slot that has been idle for so long leaves, unless there are `warm_tasks`."""


@dataclass
class _Slot:
    """What the server knows of one slot."""

    pid: int
    socket: socket.socket
    born: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    attempt: Attempt | None = None
    task: str | None = None
    jobs_done: int = 0
    rss_mb: float = 0.0
    heard: bytes = b""

    @property
    def state(self) -> str:
        if self.attempt is not None:
            return "busy"
        return "idle" if self.is_ready else "starting"

    def describe(self) -> dict[str, Any]:
        return {
            "pid": self.pid,
            "state": self.state,
            "task": self.task,
            "job": self.attempt.job.id if self.attempt is not None else None,
            "jobs": self.jobs_done,
            "age_s": round(time.monotonic() - self.born, 1),
            "rss_mb": round(self.rss_mb, 1),
        }


class WarmPool:
    """Starts slots, gives them jobs, and says when something changed. Safe to use from several threads."""

    def __init__(self, home: Path, settings: PoolSettings, on_change: Callable[[], None]) -> None:
        self._home = home
        self._settings = settings
        self._on_change = on_change
        self._lock = threading.Lock()
        self._slots: list[_Slot] = []
        self._failures = 0
        self._not_before = 0.0
        self._running = False
        self._thread = threading.Thread(target=self._run, name="warm pool", daemon=True)

    def start(self) -> None:
        """Begin to listen; with `warm_tasks`, start all slots."""
        self._selector = selectors.DefaultSelector()
        self._wake_end, self._bell = socket.socketpair()
        self._wake_end.setblocking(False)
        self._selector.register(self._wake_end, selectors.EVENT_READ)
        self._running = True
        self._tend()
        self._thread.start()

    def stop(self) -> None:
        """Let go of the slots. A job that runs goes on, and its slot leaves after it."""
        if not self._running:
            return
        self._running = False
        self._bell.send(b"x")
        self._thread.join()
        with self._lock:
            for slot in self._slots:
                slot.socket.close()
            self._slots.clear()
        self._selector.close()
        self._wake_end.close()
        self._bell.close()

    def offer(self, attempt: Attempt, request: Request) -> bool:
        """Give an attempt to a warm worker; False when none can have it now, and it should be started cold."""
        if not self._running or not _is_suitable(request):
            return False
        order = {"run": str(attempt.job.path), "attempt": attempt.number}
        with self._lock:
            slot = self._best_slot(request.task)
            if slot is None:
                return False
            try:
                slot.socket.sendall(_line(order))
            except OSError:
                # It is dying; the thread notices that too and clears it away.
                return False
            slot.attempt, slot.task = attempt, request.task
        return True

    def describe(self) -> list[dict[str, Any]]:
        """The slots: pid, state (idle, busy, starting), task last run, job, jobs done, age_s, rss_mb."""
        with self._lock:
            return [slot.describe() for slot in self._slots]

    def _best_slot(self, task: str) -> _Slot | None:
        """An idle slot, better one that ran this task before; else one that starts; else a new one.

        A slot whose job has ended is as good as idle, although it is still clearing up and has not said so: who
        sends one job after the other always meets it in this state.
        """
        free = [slot for slot in self._slots if slot.attempt is None]
        free = free or [slot for slot in self._slots if slot.attempt is not None and slot.attempt.has_ended()]
        if free:
            return max(free, key=lambda slot: (slot.is_ready, slot.task == task))
        if len(self._slots) < self._settings.size and time.monotonic() >= self._not_before:
            return self._start_slot()
        return None

    def _start_slot(self) -> _Slot | None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", "gnomon.executors.warm_slot", str(theirs.fileno())]
        settings = {
            "warm_tasks": self._settings.warm_tasks,
            "max_jobs": self._settings.max_jobs,
            "max_age_s": self._settings.max_age_s,
            "max_rss_mb": self._settings.max_rss_mb,
            "idle_s": None if self._settings.warm_tasks else self._settings.idle_s,
        }
        try:
            pid = detached.start(
                [*command, json.dumps(settings)],
                log=self._home / "warm.log",
                cwd=self._home,
                pass_fds=(theirs.fileno(),),
            )
        except OSError as error:
            log.warning("a warm worker could not be started: %s", error)
            ours.close()
            return None
        finally:
            theirs.close()
        slot = _Slot(pid, ours)
        self._slots.append(slot)
        # The bell is there so that the thread, which may be waiting, listens to the new slot too.
        self._selector.register(ours, selectors.EVENT_READ, slot)
        with contextlib.suppress(OSError):
            self._bell.send(b"x")
        return slot

    def _run(self) -> None:
        while self._running:
            changed = False
            for key, _ in self._selector.select(TEND_INTERVAL_S):
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_end.recv(4096)
                else:
                    changed |= self._listen(key.data)
            self._tend()
            if changed:
                self._tell()

    def _tell(self) -> None:
        try:
            self._on_change()
        except Exception:
            log.exception("the pool's listener failed")

    def _tend(self) -> None:
        """Reap what has left; keep all slots there when tasks are to be kept warm."""
        detached.reap()
        with self._lock:
            wanted = self._settings.size if self._settings.warm_tasks else 0
            while self._running and len(self._slots) < wanted and time.monotonic() >= self._not_before:
                if self._start_slot() is None:
                    self._back_off()

    def _listen(self, slot: _Slot) -> bool:
        """Take in what a slot says; returns whether a job has ended."""
        try:
            data = slot.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._bury(slot)
            return True
        *lines, slot.heard = (slot.heard + data).split(b"\n")
        ended = False
        with self._lock:
            for line in lines:
                message = json.loads(line)
                slot.is_ready = message["ready"]
                slot.rss_mb = message["rss_mb"]
                if message["ended"] is not None:
                    slot.jobs_done += 1
                    ended = True
                    # It may have been given its next job already.
                    if slot.attempt is not None and message["ended"] == str(slot.attempt.path):
                        slot.attempt = None
                if slot.is_ready:
                    self._failures = 0
        return ended

    def _bury(self, slot: _Slot) -> None:
        """Clear away a slot that has left or was killed."""
        with self._lock:
            self._slots.remove(slot)
            self._selector.unregister(slot.socket)
            slot.socket.close()
            if not slot.is_ready and slot.jobs_done == 0:
                self._back_off()
        if slot.attempt is not None and slot.attempt.process() is None:
            # It never came to claim the job. Should it, against all likelihood, still do so, one of the two finds
            # process.json there and stands back.
            with contextlib.suppress(OSError):
                detached.start_supervisor(slot.attempt)

    def _back_off(self) -> None:
        self._failures += 1
        self._not_before = time.monotonic() + min(2.0**self._failures, LONGEST_BACKOFF_S)


def _is_suitable(request: Request) -> bool:
    """Warm workers see no GPU and run only what lives in our own environment."""
    if request.resources.gpus:
        return False
    try:
        return get_task(request.task).method(request.method).environment is None
    except GnomonError:
        return False


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
