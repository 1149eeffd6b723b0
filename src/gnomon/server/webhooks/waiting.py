"""The pending messages in memory: which are due, which are on the way, and which job each is about."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from gnomon.server.webhooks.deliveries import job_of

PER_DESTINATION = 2
"""Messages on the way to one host at a time: a slow receiver cannot take all the places."""


@dataclass
class Due:
    """A pending message, as far as it must be known to choose what to send next."""

    next_at: float
    destination: str


class Waiting:
    """Safe from any thread."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._lock = threading.Lock()
        self._due: dict[str, Due] = {}
        self._on_the_way: dict[str, str] = {}
        self._of_job: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._due)

    def holds(self, job_id: str) -> bool:
        """Whether a message about the job waits or is on the way."""
        return self._of_job[job_id] > 0

    def known(self) -> set[str]:
        with self._lock:
            return {*self._due, *self._on_the_way}

    def put(self, message: str, next_at: float, destination: str) -> None:
        """Add a message, or change when it is due."""
        with self._lock:
            if message not in self._due:
                self._of_job[job_of(message)] += 1
            self._due[message] = Due(next_at, destination)

    def drop(self, message: str) -> None:
        """The message is pending no more."""
        with self._lock:
            if self._due.pop(message, None) is not None:
                job_id = job_of(message)
                self._of_job[job_id] -= 1
                if not self._of_job[job_id]:
                    del self._of_job[job_id]

    def postpone(self, message: str, next_at: float) -> None:
        with self._lock:
            if message in self._due:
                self._due[message].next_at = next_at

    def take(self, now: float) -> list[str]:
        """The messages to send now, those first that have waited longest; `arrived` gives their places back."""
        with self._lock:
            busy = Counter(self._on_the_way.values())
            taken = []
            for _, message in sorted(
                (due.next_at, message) for message, due in self._due.items() if due.next_at <= now
            ):
                if len(self._on_the_way) >= self.concurrency:
                    break
                destination = self._due[message].destination
                if message not in self._on_the_way and busy[destination] < PER_DESTINATION:
                    busy[destination] += 1
                    self._on_the_way[message] = destination
                    taken.append(message)
        return taken

    def arrived(self, message: str) -> None:
        """The message is no longer on the way, however it went."""
        with self._lock:
            self._on_the_way.pop(message, None)

    def next_in_s(self, now: float, at_most_s: float) -> float:
        """Until the next message becomes due. What is due already waits for a place, not for time."""
        with self._lock:
            return min([at_most_s, *(due.next_at - now for due in self._due.values() if due.next_at > now)])
