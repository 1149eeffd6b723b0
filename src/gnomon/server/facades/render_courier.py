"""The thread that sees every render order to its end: follows its log, delivers its templates, writes its ending.

It is level-triggered like the reconciler. What it is told only makes it look sooner, so an order whose job ended
while no server ran, or whose delivery was cut off by a kill, is completed by the next server's first look.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shlex
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from gnomon import atomic
from gnomon.api import Job, error_of
from gnomon.errors import ExecutorError, GnomonError
from gnomon.events import read_all
from gnomon.inputs import disk_error
from gnomon.job import Attempt, State
from gnomon.server.facades.render_log import JobLog
from gnomon.server.facades.render_orders import Ending, OrderBook, RenderOrder
from gnomon.server.facades.render_paths import Roots
from gnomon.server.facades.render_placing import place_templates
from gnomon.server.service import Service
from gnomon.status import Status

log = logging.getLogger(__name__)

FOLLOW_INTERVAL_S = 0.5
"""Between looks at the orders whose jobs run, for their logs."""

SWEEP_INTERVAL_S = 5.0
"""Between looks at all pending orders: another process may have noticed the end of a job."""

FORGET_INTERVAL_S = 3600.0

WAIT_SLICE_S = 1.0

NOT_STARTED = -1
KILLED = -9


class Courier:
    """All orders that have not ended, and those who wait for them."""

    def __init__(self, service: Service, book: OrderBook, roots: Roots, logs: Path) -> None:
        self.book = book
        self.logs = logs
        self._service = service
        self._roots = roots
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._pending: dict[str, RenderOrder] = {}
        self._logs: dict[str, JobLog] = {}
        self._running: set[str] = set()
        self._told: set[str] = set()
        self._waiting: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
        self._thread = threading.Thread(target=self._run, name="render-courier", daemon=True)

    def start(self) -> None:
        """Take up what an earlier server left, and look after everything from now on."""
        for order in self.book.pending():
            self._pending[order.id] = order
        self._service.engine.listeners.append(self._on_change)
        self._thread.start()

    def add(self, order: RenderOrder) -> None:
        """Look after an order whose job is submitted now."""
        with self._lock:
            self._pending[order.id] = order
            self._told.add(order.id)
        self._woken.set()

    def end_unstarted(self, order: RenderOrder, error: GnomonError) -> Ending:
        """Put down an order that never became a job."""
        now = time.time()
        ending = Ending(
            status="failed",
            started_at=order.created_at,
            ended_at=now,
            returncode=NOT_STARTED,
            error=failure_message(error, order.method),
            code=error.code,
        )
        self._finish(order, ending)
        return ending

    def log_path(self, order_id: str) -> Path:
        return self.logs / f"{order_id}.log"

    def job_of(self, order: RenderOrder) -> Job | None:
        home = self._service.home
        job_id = home.index.find_key(order.owner, order.id)
        return None if job_id is None else Job(home, home.store.job(job_id))

    async def wait(self, order_id: str, timeout_s: float) -> Ending | None:
        """The order's ending, or None when so many seconds are over or the server shuts down."""
        deadline = time.monotonic() + timeout_s
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting[order_id].add(entry)
        try:
            while True:
                ending = await self._service.in_thread(self.book.ending, order_id)
                left_s = deadline - time.monotonic()
                if ending is not None or left_s <= 0 or self._service.is_closing:
                    return ending
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(entry[1].wait(), min(left_s, WAIT_SLICE_S))
        finally:
            with self._lock:
                self._waiting[order_id].discard(entry)
                if not self._waiting[order_id]:
                    del self._waiting[order_id]

    def _on_change(self, status: Status) -> None:
        submission = self._service.home.store.job(status.id).submission()
        if submission.get("via") == "render" and submission.get("idempotency_key"):
            with self._lock:
                self._told.add(submission["idempotency_key"])
            self._woken.set()

    def _run(self) -> None:
        next_sweep = next_forgetting = 0.0
        while not self._service.is_closing:
            now = time.monotonic()
            try:
                self._look_at_all(everything=now >= next_sweep)
                if now >= next_forgetting:
                    self._forget()
                    next_forgetting = now + FORGET_INTERVAL_S
            except Exception:
                log.exception("a look at the render orders failed; it is tried again")
            if now >= next_sweep:
                next_sweep = now + SWEEP_INTERVAL_S
            self._woken.wait(FOLLOW_INTERVAL_S if self._running else SWEEP_INTERVAL_S)
            self._woken.clear()

    def _look_at_all(self, *, everything: bool) -> None:
        with self._lock:
            chosen = set(self._pending) if everything else self._told | self._running
            self._told = set()
            orders = [self._pending[order_id] for order_id in sorted(chosen) if order_id in self._pending]
        for order in orders:
            try:
                self._look(order)
            except Exception:
                log.exception("render order %s could not be looked at; it is tried again", order.id)

    def _look(self, order: RenderOrder) -> None:
        job = self.job_of(order)
        if job is None or not job.directory.request.exists():
            self.end_unstarted(order, _gone())
            return
        row = self._service.home.index.get(job.id)
        if row is not None and row["state"] == State.QUEUED and row["attempt"] <= 1 and order.id in self._logs:
            return
        status = job.status()
        self._log_of(order).follow(job.directory)
        if not status.state.is_final or job.is_owed_a_retry(status):
            if status.state.is_active:
                self._running.add(order.id)
            return
        self._finish(order, self._deliver(order, job, status))

    def _deliver(self, order: RenderOrder, job: Job, status: Status) -> Ending:
        facts: dict[str, Any] = {
            "job": job.id,
            "started_at": started_at(job, status),
            "returncode": returncode_of(job, status),
            **process_of(job),
        }
        if status.state is not State.SUCCEEDED:
            return _failed(error_of(status), order, facts)
        try:
            placed = place_templates(job.results, self._roots, order.output_dir, direct=order.direct, order_id=order.id)
        except GnomonError as error:
            return _failed(error, order, facts)
        except OSError as error:
            return _failed(_not_delivered(order, disk_error(error, job.results)), order, facts)
        return Ending(
            status="succeeded",
            ended_at=time.time(),
            rendered_count=placed.views,
            warnings=(*(job.directory.read_result() or {}).get("warnings", ()), *placed.warnings),
            **facts,
        )

    def _finish(self, order: RenderOrder, ending: Ending) -> None:
        try:
            self._log_of(order).end(ending)
        except OSError:
            # A log that cannot be written is no reason to keep the client waiting.
            log.exception("the log of render order %s could not be written", order.id)
        self.book.end(order.id, ending)
        log.info("render order %s: %s", order.id, ending.status)
        with self._lock:
            self._pending.pop(order.id, None)
            self._logs.pop(order.id, None)
            self._running.discard(order.id)
            waiting = list(self._waiting.get(order.id, ()))
        for loop, event in waiting:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    def _forget(self) -> None:
        """Records and logs go when the jobs of their age do."""
        settings, now = self._service.settings, time.time()
        days = {"succeeded": settings.keep_days, "failed": settings.keep_failed_days or settings.keep_days}
        limits = {status: now - kept * 86_400 for status, kept in days.items() if kept is not None}
        for order_id in self.book.forget(limits) if limits else ():
            self.log_path(order_id).unlink(missing_ok=True)

    def _log_of(self, order: RenderOrder) -> JobLog:
        if order.id not in self._logs:
            self._logs[order.id] = JobLog(self.logs, order)
        return self._logs[order.id]


