"""The worker: turns job directories into results.

    python -m gnomon.worker DIR... [--attempt N]

It needs no display, no network (unless an input is a URL) and no clock but a heartbeat. What it does for a job:
check the seal, stage inputs, run the task, write result.json, publish by one rename. Everything it has to say goes
to events.jsonl; everything that libraries print goes to log.txt, where the launcher sends its output.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from gnomon import __version__, atomic, request
from gnomon.context import Context, Outcome
from gnomon.errors import Cancelled, GnomonError, InputError, LimitError, MethodError, MissingError
from gnomon.events import EventLog
from gnomon.inputs import disk_error, sha256_of, stage
from gnomon.job import Attempt, JobDir, Reason
from gnomon.paths import cache_dir
from gnomon.tasks import get_task

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
RESULT_VERSION = 1

# The worker is always the same program; only its surroundings can change a result, so they are written down.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gnomon.worker", description="Run jobs from their directories.")
    parser.add_argument("jobs", nargs="+", type=Path, help="job directories")
    parser.add_argument("--attempt", type=int, help="the attempt to run; without it the newest")
    parser.add_argument("--lifeline", type=int, help="a pipe that closes when the launcher is gone")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.lifeline is not None:
        watch_lifeline(options.lifeline)
    stop = StopSignal()
    codes = [run_job(JobDir(path.absolute()), options.attempt, stop) for path in options.jobs]
    return max(codes)


class StopSignal:
    """SIGTERM and SIGINT become a Cancelled error in the main thread, between two instructions of the task."""

    def __init__(self) -> None:
        self.requested = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        first, self.requested = not self.requested, True
        if first:
            self.check()

    def check(self) -> None:
        if self.requested:
            raise Cancelled("the job was asked to stop")


def run_job(
    job: JobDir, number: int | None, stop: StopSignal, limit_threads: Callable[[int], None] | None = None
) -> int:
    """Run one attempt of one job and return its exit code. `limit_threads` is given the job's number of cores."""
    attempt = job.attempt(number) if number is not None else job.newest_attempt()
    launch = attempt.launch() if attempt is not None else None
    if attempt is None or not launch:
        log.error("%s has no launched attempt", job.path)
        return InputError.exit_code
    token = str(launch["token"])
    if not attempt.is_current(token):
        log.error("attempt %s of %s is not the current one any more", attempt.number, job.id)
        return 1
    if not attempt.out.is_dir():
        # The launcher made it; that it is gone means a successor has taken it over since.
        log.error("attempt %s of %s was taken over", attempt.number, job.id)
        return 1
    if attempt.number > 1:
        # Its predecessor may have been killed while it wrote a file.
        atomic.sweep(attempt.out)
    events = EventLog(attempt.events)
    try:
        with _heartbeat.of(events):
            outcome = _run(job, attempt, events, stop, limit_threads or _limit_threads)
            return _publish(attempt, token, events, outcome)
    except BaseException as error:
        failure, reason = classify(error, attempt.out)
        if not isinstance(failure, Cancelled | InputError):
            traceback.print_exc()
        _try_to_record(events, failure, reason)
        return failure.exit_code
    finally:
        events.close()


def _run(
    job: JobDir, attempt: Attempt, events: EventLog, stop: StopSignal, limit_threads: Callable[[int], None]
) -> Outcome:
    started = datetime.now(UTC)
    events.write("state", state="staging")
    sealed = request.read(job)
    limit_threads(sealed.resources.cpus)
    atomic.write_json(attempt.environment, _environment(), synced=False)
    task = get_task(sealed.task)
    spec_type = task.spec()
    task.method(sealed.method).require(cache_dir())

    def staging_progress(done: int, total: int) -> None:
        events.progress("staging", done, total, "file")

    inputs = stage(sealed, spec_type, job, progress=staging_progress, cancelled=stop.check)
    spec = spec_type.parse(**sealed.params)
    events.write("state", state="running")
    context = Context(
        attempt,
        events,
        inputs,
        cpus=sealed.resources.cpus,
        seed=sealed.seed,
        cache=cache_dir(),
        check_cancelled=stop.check,
    )
    outcome: Outcome = task.runner().run(spec, context)
    stop.check()
    _write_result(attempt, sealed, started, outcome, [file.model_dump(exclude_none=True) for file in inputs])
    return outcome


