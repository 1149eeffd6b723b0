"""The state of a job, derived from its folder. Nothing is remembered anywhere else that this could contradict."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from gnomon.events import read_all
from gnomon.job import Attempt, JobDir, Reason, State
from gnomon.request import Frozen


class Progress(Frozen):
    """The newest progress of the step at work."""

    step: str
    index: int = 0
    count: int = 0
    done: int = 0
    total: int = 0
    unit: str = ""


class Status(Frozen):
    """What can be said about a job now. Times are Unix seconds."""

    id: str
    state: State
    reason: Reason | None = None
    error: dict[str, Any] | None = None
    attempt: int = 0
    progress: Progress | None = None
    started_at: float | None = None
    ended_at: float | None = None
    last_event_at: float | None = None
    gpu_ids: tuple[int, ...] = ()
    """The GPUs an active attempt was given, by number."""
    cpu_s: float | None = None
    max_rss_mb: float | None = None
    cost: float | None = None
    """Seconds of all attempts times the price their site states, in `currency`; None where it states none."""
    currency: str | None = None


def derive(job: JobDir) -> Status:
    """Read the folder and say where the job stands."""
    attempt = job.newest_attempt()
    result = job.read_result()
    if result is not None:
        return _succeeded(job, result)
    number = attempt.number if attempt else 0
    if attempt is None or attempt.launch() is None:
        if job.cancel_marker.exists():
            return Status(id=job.id, state=State.CANCELLED, reason=Reason.CANCELLED_BY_USER, attempt=number)
        return Status(id=job.id, state=State.QUEUED, attempt=number)
    return _of_attempt(job, attempt)


def _succeeded(job: JobDir, result: dict[str, Any]) -> Status:
    attempt = job.attempt(result["attempt"])
    outcome = attempt.exit() or {}
    return Status(
        id=job.id,
        state=State.SUCCEEDED,
        reason=Reason.ITEMS_FAILED if result["status"] == "partial" else None,
        attempt=attempt.number,
        started_at=_seconds(result["started_at"]),
        ended_at=_seconds(result["ended_at"]),
        cpu_s=outcome.get("cpu_s"),
        max_rss_mb=outcome.get("max_rss_mb"),
        **_cost(job, attempt),
    )


def _of_attempt(job: JobDir, attempt: Attempt) -> Status:
    events = read_all(attempt.events)
    times: dict[str, Any] = {
        "attempt": attempt.number,
        "started_at": events[0]["t"] if events else None,
        "last_event_at": events[-1]["t"] if events else None,
    }
    outcome = attempt.exit()
    if outcome is not None:
        failure = next((event for event in reversed(events) if event["event"] == "failed"), outcome)
        # The launcher knows best when it was the one that ended the worker (time, memory, cancel).
        if outcome.get("reason"):
            failure = outcome
        reason = Reason(failure.get("reason") or Reason.WORKER_KILLED)
        return Status(
            id=job.id,
            state=State.CANCELLED if reason is Reason.CANCELLED_BY_USER else State.FAILED,
            reason=reason,
            error=failure.get("error"),
            ended_at=outcome.get("ended_at"),
            cpu_s=outcome.get("cpu_s"),
            max_rss_mb=outcome.get("max_rss_mb"),
            **times,
            **_cost(job, attempt),
        )
    states = [event["state"] for event in events if event["event"] == "state"]
    state = State(states[-1]) if states else State.LAUNCHING
    gpu_ids = (attempt.launch() or {}).get("gpu_ids", ())
    return Status(id=job.id, state=state, progress=_progress(events), gpu_ids=gpu_ids, **times)


def _cost(job: JobDir, newest: Attempt) -> dict[str, Any]:
    if (newest.launch() or {}).get("price_per_hour") is None:
        return {}
    amount, currency = 0.0, ""
    for attempt in job.attempts():
        launch, outcome = attempt.launch() or {}, attempt.exit() or {}
        seconds = outcome.get("wall_s")
        if seconds is None:
            # Its launcher vanished and could not measure; or the worker has published and is just ending.
            seconds = max(0.0, outcome.get("ended_at", time.time()) - launch.get("launched_at", time.time()))
        currency = launch.get("currency", currency)
        amount += launch.get("price_per_hour", 0.0) * seconds / 3600.0
    return {"cost": round(amount, 6), "currency": currency}


def _progress(events: list[dict[str, Any]]) -> Progress | None:
    step = next((event for event in reversed(events) if event["event"] == "step"), None)
    if step is None:
        return None
    fields = {"step": step["step"], "index": step["index"], "count": step["count"]}
    for event in reversed(events):
        if event["event"] == "progress" and event["step"] == step["step"]:
            return Progress(**fields, done=event["done"], total=event["total"], unit=event["unit"])
    return Progress(**fields)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()
