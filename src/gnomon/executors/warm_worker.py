"""A worker that stays: it imports and compiles once, then runs the jobs that its slot names, one after the other.

    python -m gnomon.executors.warm_worker SOCKET LIFELINE [TASK...]

What a job could leave behind for the next one is put back: output streams, signal handlers, environment, folder,
threads, garbage. What cannot be put back (memory, stray processes) is the slot's business, which replaces the worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from gnomon import worker
from gnomon.errors import Cancelled
from gnomon.job import Attempt, JobDir
from gnomon.tasks import get_task

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    channel = socket.socket(fileno=int(arguments[0]))
    worker.watch_lifeline(int(arguments[1]))
    _import_what_all_need()
    for task in arguments[2:]:
        _warm_up(task)
    gc.collect()
    # What is there now stays for good; the collection after each job need not walk through it.
    gc.freeze()
    _say(channel, {"ready": True})
    with channel.makefile("rb") as orders:
        for order in orders:
            _say(channel, _run(json.loads(order)))
            gc.collect()
    return 0


def _import_what_all_need() -> None:
    import numpy  # noqa: F401

    from gnomon import inputs  # noqa: F401

    with contextlib.suppress(ImportError):
        import numba  # noqa: F401


def _warm_up(name: str) -> None:
    """Import a task and compile its default method. A task that cannot be warmed says why in its first job."""
    try:
        task = get_task(name)
        task.spec()
        task.runner()
        method = task.methods()[0]
        if method.warm_up is not None:
            method.warm_up()
    except Exception:
        log.exception("task %s could not be warmed up", name)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    attempt = JobDir(Path(order["job"])).attempt(order["attempt"])
    with _surroundings_of(attempt):
        try:
            code = worker.run_job(attempt.job, attempt.number, worker.StopSignal(), _limit_threads)
        except Cancelled as error:
            # The request to stop came in the few instructions before or after the job proper.
            log.info("%s", error)
            code = error.exit_code
    return {"done": code}


@contextlib.contextmanager
def _surroundings_of(attempt: Attempt) -> Iterator[None]:
    """Print to the attempt's log and work in its folder; afterwards, all is as it was."""
    environment, folder = dict(os.environb), Path.cwd()
    kept = [os.dup(1), os.dup(2)]
    target = os.open(attempt.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(target, 1)
    os.dup2(target, 2)
    os.close(target)
    os.chdir(attempt.path)
    try:
        yield
    finally:
        _flush()
        for descriptor, copy in enumerate(kept, start=1):
            os.dup2(copy, descriptor)
            os.close(copy)
        os.chdir(folder)
        if dict(os.environb) != environment:
            os.environb.clear()
            os.environb.update(environment)


def _flush() -> None:
    """Write what Python and C libraries still hold back, while it goes to the right file."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).fflush(None)


def _limit_threads(cpus: int) -> None:
    """The kernels' threads follow the job; the variables do too, for processes that the job starts."""
    for variable in worker.THREAD_VARIABLES:
        # numba reads its own variable again with every compilation, and then insists that it has not changed.
        if variable != "NUMBA_NUM_THREADS":
            os.environ[variable] = str(cpus)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.set_num_threads(min(cpus, numba.config.NUMBA_NUM_THREADS))
    cv2 = sys.modules.get("cv2")
    if cv2 is not None:
        cv2.setNumThreads(cpus)


def _say(channel: socket.socket, message: dict[str, Any]) -> None:
    """Tell the slot; with every word, how much memory and processor time this worker has used so far."""
    rss_mb = round(psutil.Process().memory_info().rss / 1e6, 1)
    cpu_s = round(sum(os.times()[:4]), 3)
    channel.sendall(json.dumps({**message, "rss_mb": rss_mb, "cpu_s": cpu_s}).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