def _write_result(
    attempt: Attempt,
    sealed: request.Request,
    started: datetime,
    outcome: Outcome,
    inputs: list[dict[str, Any]],
) -> None:
    ended = datetime.now(UTC)
    files = sorted(
        path
        for path in attempt.out.rglob("*")
        if path.is_file() and ".steps" not in path.relative_to(attempt.out).parts
    )
    atomic.write_json(
        attempt.out / "result.json",
        {
            "schema_version": RESULT_VERSION,
            "job": sealed.id,
            "task": sealed.task,
            "method": sealed.method,
            "status": "partial" if outcome.partial else "complete",
            "attempt": attempt.number,
            "result": outcome.result,
            "warnings": outcome.warnings,
            "inputs": inputs,
            "outputs": [
                {
                    "name": path.relative_to(attempt.out).as_posix(),
                    "size": path.stat().st_size,
                    "sha256": sha256_of(path),
                }
                for path in files
                if path.name != "result.json"
            ],
            "started_at": started.isoformat(timespec="milliseconds"),
            "ended_at": ended.isoformat(timespec="milliseconds"),
            "seconds": round((ended - started).total_seconds(), 3),
            "seed": sealed.seed,
            "gnomon_version": __version__,
        },
    )


def _publish(attempt: Attempt, token: str, events: EventLog, outcome: Outcome) -> int:
    events.write("state", state="publishing")
    if not attempt.publish(token):
        raise Cancelled("another attempt took over; this one's results were not published", code="fenced")
    events.write("published")
    from gnomon.errors import EXIT_PARTIAL

    return EXIT_PARTIAL if outcome.partial else 0


def classify(error: BaseException, out: Path) -> tuple[GnomonError, Reason]:
    """Give any exception its place in the error tree, and the job the reason that follows from it."""
    if isinstance(error, OSError):
        error = disk_error(error, out)
    if isinstance(error, MemoryError):
        error = LimitError("the worker ran out of memory", code="out_of_memory", fix="give the job more --mem-gb")
    if isinstance(error, KeyboardInterrupt):
        error = Cancelled("interrupted")
    if not isinstance(error, GnomonError):
        error = GnomonError(
            f"{type(error).__name__}: {error}",
            fix="this is a mistake in gnomon; the traceback is in the job's log (gnomon logs)",
        )
    return error, _reason_of(error)


def _reason_of(error: GnomonError) -> Reason:
    if error.code in ("out_of_memory", "disk_full"):
        return Reason(error.code)
    reasons = {
        InputError: Reason.BAD_INPUT,
        MissingError: Reason.NOT_INSTALLED,
        MethodError: Reason.METHOD_FAILED,
        LimitError: Reason.TIMEOUT,
        Cancelled: Reason.CANCELLED_BY_USER,
    }
    return next((reason for kind, reason in reasons.items() if isinstance(error, kind)), Reason.INTERNAL)


def _try_to_record(events: EventLog, failure: GnomonError, reason: Reason) -> None:
    try:
        record = {**failure.to_dict(), "exit_code": failure.exit_code}
        events.write("failed", reason=reason.value, error=record)
    except OSError:
        # On a full disk the launcher's exit.json is what is left to say it; the exit code carries the class.
        log.exception("could not write the last event")


class Heartbeat:
    """A line in events.jsonl every few seconds for as long as the worker lives.

    One thread serves all jobs of a process, because starting one takes longer than many a small job.
    """

    def __init__(self) -> None:
        self._events: EventLog | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def of(self, events: EventLog) -> Iterator[None]:
        """Write heartbeats into `events` for the block."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
            self._thread.start()
        with self._lock:
            self._events = events
        try:
            yield
        finally:
            with self._lock:
                self._events = None

    def _beat(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            time.sleep(HEARTBEAT_S)
            # Under the lock, so that no line goes into a file that was closed in between.
            with self._lock:
                if self._events is None:
                    continue
                try:
                    self._events.write("heartbeat", rss_mb=round(process.memory_info().rss / 1e6))
                except OSError:
                    log.exception("no heartbeat could be written")


_heartbeat = Heartbeat()


def watch_lifeline(descriptor: int) -> None:
    """End this whole process group at once when the launcher's end of the pipe closes.

    A worker without its launcher has no time limit, no memory limit and no one to cancel it.
    """

    def wait() -> None:
        os.read(descriptor, 1)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _limit_threads(cpus: int) -> None:
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, str(cpus))


def _environment() -> dict[str, Any]:
    import numpy

    return {
        "gnomon": __version__,
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "pid": os.getpid(),
        "threads": {variable: os.environ.get(variable) for variable in THREAD_VARIABLES},
    }


if __name__ == "__main__":
    sys.exit(main())
