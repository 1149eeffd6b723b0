"""The process beside each local worker: starts it, keeps it within its limits, cancels it, says how it ended.

    python -m gnomon.executors.supervisor JOB_DIR ATTEMPT

It is started detached from the terminal and from whoever launched it, so a job goes on when the command line or a
server is killed. It holds the worker's lifeline: if the supervisor itself is killed, its worker ends too, and the
next pass of the reconciler finds the attempt without a living process. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from gnomon.executors import limits
from gnomon.executors.limits import GRACE_S, Ending, Limits
from gnomon.executors.process import describe_self
from gnomon.job import Attempt, JobDir, JobStore, Reason

LOOK_INTERVAL_S = 0.1
"""Between looks at the cancel marker, the clock and the memory."""

POLL_S = 0.02


def main(arguments: list[str]) -> int:
    attempt = JobDir(Path(arguments[0])).attempt(int(arguments[1]))
    launch = attempt.launch()
    if not launch or not attempt.record_process(describe_self()) or not attempt.is_current(launch["token"]):
        return 1
    limits.adopt_orphans()
    supervise(attempt, launch)
    wake_agent(attempt)
    return 0


def supervise(attempt: Attempt, launch: dict[str, Any]) -> None:
    """Run the attempt's worker to its end and write exit.json."""
    began = time.monotonic()
    watch = Limits(attempt, launch["resources"])
    try:
        worker, lifeline = _start(attempt, launch)
    except OSError as error:
        ending = limits.launch_failed(f"the worker could not be started: {error}")
        limits.record(attempt, began, code=None, ending=ending, cpu_s=0.0, peak_mb=0.0)
        return
    ending = _until_end(worker, watch)
    limits.kill_remaining()
    os.close(lifeline)
    code = worker.returncode
    if ending is None and watch.was_killed_for_memory(code):
        ending = limits.out_of_memory(watch.peak_mb / 1e3, None)
    usage = os.times()
    limits.record(
        attempt,
        began,
        code=code,
        ending=ending,
        cpu_s=usage.children_user + usage.children_system,
        peak_mb=max(watch.peak_mb, limits.children_peak_mb()),
    )


def _until_end(worker: subprocess.Popen[bytes], watch: Limits) -> Ending | None:
    """Wait for the worker; None when it ended by itself."""
    with _Exit(worker) as gone:
        while not gone.wait(LOOK_INTERVAL_S):
            ending = watch.must_end()
            if ending is None:
                continue
            if ending.reason != "out_of_memory":
                with contextlib.suppress(ProcessLookupError):
                    worker.send_signal(signal.SIGTERM)
                if gone.wait(GRACE_S):
                    return ending
            limits.kill_group(worker.pid)
            worker.wait()
            return ending
    return None


class _Exit:
    """The end of a child, waited for without polling where the system can tell."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._descriptor: int | None = None

    def __enter__(self) -> _Exit:
        with contextlib.suppress(AttributeError, OSError):
            self._descriptor = os.pidfd_open(self._child.pid)
        return self

    def __exit__(self, *details: object) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def wait(self, seconds: float) -> bool:
        """Wait for at most so long; returns whether the child has ended."""
        if self._descriptor is not None:
            select.select([self._descriptor], [], [], seconds)
            return self._child.poll() is not None
        deadline = time.monotonic() + seconds
        while self._child.poll() is None:
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True


def _start(attempt: Attempt, launch: dict[str, Any]) -> tuple[subprocess.Popen[bytes], int]:
    read_end, write_end = os.pipe()
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


def wake_agent(attempt: Attempt) -> None:
    """Start the agent, unless one or a server runs, when a job waits or this one deserves another attempt."""
    from gnomon.executors.agent_lock import is_served, spawn_if_free

    store = JobStore(attempt.job.path.parent.parent)
    if is_served(store.home):
        # The server does what is to be done, and need not share a look at all its jobs with every worker's end.
        return
    reason = (attempt.exit() or {}).get("reason")
    is_owed_a_retry = reason is not None and Reason(reason).is_transient
    if is_owed_a_retry or any(job.is_queued() for job in store.all()):
        with contextlib.suppress(OSError):
            spawn_if_free(store.home)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
