"""What a supervisor keeps an attempt within, how it says how the attempt ended, and how it ends what remains.

Shared by the supervisor of one job and by the slots of warm workers. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gnomon.job import Attempt

MEMORY_POLL_S = 0.25
GRACE_S = 5.0
"""How long a worker that was asked to stop may take before it is killed."""

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Ending:
    """Why the supervisor ended the worker, in the words of the job record."""

    reason: str
    error: dict[str, Any]


class Limits:
    """What one attempt may use, and whether somebody wants its end."""

    def __init__(self, attempt: Attempt, resources: dict[str, Any], *, has_worker: bool = True) -> None:
        self.attempt = attempt
        self.began = time.monotonic()
        self.timeout_s = resources["timeout_s"]
        self.limit_mb = resources["mem_gb"] * 1000.0
        self.baseline_mb = 0.0
        """What the worker held before the job began; it is not the job's."""
        self.peak_mb = 0.0
        self._oom_kills_before = kernel_oom_kills()
        self._next_memory_look = self.began if has_worker else math.inf

    def must_end(self) -> Ending | None:
        """The reason to end the attempt now, if there is one."""
        now = time.monotonic()
        if self.attempt.job.cancel_marker.exists():
            return cancelled()
        if now > self.began + self.timeout_s:
            return timeout(self.timeout_s)
        if now >= self._next_memory_look:
            self._next_memory_look = now + MEMORY_POLL_S
            used_mb = tree_rss_mb()
            self.peak_mb = max(self.peak_mb, used_mb)
            if used_mb - self.baseline_mb > self.limit_mb:
                return out_of_memory((used_mb - self.baseline_mb) / 1e3, self.limit_mb / 1e3)
        return None

    def was_killed_for_memory(self, exit_code: int | None) -> bool:
        """Whether it was the kernel that killed the worker, for lack of memory."""
        return exit_code == -signal.SIGKILL and kernel_oom_kills() > self._oom_kills_before

    def begin_work(self, baseline_mb: float) -> None:
        """A warm worker begins with the job: from here on, count what it uses above what it had."""
        self.baseline_mb = baseline_mb
        self._next_memory_look = time.monotonic() + MEMORY_POLL_S


def record(
    attempt: Attempt,
    began: float,
    *,
    code: int | None,
    ending: Ending | None,
    cpu_s: float,
    peak_mb: float,
) -> None:
    """Write exit.json. OSError: it cannot be written."""
    outcome: dict[str, Any] = {
        "exit_code": code,
        "signal": -code if code is not None and code < 0 else None,
        "ended_at": round(time.time(), 3),
        "wall_s": round(time.monotonic() - began, 3),
        "cpu_s": round(cpu_s, 3),
        "max_rss_mb": round(peak_mb, 1),
    }
    if ending is not None:
        outcome |= {"reason": ending.reason, "error": ending.error}
    elif code is not None and code < 0:
        message = f"the worker was ended from outside by {signal.Signals(-code).name}"
        error = {"code": "worker_killed", "message": message, "exit_code": 4}
        outcome |= {"reason": "worker_killed", "error": error}
    attempt.record_exit(outcome)


def adopt_orphans() -> None:
    """Let orphans of the worker become this process's children, so that none can outlive the job."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def tree_rss_mb() -> float:
    """Memory of everything below this process."""
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e6


def kill_remaining() -> None:
    """Kill every descendant that outlived the worker, also those that left its process group."""
    for _ in range(50):
        children = psutil.Process().children(recursive=True)
        if not children:
            return
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=0.2)


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def children_peak_mb() -> float:
    """The largest memory that any child which has ended had."""
    import resource

    # Kilobytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def cancelled() -> Ending:
    message = "the job was cancelled"
    return Ending("cancelled_by_user", {"code": "cancelled_by_user", "message": message, "exit_code": 8})


def timeout(limit_s: float) -> Ending:
    message = f"the job ran longer than its limit of {limit_s:g} s"
    fix = "give it more with --timeout-s; a retry goes on from its last finished step"
    return Ending("timeout", {"code": "timeout", "message": message, "fix": fix, "exit_code": 7})


def out_of_memory(used_gb: float, limit_gb: float | None) -> Ending:
    if limit_gb is None:
        message = f"the system ended the worker for lack of memory (it had used {used_gb:.2f} GB)"
    else:
        message = f"the job used {used_gb:.2f} GB; its limit is {limit_gb:g} GB"
    fix = "give it more with --mem-gb, or make the work smaller"
    return Ending("out_of_memory", {"code": "out_of_memory", "message": message, "fix": fix, "exit_code": 7})


def given_up() -> Ending:
    message = "the attempt was closed while it ran"
    return Ending("worker_killed", {"code": "worker_killed", "message": message, "exit_code": 4})


def launch_failed(message: str) -> Ending:
    return Ending("launch_failed", {"code": "launch_failed", "message": message, "exit_code": 4})


def kernel_oom_kills() -> int:
    """How many processes this Linux kernel has killed for memory so far; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
