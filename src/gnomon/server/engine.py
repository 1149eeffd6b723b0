"""The thread that runs the reconciler for as long as the server lives, and tells who wants to know what changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator

from gnomon.reconcile import Reconciler
from gnomon.status import Status

log = logging.getLogger(__name__)

BUSY_INTERVAL_S = 0.25
"""Between passes while jobs run, in case nobody wakes the engine: work of other processes is noticed by then."""

IDLE_INTERVAL_S = 1.0

Listener = Callable[[Status], None]


class Engine:
    """Passes of the reconciler, at once when woken and now and then by itself."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.listeners: list[Listener] = []
        self.last_pass_ok = True
        self._woken = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive() and self.last_pass_ok

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10.0)

    def wake(self) -> None:
        """Ask for a pass now. Safe from any thread."""
        self._woken.set()

    @contextlib.contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """For the block, an asyncio.Event that is set whenever the job's state changes."""
        changed = asyncio.Event()
        self._waiting[job_id].add(changed)
        try:
            yield changed
        finally:
            self._waiting[job_id].discard(changed)
            if not self._waiting[job_id]:
                del self._waiting[job_id]

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._woken.clear()
            interval = self._pass()
            self._woken.wait(interval)

    def _pass(self) -> float:
        try:
            seen = self.reconciler.run_pass()
        except Exception:
            # A full disk or a locked database passes; the next pass starts from the folders again.
            log.exception("a pass of the reconciler failed; it is tried again")
            self.last_pass_ok = False
            return BUSY_INTERVAL_S
        self.last_pass_ok = True
        for status in seen.changed:
            self._tell(status)
        return BUSY_INTERVAL_S if seen.unfinished else IDLE_INTERVAL_S

    def _tell(self, status: Status) -> None:
        for listener in self.listeners:
            try:
                listener(status)
            except Exception:
                log.exception("job %s: a listener failed", status.id)
        if self._loop is not None and status.id in self._waiting:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._set, status.id)

    def _set(self, job_id: str) -> None:
        for changed in self._waiting.get(job_id, ()):
            changed.set()
