"""This machine as a site: slots by cores, memory and GPUs; every attempt under its own supervisor."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from gnomon.executors import Capacity, Probe, detached
from gnomon.executors.process import is_alive
from gnomon.executors.warm import WarmPool
from gnomon.job import Attempt
from gnomon.request import Request

START_LIMIT_S = 60.0
"""How long a supervisor may take from launch.json to process.json before its attempt counts as dead."""

LEAST_FREE_DISK_MB = 200


class LocalLauncher:
    """Runs workers on this machine, detached from whoever asks."""

    def __init__(self, home: Path, capacity: Capacity | None = None, pool: WarmPool | None = None) -> None:
        self._home = home
        self._capacity = capacity
        self._pool = pool

    def use_pool(self, pool: WarmPool) -> None:
        """Give jobs to warm workers where one can take them."""
        self._pool = pool

    def submit(self, attempt: Attempt, command: Sequence[str], request: Request) -> None:
        """Give the attempt to a warm worker, or start its own supervisor and worker."""
        # A command that a runtime has wrapped is not ours to run in a process that is there already.
        is_plain = command[0] == sys.executable and "gnomon.worker" in command
        if is_plain and self._pool is not None and self._pool.offer(attempt, request):
            return
        detached.start_supervisor(attempt)

    def poll(self, attempts: Sequence[Attempt]) -> dict[Attempt, bool]:
        detached.reap()
        return {attempt: _may_run(attempt) for attempt in attempts}

    def cancel(self, attempt: Attempt) -> None:
        """Nothing to do: the supervisor sees the job's cancel marker within a tenth of a second."""
        del attempt

    def logs(self, attempt: Attempt, offset: int) -> bytes:
        try:
            with attempt.log.open("rb") as stream:
                stream.seek(offset)
                return stream.read()
        except FileNotFoundError:
            return b""

    def capacity(self) -> Capacity:
        if self._capacity is None:
            self._capacity = Capacity(cpus=usable_cpus(), mem_gb=usable_memory_gb(), gpus=count_gpus())
        return self._capacity

    def probe(self) -> Probe:
        capacity = self.capacity()
        self._home.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(self._home).free / 1e6
        problems = []
        if free_mb < LEAST_FREE_DISK_MB:
            problems.append(f"only {free_mb:.0f} MB free on the disk of {self._home}")
        if not os.access(self._home, os.W_OK):
            problems.append(f"{self._home} is not writable")
        facts = {
            "cpus": capacity.cpus,
            "mem_gb": round(capacity.mem_gb, 1),
            "gpus": capacity.gpus,
            "disk_free_gb": round(free_mb / 1e3, 1),
        }
        return Probe(ok=not problems, facts=facts, problems=tuple(problems))


def _may_run(attempt: Attempt) -> bool:
    process = attempt.process()
    if process is not None:
        return is_alive(process)
    launch = attempt.launch() or {}
    return time.time() - launch.get("launched_at", 0.0) < START_LIMIT_S


def usable_cpus() -> int:
    """Cores this process may run on, which a container or a batch system can make fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_memory_gb() -> float:
    """The machine's memory, or the control group's limit where that is lower."""
    total = psutil.virtual_memory().total
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limit = Path(name).read_text().strip()
        except OSError:
            continue
        if limit.isdigit():
            total = min(total, int(limit))
    return total / 1e9


def count_gpus() -> int:
    """NVIDIA devices that the driver shows; no library is needed to count them."""
    try:
        return sum(path.name.removeprefix("nvidia").isdigit() for path in Path("/dev").glob("nvidia*"))
    except OSError:
        return 0
