"""The process beside each local worker: starts it, keeps it within its limits, cancels it, says how it ended.

    python -m gnomon.executors.supervisor JOB_DIR ATTEMPT

It is started detached from the terminal and from whoever launched it, so a job goes on when the command line or a
server is killed. It holds the worker's lifeline: if the supervisor itself is killed, its worker ends too, and the
next pass of the reconciler finds the attempt without a living process. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gnomon.executors.process import describe_self
from gnomon.job import Attempt, JobDir, JobStore, Reason

POLL_S = 0.02
SLOW_POLL_S = 0.1
MEMORY_POLL_S = 0.25
GRACE_S = 5.0
"""How long a worker that was asked to stop may take before it is killed."""

PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Ending:
    """Why the supervisor ended the worker, in the words of the job record."""

    reason: str
    error: dict[str, Any]


def main(arguments: list[str]) -> int:
    attempt = JobDir(Path(arguments[0])).attempt(int(arguments[1]))
    launch = attempt.launch()
    if launch is None or not attempt.record_process(describe_self()) or not attempt.is_current(launch["token"]):
        return 1
    with contextlib.suppress(AttributeError, OSError):
        # Orphans of the worker become our children, so that none can outlive the job.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    supervise(attempt, launch)
    _wake_agent(attempt)
    return 0


def supervise(attempt: Attempt, launch: dict[str, Any]) -> None:
    """Run the attempt's worker to its end and write exit.json."""
    began = time.monotonic()
    oom_before = _kernel_oom_kills()
    try:
        worker, lifeline = _start(attempt, launch)
    except OSError as error:
        message = f"the worker could not be started: {error}"
        _record(attempt, began, code=None, ending=_launch_failed(message), peak_mb=0.0)
        return
    watch = Watch(attempt, worker, launch["resources"], began)
    ending = watch.until_end()
    _kill_remaining()
    os.close(lifeline)
    code = worker.returncode
    if ending is None and code == -signal.SIGKILL and _kernel_oom_kills() > oom_before:
        ending = _out_of_memory(watch.peak_mb / 1e3, None)
    _record(attempt, began, code=code, ending=ending, peak_mb=watch.peak_mb)


class Watch:
    """Looks after one worker until it is gone."""

    def __init__(
        self, attempt: Attempt, worker: subprocess.Popen[bytes], resources: dict[str, Any], began: float
    ) -> None:
        self.attempt = attempt
        self.worker = worker
        self.deadline = began + resources["timeout_s"]
        self.timeout_s = resources["timeout_s"]
        self.limit_mb = resources["mem_gb"] * 1000.0
        self.peak_mb = 0.0
        self._began = began
        self._next_memory_look = 0.0

    def until_end(self) -> Ending | None:
        """Wait for the worker; None when it ended by itself."""
        while self.worker.poll() is None:
            ending = self._must_end()
            if ending is not None:
                self._end_worker(force=ending.reason == "out_of_memory")
                return ending
            young = time.monotonic() - self._began < 2.0
            time.sleep(POLL_S if young else SLOW_POLL_S)
        return None

    def _must_end(self) -> Ending | None:
        now = time.monotonic()
        if self.attempt.job.cancel_marker.exists():
            return Ending(
                "cancelled_by_user",
                {"code": "cancelled_by_user", "message": "the job was cancelled", "exit_code": 8},
            )
        if now > self.deadline:
            return _timeout(self.timeout_s)
        if now >= self._next_memory_look:
            self._next_memory_look = now + MEMORY_POLL_S
            used_mb = _tree_rss_mb()
            self.peak_mb = max(self.peak_mb, used_mb)
            if used_mb > self.limit_mb:
                return _out_of_memory(used_mb / 1e3, self.limit_mb / 1e3)
        return None

    def _end_worker(self, *, force: bool) -> None:
        if not force:
            with contextlib.suppress(ProcessLookupError):
                self.worker.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.worker.wait(GRACE_S)
                return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        self.worker.wait()


def _start(attempt: Attempt, launch: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    read_end, write_end = os.pipe()
    os.set_inheritable(read_end, True)
    command = [*launch["command"], "--lifeline", str(read_end)]
    try:
        with attempt.log.open("ab") as log:
            worker = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(read_end,),
                cwd=attempt.path,
                env={**os.environ, **launch.get("environment", {})},
            )
    except BaseException:
        os.close(write_end)
        raise
    finally:
        os.close(read_end)
    return worker, write_end


def _tree_rss_mb() -> float:
    total = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e6


def _kill_remaining() -> None:
    """Kill every descendant that outlived the worker, also those that left its process group."""
    for _ in range(50):
        children = psutil.Process().children(recursive=True)
        if not children:
            return
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        psutil.wait_procs(children, timeout=0.2)


def _record(attempt: Attempt, began: float, *, code: int | None, ending: Ending | None, peak_mb: float) -> None:
    usage = os.times()
    outcome: dict[str, Any] = {
        "exit_code": code,
        "signal": -code if code is not None and code < 0 else None,
        "ended_at": round(time.time(), 3),
        "wall_s": round(time.monotonic() - began, 3),
        "cpu_s": round(usage.children_user + usage.children_system, 3),
        "max_rss_mb": round(max(peak_mb, _children_peak_mb()), 1),
    }
    if ending is not None:
        outcome |= {"reason": ending.reason, "error": ending.error}
    elif code is not None and code < 0:
        name = signal.Signals(-code).name
        error = {
            "code": "worker_killed",
            "message": f"the worker was ended from outside by {name}",
            "exit_code": 4,
        }
        outcome |= {"reason": "worker_killed", "error": error}
    attempt.record_exit(outcome)


def _children_peak_mb() -> float:
    import resource

    # Kilobytes on Linux, bytes on macOS.
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit


def _timeout(limit_s: float) -> Ending:
    message = f"the job ran longer than its limit of {limit_s:g} s"
    fix = "give it more with --timeout-s; a retry goes on from its last finished step"
    return Ending("timeout", {"code": "timeout", "message": message, "fix": fix, "exit_code": 7})


def _out_of_memory(used_gb: float, limit_gb: float | None) -> Ending:
    if limit_gb is None:
        message = f"the system ended the worker for lack of memory (it had used {used_gb:.2f} GB)"
    else:
        message = f"the job used {used_gb:.2f} GB; its limit is {limit_gb:g} GB"
    fix = "give it more with --mem-gb, or make the work smaller"
    return Ending("out_of_memory", {"code": "out_of_memory", "message": message, "fix": fix, "exit_code": 7})


def _launch_failed(message: str) -> Ending:
    return Ending("launch_failed", {"code": "launch_failed", "message": message, "exit_code": 4})


def _kernel_oom_kills() -> int:
    """How many processes this Linux kernel has killed for memory so far; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _wake_agent(attempt: Attempt) -> None:
    """Start the agent, unless one runs, when a job waits for this slot or this one deserves another attempt."""
    store = JobStore(attempt.job.path.parent.parent)
    reason = (attempt.exit() or {}).get("reason")
    is_owed_a_retry = reason is not None and Reason(reason).is_transient
    if is_owed_a_retry or any(job.is_queued() for job in store.all()):
        from gnomon.executors.agent_lock import spawn_if_free

        with contextlib.suppress(OSError):
            spawn_if_free(store.home)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
