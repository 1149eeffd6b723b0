"""What the server says about a job: the models of its answers, made from the job's folder."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from gnomon.job import JobDir, Reason, State
from gnomon.request import InputFile, Request, Resources
from gnomon.status import Progress, Status


class JobView(BaseModel):
    """A job. Times are Unix seconds."""

    id: str
    task: str
    method: str
    site: str
    label: str | None = None
    owner: str = Field("local", description="the token that submitted it, or local")
    state: State
    reason: Reason | None = None
    error: dict[str, Any] | None = None
    progress: Progress | None = None
    attempt: int = 0
    max_attempts: int = 1
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None
    queue_s: float | None = Field(None, description="seconds from submission to the start of the newest attempt")
    run_s: float | None = Field(None, description="seconds from the start of the newest attempt to its end, or to now")
    cpu_s: float | None = None
    max_rss_mb: float | None = None
    cost: float | None = Field(None, description="seconds of all attempts times the site's price, if it states one")
    currency: str | None = None


class JobDetail(JobView):
    """A job with what was asked for, and its result once there is one."""

    params: dict[str, Any]
    inputs: tuple[InputFile, ...]
    resources: Resources
    seed: int
    result: dict[str, Any] | None = Field(None, description="the task's own summary, from result.json")
    warnings: list[str] = []
    outputs: int | None = Field(None, description="number of result files")


class JobPage(BaseModel):
    """Jobs, newest first; `next` is the `before` of the page that follows."""

    jobs: list[JobView]
    next: str | None = None


def view_of(request: Request, status: Status, owner: str, now: float) -> dict[str, Any]:
    """The fields of JobView."""
    created_at = datetime.fromisoformat(request.created_at).timestamp()
    run_s = None if status.started_at is None else (status.ended_at or now) - status.started_at
    return {
        "id": request.id,
        "task": request.task,
        "method": request.method,
        "site": request.site,
        "label": request.label,
        "owner": owner,
        "state": status.state,
        "reason": status.reason,
        "error": status.error,
        "progress": status.progress,
        "attempt": status.attempt,
        "max_attempts": request.max_attempts,
        "created_at": created_at,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "queue_s": None if status.started_at is None else round(max(0.0, status.started_at - created_at), 3),
        "run_s": None if run_s is None else round(max(0.0, run_s), 3),
        "cpu_s": status.cpu_s,
        "max_rss_mb": status.max_rss_mb,
        "cost": status.cost,
        "currency": status.currency,
    }


def view_of_row(row: dict[str, Any], now: float) -> JobView:
    """A job as the index remembers it: enough for a list, without a look at its folder."""
    created_at = datetime.fromisoformat(row["created_at"]).timestamp()
    started_at, ended_at = row["started_at"], row["ended_at"]
    return JobView(
        **{key: row[key] for key in ("id", "task", "method", "site", "label", "owner", "state", "reason")},
        error={"code": row["error_code"]} if row["error_code"] else None,
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        cost=row["cost"],
        currency=row["currency"],
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        queue_s=None if started_at is None else round(max(0.0, started_at - created_at), 3),
        run_s=None if started_at is None else round(max(0.0, (ended_at or now) - started_at), 3),
    )


def detail_of(job: JobDir | None, request: Request, view: dict[str, Any]) -> JobDetail:
    """Everything about one job; without its folder, all but its result."""
    record = (job.read_result() if job is not None else None) or {}
    return JobDetail(
        **view,
        params=request.params,
        inputs=request.inputs,
        resources=request.resources,
        seed=request.seed,
        result=record.get("result"),
        warnings=record.get("warnings", []),
        outputs=len(record["outputs"]) if record else None,
    )
