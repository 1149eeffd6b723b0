"""The pending messages in memory: which are due, which are on the way, and which job each is about.

One queue for each destination, because a slow one may have thousands of messages that are due and cannot go yet.
"""

from __future__ import annotations

import heapq
import threading
from collections import Counter, defaultdict
from typing import NamedTuple

from gnomon.server.webhooks.deliveries import job_of

PER_DESTINATION = 2
"""Messages on the way to one host at a time: a slow receiver cannot take all the places."""


class Due(NamedTuple):
    """When a message is to be sent, and to which host."""

    next_at: float
    message: str
    destination: str


class Waiting:
    """Safe from any thread."""

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._lock = threading.Lock()
        self._due: dict[str, Due] = {}
        # Entries that are no longer what `_due` says are left behind and skipped when they come up.
        self._queues: defaultdict[str, list[Due]] = defaultdict(list)
        self._on_the_way: dict[str, str] = {}
        self._of_job: Counter[str] = Counter()
        self._served: Counter[str] = Counter()
        """The turn in which each host last got a message."""
        self._turn = 0

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
            self._enqueue(Due(next_at, message, destination))

    def postpone(self, message: str, next_at: float) -> None:
        with self._lock:
            if message in self._due:
                self._enqueue(self._due[message]._replace(next_at=next_at))

    def drop(self, message: str) -> None:
        """The message is pending no more."""
        with self._lock:
            if self._due.pop(message, None) is not None:
                job_id = job_of(message)
                self._of_job[job_id] -= 1
                if not self._of_job[job_id]:
                    del self._of_job[job_id]

    def take(self, now: float) -> list[str]:
        """The messages to send now; `arrived` gives their places back.

        Hosts come in turn, those first that have fewest messages on the way and were longest without one, so that
        the backlog of some that are slow does not keep a message from one that is quick.
        """
        with self._lock:
            self._forget_empty_queues()
            busy = Counter(self._on_the_way.values())
            taken: list[str] = []
            turns = [(busy[host], self._served[host], queue[0]) for host, queue in self._queues.items()]
            turns = [turn for turn in turns if turn[0] < PER_DESTINATION and turn[2].next_at <= now]
            heapq.heapify(turns)
            while turns and len(self._on_the_way) < self.concurrency:
                on_the_way, _, due = heapq.heappop(turns)
                host = due.destination
                self._on_the_way[due.message] = host
                self._turn += 1
                self._served[host] = self._turn
                taken.append(due.message)
                following = self._first(self._queues[host])
                if following and following.next_at <= now and on_the_way + 1 < PER_DESTINATION:
                    heapq.heappush(turns, (on_the_way + 1, self._turn, following))
        return taken

    def arrived(self, message: str) -> None:
        """The message is no longer on the way, however it went."""
        with self._lock:
            self._on_the_way.pop(message, None)
            if message in self._due:
                self._enqueue(self._due[message])

    def next_in_s(self, now: float, at_most_s: float) -> float:
        """Until the next message becomes due. What is due already waits for a place, not for time."""
        with self._lock:
            firsts = [self._first(queue) for queue in self._queues.values()]
            return min([at_most_s, *(due.next_at - now for due in firsts if due is not None and due.next_at > now)])

    def _forget_empty_queues(self) -> None:
        for host in [host for host, queue in self._queues.items() if self._first(queue) is None]:
            del self._queues[host]
            del self._served[host]

    def _enqueue(self, due: Due) -> None:
        self._due[due.message] = due
        heapq.heappush(self._queues[due.destination], due)

    def _first(self, queue: list[Due]) -> Due | None:
        """The first message of a queue that may go; entries that mean nothing any more are thrown away."""
        while queue and (self._due.get(queue[0].message) != queue[0] or queue[0].message in self._on_the_way):
            heapq.heappop(queue)
        return queue[0] if queue else None
