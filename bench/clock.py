"""What a piece of work costs: processor time of all its threads and processes, and time on the wall."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

PR_SET_CHILD_SUBREAPER = 36
ORPHAN_WAIT_S = 15.0


@dataclass(frozen=True)
class Cost:
    """User and system time summed, and elapsed time, in seconds."""

    cpu_s: float
    wall_s: float

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s - other.cpu_s, self.wall_s - other.wall_s)

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s)

    def times(self, factor: float) -> Cost:
        return Cost(self.cpu_s * factor, self.wall_s * factor)


def measure(work: Callable[[], object]) -> Cost:
    """Run `work` once. Child processes count when they have ended by then."""
    cpu, wall = _cpu_s(), time.perf_counter()
    work()
    return Cost(_cpu_s() - cpu, time.perf_counter() - wall)


def measure_command(command: Sequence[str], variables: Mapping[str, str] | None = None) -> Cost:
    """Run a command and whatever it leaves running behind it; raises CalledProcessError when it fails.

    Elapsed time ends when the command returns, processor time when its last descendant has ended.
    """
    cpu, wall = _cpu_s(), time.perf_counter()
    subprocess.run(command, env={**os.environ, **(variables or {})}, check=True, stdout=subprocess.DEVNULL, timeout=900)
    wall = time.perf_counter() - wall
    _reap_orphans()
    return Cost(_cpu_s() - cpu, wall)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that their time is counted (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _reap_orphans() -> None:
    deadline = time.monotonic() + ORPHAN_WAIT_S
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)


def _cpu_s() -> float:
    ours, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return ours.ru_utime + ours.ru_stime + children.ru_utime + children.ru_stime
