"""Puts down the messages that a job's state calls for, each exactly once."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from gnomon import atomic
from gnomon.server.webhooks.deliveries import Deliveries, Delivery
from gnomon.server.webhooks.endpoints import Endpoints
from gnomon.server.webhooks.message import DEFAULT_EVENTS, Event, events_of, message_id, payload_of, time_of
from gnomon.status import Status

log = logging.getLogger(__name__)

FOR_JOB = "job"
"""Stands for the job's own URL in a message's id, where a registered receiver has its id."""

MAX_POSTPONED = 10_000

Announced = tuple[Status, Mapping[str, Any], Mapping[str, Any]]


class Announcer:
    """Makes messages and hands each new one to `made`."""

    def __init__(
        self,
        endpoints: Endpoints,
        deliveries: Deliveries,
        clock: Callable[[], float],
        made: Callable[[Delivery], None],
    ) -> None:
        self._endpoints = endpoints
        self._deliveries = deliveries
        self._clock = clock
        self._made = made
        self._postponed: deque[Announced] = deque(maxlen=MAX_POSTPONED)

    def announce(self, status: Status, row: Mapping[str, Any], submission: Mapping[str, Any]) -> None:
        """Never raises: what cannot be written now is kept for `catch_up`."""
        try:
            self._announce(status, row, submission)
        except Exception as error:
            # A full disk or a damaged file of receivers may be mended while the server runs.
            log.error("job %s: its webhooks could not be put down, which is tried again: %s", status.id, error)
            self._postponed.append((status, row, submission))

    def catch_up(self) -> None:
        """Try again what could not be put down."""
        for _ in range(len(self._postponed)):
            self.announce(*self._postponed.popleft())

    def _announce(self, status: Status, row: Mapping[str, Any], submission: Mapping[str, Any]) -> None:
        for event in events_of(status):
            for receiver, url in self._receivers(event, time_of(event, status, row), submission):
                message = message_id(status.id, status.attempt, event, receiver or FOR_JOB)
                if self._deliveries.exists(message):
                    continue
                now = self._clock()
                delivery = Delivery(
                    id=message,
                    event=event,
                    job=status.id,
                    owner=submission.get("owner"),
                    endpoint=receiver,
                    url=url,
                    body=atomic.canonical_json(payload_of(status, row, event)).decode(),
                    created_at=now,
                    next_at=now,
                )
                if self._deliveries.create(delivery):
                    self._made(delivery)

    def _receivers(self, event: Event, at: float, submission: Mapping[str, Any]) -> list[tuple[str | None, str]]:
        """Whom to tell, by the id of a registered receiver or None, and where."""
        found: list[tuple[str | None, str]] = []
        if submission.get("webhook_url") and event in DEFAULT_EVENTS:
            found.append((None, submission["webhook_url"]))
        for endpoint in self._endpoints.all():
            # What happened before somebody registered is not for them.
            if event in endpoint.events and endpoint.disabled_because is None and at >= endpoint.created_at:
                found.append((endpoint.id, endpoint.url))
        return found
