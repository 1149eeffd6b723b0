"""How many jobs may wait: counting them cheaply, and the refusal when there are too many."""

from __future__ import annotations

import threading
import time

from gnomon.errors import LimitError
from gnomon.index import Index

COUNT_INTERVAL_S = 0.25


class QueueFull(LimitError):
    """More jobs wait than the server lets wait; the client should come back later."""

    def __init__(self, message: str, *, limit: int) -> None:
        super().__init__(
            message, code="queue_full", expected=f"at most {limit} waiting jobs", fix="try again when jobs have ended"
        )
        self.retry_after_s = 10.0


class QueueLengths:
    """How many jobs wait, counted in the index now and then and by hand in between."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._lock = threading.Lock()
        self._lengths: dict[str, int] = {}
        self._counted_at = -COUNT_INTERVAL_S

    def lengths(self, owner: str) -> tuple[int, int]:
        """Jobs that wait in all and of this owner, at most; one is counted in for the caller who asks."""
        with self._lock:
            if time.monotonic() - self._counted_at > COUNT_INTERVAL_S:
                self._lengths = self._index.queue_lengths()
                self._counted_at = time.monotonic()
            found = sum(self._lengths.values()), self._lengths.get(owner, 0)
            self._lengths[owner] = found[1] + 1
            return found
