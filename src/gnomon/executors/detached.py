"""Processes that outlive whoever starts them: supervisors and the agent."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gnomon.job import Attempt

_started: set[int] = set()
"""Children of this process that nobody waits for; they are only reaped, so that no zombies are left."""


def start_supervisor(attempt: Attempt) -> None:
    """Start the attempt's supervisor. The worker's command is in launch.json, where the supervisor reads it."""
    supervisor = [sys.executable, "-P", "-m", "gnomon.executors.supervisor"]
    start([*supervisor, str(attempt.job.path), str(attempt.number)], log=attempt.log, cwd=attempt.path)


def start(command: Sequence[str], *, log: Path, cwd: Path, pass_fds: Sequence[int] = ()) -> int:
    """Start a command in a session of its own, its output appended to `log`, and return its pid."""
    reap()
    with log.open("ab") as stream:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            cwd=cwd,
            pass_fds=pass_fds,
        )
    # Popen would warn that it was never waited for; leaving it to itself is the point here.
    process.returncode = 0
    _started.add(process.pid)
    return process.pid


def reap() -> None:
    """Take note of those that have ended."""
    for pid in list(_started):
        with contextlib.suppress(ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                continue
        _started.discard(pid)
