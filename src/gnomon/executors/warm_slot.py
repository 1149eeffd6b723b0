"""One slot of the pool of warm workers: a supervisor that keeps its worker from job to job.

    python -m gnomon.executors.warm_slot SOCKET SETTINGS

It does for a job all that a supervisor does (process.json, limits, cancel marker, exit.json). A worker that was
signalled or has died, that leaves processes behind, or is old or large, is replaced by a fresh one. When the server's
end of the socket closes, the slot finishes its job and leaves. Any error in here ends the slot, and with it its
worker: the attempt is then found dead and tried again. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from gnomon.executors import limits
from gnomon.executors.limits import GRACE_S, Ending, Limits
from gnomon.executors.process import describe_self
from gnomon.executors.supervisor import LOOK_INTERVAL_S, wake_agent
from gnomon.job import Attempt, JobDir

NICENESS = 5

log = logging.getLogger(__name__)

IDLE_TICK_S = 5.0
MOST_FAILED_STARTS = 3


class Worker:
    """The worker process as its slot sees it."""

    def __init__(self, warm_tasks: list[str]) -> None:
        ours, theirs = socket.socketpair()
        read_end, self._lifeline = os.pipe()
        command = [sys.executable, "-P", "-m", "gnomon.executors.warm_worker"]
        try:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(read_end), *warm_tasks],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(theirs.fileno(), read_end),
                env={**os.environ, **_surroundings()},
            )
        finally:
            theirs.close()
            os.close(read_end)
        self.channel = ours
        self.born = time.monotonic()
        self.is_ready = False
        self.jobs = 0
        self.rss_mb = 0.0
        self.cpu_s = 0.0
        self._heard = b""

    def run(self, attempt: Attempt, cpus: int) -> None:
        order = {"job": str(attempt.job.path), "attempt": attempt.number, "cpus": cpus}
        self.channel.sendall(json.dumps(order).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """What the worker has said; None when it is gone."""
        try:
            data = self.channel.recv(65536)
        except OSError:
            data = b""
        if not data:
            return None
        *lines, self._heard = (self._heard + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def has_strays(self) -> bool:
        """Whether there are other processes than the worker below this one: what its job has left running."""
        try:
            return _children_of(self.process.pid) != [] or _children_of(os.getpid()) != [self.process.pid]
        except OSError:
            return len(psutil.Process().children(recursive=True)) > 1

    def end(self) -> int:
        """Kill the worker with all that is below it and give its exit code."""
        limits.kill_group(self.process.pid)
        code = self.process.wait()
        self.channel.close()
        os.close(self._lifeline)
        limits.kill_remaining()
        return code


class Slot:
    """Runs one job after the other; the loop ends when there is no server and no job."""

    def __init__(self, server: socket.socket, settings: dict[str, Any]) -> None:
        self._server: socket.socket | None = server
        self._settings = settings
        self._heard = b""
        self._identity = describe_self()
        self._selector = selectors.DefaultSelector()
        self._selector.register(server, selectors.EVENT_READ, self._on_server)
        self._attempt: Attempt | None = None
        self._next: Attempt | None = None
        """Sent while the job before it, which has its results, was still being cleared up."""
        self._limits: Limits | None = None
        self._cpus = 1
        self._failed_starts = 0
        self._idle_since = time.monotonic()
        self._last: Attempt | None = None
        self._worker = self._start_worker()

    def run(self) -> None:
        while self._server is not None or self._attempt is not None:
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            if self._attempt is not None:
                self._look_at_limits()
            elif self._is_unwanted():
                break
            elif self._is_worn_out():
                self._renew_worker()
                self._tell()
        self._worker.end()
        if self._last is not None:
            wake_agent(self._last)

    def _start_worker(self) -> Worker:
        worker = Worker(self._settings["warm_tasks"])
        self._selector.register(worker.channel, selectors.EVENT_READ, self._on_worker)
        return worker

    def _renew_worker(self) -> int:
        self._selector.unregister(self._worker.channel)
        code = self._worker.end()
        self._worker = self._start_worker()
        return code

    def _is_unwanted(self) -> bool:
        idle_s = self._settings["idle_s"]
        return idle_s is not None and time.monotonic() - self._idle_since > idle_s

    def _is_worn_out(self) -> bool:
        """Whether the worker has done enough. One that has done nothing yet is as good as a fresh one."""
        worker, settings = self._worker, self._settings
        return worker.jobs > 0 and (
            worker.jobs >= settings["max_jobs"]
            or worker.rss_mb > settings["max_rss_mb"]
            or time.monotonic() - worker.born > settings["max_age_s"]
        )

    def _patience_s(self) -> float:
        """How long to wait for messages before looking at the clock."""
        if self._attempt is not None:
            return LOOK_INTERVAL_S
        return IDLE_TICK_S if self._settings["idle_s"] is None else min(IDLE_TICK_S, self._settings["idle_s"])

    def _on_server(self) -> None:
        assert self._server is not None
        try:
            data = self._server.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._selector.unregister(self._server)
            self._server = None
            return
        *lines, self._heard = (self._heard + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            attempt = JobDir(Path(order["run"])).attempt(order["attempt"])
            if self._attempt is None:
                self._accept(attempt)
            else:
                self._next = attempt

    def _accept(self, attempt: Attempt) -> None:
        launch = attempt.launch()
        if not launch or not attempt.record_process(self._identity) or not attempt.is_current(launch["token"]):
            self._tell(ended=attempt)
            return
        self._attempt = attempt
        self._cpus = launch["resources"]["cpus"]
        self._limits = Limits(attempt, launch["resources"], has_worker=False)
        if self._worker.is_ready:
            self._begin(attempt, self._limits)

    def _begin(self, attempt: Attempt, watch: Limits) -> None:
        watch.begin_work(self._worker.rss_mb)
        # A worker that died while it was idle is noticed by its closed channel, with the job still to be recorded.
        with contextlib.suppress(OSError):
            self._worker.run(attempt, self._cpus)

    def _on_worker(self) -> None:
        messages = self._worker.receive()
        if messages is None:
            self._on_death()
            return
        for message in messages:
            cpu_s = message["cpu_s"] - self._worker.cpu_s
            self._worker.rss_mb, self._worker.cpu_s = message["rss_mb"], message["cpu_s"]
            if "done" in message:
                self._worker.jobs += 1
                self._finish(message["done"], None, cpu_s)
            else:
                self._worker.is_ready, self._failed_starts = True, 0
                if self._attempt is not None and self._limits is not None:
                    self._begin(self._attempt, self._limits)
                else:
                    self._tell()

    def _on_death(self) -> None:
        """The worker is gone, by itself or by somebody's signal."""
        was_ready = self._worker.is_ready
        if not was_ready:
            self._failed_starts += 1
        self._selector.unregister(self._worker.channel)
        # The channel closes a moment before the process is gone; killed now, it would seem to be our doing.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._worker.process.wait(GRACE_S)
        code = self._worker.end()
        if self._failed_starts >= MOST_FAILED_STARTS:
            if self._attempt is not None:
                self._record(None, limits.launch_failed("warm workers end while they start; see warm.log"), 0.0)
            sys.exit(1)
        self._worker = self._start_worker()
        if self._attempt is not None and was_ready:
            self._finish(code, None, 0.0)
        else:
            self._tell()

    def _look_at_limits(self) -> None:
        assert self._attempt is not None and self._limits is not None
        ending = self._limits.must_end()
        if ending is None and self._attempt.exit() is not None:
            # Somebody took it for dead and closed it; its successor may be waiting for this very slot.
            ending = limits.given_up()
        if ending is None:
            return
        if ending.reason in ("cancelled_by_user", "timeout") and self._worker.is_ready:
            with contextlib.suppress(ProcessLookupError):
                self._worker.process.send_signal(signal.SIGTERM)
            self._wait_for_answer()
        cpu_s = _cpu_s(self._worker.process.pid) - self._worker.cpu_s
        code = self._renew_worker()
        self._finish(code, ending, cpu_s)

    def _wait_for_answer(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._worker.channel, selectors.EVENT_READ)
            selector.select(GRACE_S)

    def _finish(self, code: int, ending: Ending | None, cpu_s: float) -> None:
        """Clear up behind the job, write exit.json and tell the server."""
        assert self._attempt is not None and self._limits is not None
        attempt = self._attempt
        if ending is None and self._limits.was_killed_for_memory(code):
            ending = limits.out_of_memory(self._limits.peak_mb / 1e3, None)
        if self._worker.has_strays():
            self._renew_worker()
        self._record(code, ending, cpu_s)
        self._idle_since = time.monotonic()
        self._tell(ended=attempt)
        if self._is_worn_out():
            self._renew_worker()
            self._tell()
        if self._next is not None:
            attempt, self._next = self._next, None
            self._accept(attempt)

    def _record(self, code: int | None, ending: Ending | None, cpu_s: float) -> None:
        """Write exit.json. When that fails, the slot must go: the attempt would count as running while it lives."""
        assert self._attempt is not None and self._limits is not None
        watch, self._last = self._limits, self._attempt
        peak_mb = max(watch.peak_mb, self._worker.rss_mb)
        limits.record(self._attempt, watch.began, code=code, ending=ending, cpu_s=cpu_s, peak_mb=peak_mb)
        self._attempt = self._limits = None

    def _tell(self, *, ended: Attempt | None = None) -> None:
        name = str(ended.path) if ended is not None else None
        message = {"ready": self._worker.is_ready, "ended": name, "rss_mb": self._worker.rss_mb}
        if self._server is not None:
            with contextlib.suppress(OSError):
                self._server.sendall(json.dumps(message).encode() + b"\n")


def _children_of(pid: int) -> list[int]:
    """The children of all threads of a process, as Linux says by itself. OSError: it does not, or all is gone."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_bytes().split()]


def _surroundings() -> dict[str, str]:
    """No GPU; as many threads for kernels as a job may ever want, and one for libraries that cannot be told later."""
    libraries = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    threads = str(os.cpu_count() or 1)
    return {"CUDA_VISIBLE_DEVICES": "", "NUMBA_NUM_THREADS": threads, **dict.fromkeys(libraries, "1")}


def _cpu_s(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return times.user + times.system
    return 0.0


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limits.adopt_orphans()
    # Jobs may take all the cores there are, but not from the server that answers beside them.
    os.nice(NICENESS)
    Slot(socket.socket(fileno=int(arguments[0])), json.loads(arguments[1])).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
