"""What a message says: the events that a job's state stands for, their payload, and the id of the message."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from gnomon.status import Status

Event = Literal["job.started", "job.succeeded", "job.failed", "job.cancelled"]

EVENTS: tuple[Event, ...] = get_args(Event)

DEFAULT_EVENTS: tuple[Event, ...] = ("job.succeeded", "job.failed", "job.cancelled")
"""What is sent where nothing else was asked for: how the job ended."""

MAX_MESSAGE_CHARACTERS = 2000
"""A job's error message is cut here; the job's own record has all of it."""

_ROW_FIELDS = ("task", "method", "label", "created_at", "cost")


def events_of(status: Status) -> tuple[Event, ...]:
    """The events that have happened by now in the job's newest attempt, oldest first.

    A short job may go from queued to its end between two looks; that it started is then said as well.
    """
    happened: list[Event] = []
    if status.started_at is not None:
        happened.append("job.started")
    if status.state.is_final:
        ending: dict[str, Event] = {event.removeprefix("job."): event for event in DEFAULT_EVENTS}
        happened.append(ending[status.state.value])
    return tuple(happened)


def time_of(event: Event, status: Status, row: Mapping[str, Any]) -> float:
    """When the event happened, in Unix seconds. A job that was cancelled in the queue has no times of its own."""
    at = status.started_at if event == "job.started" else status.ended_at
    return at or row.get("updated_at") or time.time()


def payload_of(status: Status, row: Mapping[str, Any], event: Event | None = None) -> dict[str, Any]:
    """The message for a job: its type, when it happened, and the job as it was then.

    Args:
        row: The job's row of the index.
        event: Which of the job's events is meant; the newest one unless given.
    """
    event = event or events_of(status)[-1]
    has_ended = event != "job.started"
    data = {
        "id": status.id,
        "state": status.state.value if has_ended else "running",
        "reason": status.reason.value if has_ended and status.reason else None,
        "error": _shortened(status.error) if has_ended else None,
        "attempt": status.attempt,
        "started_at": iso(status.started_at),
        "ended_at": iso(status.ended_at) if has_ended else None,
    }
    known = {name: row[name] for name in _ROW_FIELDS if name in row}
    if not has_ended:
        # What it cost is known at the end.
        known.pop("cost", None)
    return {"type": event, "timestamp": iso(time_of(event, status, row)), "data": data | known}


def message_id(job_id: str, attempt: int, event: str, receiver: str) -> str:
    """The same text for the same message, whenever and however often it is made; it sorts by the job's time."""
    digest = hashlib.sha256("\n".join((job_id, str(attempt), event, receiver)).encode()).hexdigest()
    return f"msg_{job_id}_{digest[:20]}"


def _shortened(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if error is None or len(str(error.get("message", ""))) <= MAX_MESSAGE_CHARACTERS:
        return error
    return error | {"message": str(error["message"])[: MAX_MESSAGE_CHARACTERS - 1] + "…"}


def iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