def process_of(job: Job) -> dict[str, Any]:
    """The newest attempt's process id and command, so far as they are known."""
    attempt = job.directory.newest_attempt()
    if attempt is None:
        return {}
    command = (attempt.launch() or {}).get("command")
    facts: dict[str, Any] = {"cmd": shlex.join(command)} if command else {}
    pid = worker_pid(attempt)
    return facts if pid is None else facts | {"pid": pid}


def started_at(job: Job, status: Status) -> float | None:
    """When the newest attempt's worker began; the same to the millisecond before and after its end."""
    events = read_all(job.directory.attempt(status.attempt).events)
    return events[0]["t"] if events else status.started_at


def worker_pid(attempt: Attempt) -> int | None:
    """The worker's process id, by its own account."""
    return (atomic.read_json(attempt.environment) or {}).get("pid")


def returncode_of(job: Job, status: Status) -> int:
    """What the old server put into `returncode`: the process's own, -9 after the time limit, -1 if none started."""
    if status.state is State.SUCCEEDED:
        return 0
    attempt = job.directory.newest_attempt()
    outcome = (attempt.exit() if attempt is not None else None) or {}
    if status.reason == "timeout":
        return KILLED
    code = outcome.get("exit_code")
    return NOT_STARTED if code is None else code


def failure_message(error: GnomonError, method: str) -> str:
    """What went wrong, after the words that the old server's document promises for some causes."""
    cad = error.code.startswith("mesh_") or (error.field == "cad_path" and error.code.startswith("input_"))
    renderer = error.code in ("method_not_installed", "wrong_python", "not_installed", "launch_failed")
    promised = ""
    if cad:
        promised = "CAD file not found or invalid format: "
    elif error.code == "out_of_memory":
        promised = "Out of memory during rendering: "
    elif renderer and method == "blender":
        promised = "Failed to initialize BlenderProc: "
    fix = f"; {error.fix}" if error.fix else ""
    return f"{promised}{error.message}{fix}"


def _failed(error: GnomonError, order: RenderOrder, facts: dict[str, Any]) -> Ending:
    return Ending(
        status="failed",
        ended_at=time.time(),
        error=failure_message(error, order.method),
        code=error.code,
        **facts,
    )


def _not_delivered(order: RenderOrder, error: Exception) -> GnomonError:
    if isinstance(error, GnomonError):
        return error
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ExecutorError(
        f"the templates could not be put into {order.templates_dir}: {reason}",
        code="output_not_writable",
        field="output_dir",
        value=order.output_dir,
        fix="mend the folder and send the request again; what was rendered is kept and not done anew",
    )


def _gone() -> GnomonError:
    return ExecutorError(
        "the server was stopped before the job was queued, or the job was deleted",
        code="launch_failed",
        fix="send the request again",
    )
