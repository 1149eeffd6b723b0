"""The index's table, the statements that every pass of the reconciler makes, and rows from records.

The statements are built once: to build one takes longer than to run it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from gnomon.job import State
from gnomon.request import Request
from gnomon.status import Status

ACTIVE = [state.value for state in State if state.is_active]
FINAL = [state.value for state in State if state.is_final]
LOCAL_OWNER = "local"
NO_LIMIT = 2**31 - 1
"""Who owns the jobs of the command line and of a server without tokens."""


metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("method", sa.String(32), nullable=False),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("owner", sa.String(64), nullable=False, default=LOCAL_OWNER),
    sa.Column("idempotency_key", sa.String(255), index=True),
    sa.Column("created_at", sa.String(40), nullable=False),
    sa.Column("submitted_s", sa.Float, nullable=False),
    sa.Column("cpus", sa.Integer, nullable=False),
    sa.Column("mem_gb", sa.Float, nullable=False),
    sa.Column("gpus", sa.Integer, nullable=False),
    sa.Column("gpu_ids", sa.JSON, nullable=False),
    sa.Column("max_attempts", sa.Integer, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.String(32)),
    sa.Column("error_code", sa.String(64)),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("started_at", sa.Float),
    sa.Column("ended_at", sa.Float),
    sa.Column("updated_at", sa.Float, nullable=False, index=True),
    sa.Column("cost", sa.Float),
    sa.Column("currency", sa.String(8)),
    # For the queue: everything that decides who is next can be read from this index alone.
    sa.Index("jobs_queue", "state", "site", "owner", "id", "cpus", "mem_gb", "gpus", "updated_at"),
)

STATUS_COLUMNS = (
    "state",
    "reason",
    "error_code",
    "attempt",
    "gpu_ids",
    "started_at",
    "ended_at",
    "updated_at",
    "cost",
    "currency",
)
SLOT_COLUMNS = (jobs.c.id, jobs.c.site, jobs.c.state, jobs.c.cpus, jobs.c.mem_gb, jobs.c.gpus, jobs.c.gpu_ids)
OBSERVED_COLUMNS = (*SLOT_COLUMNS, jobs.c.owner, jobs.c.attempt, jobs.c.max_attempts, jobs.c.updated_at)

_IS_QUEUED = jobs.c.state == State.QUEUED.value
_OBSERVED = sa.select(*OBSERVED_COLUMNS)

ACTIVE_JOBS = _OBSERVED.where(jobs.c.state.in_(ACTIVE)).order_by(jobs.c.id)
COUNT_QUEUED = sa.select(sa.func.count()).where(_IS_QUEUED)
ENDED_SINCE = sa.select(jobs.c.id, jobs.c.attempt, jobs.c.state).where(
    jobs.c.state.in_(FINAL), jobs.c.updated_at > sa.bindparam("since_s")
)
QUEUED_AFTER = (
    _OBSERVED.where(_IS_QUEUED, jobs.c.id > sa.bindparam("after")).order_by(jobs.c.id).limit(sa.bindparam("most"))
)
WAITING_OWNERS = (
    sa.select(jobs.c.owner)
    .where(_IS_QUEUED, jobs.c.site == sa.bindparam("of_site"))
    .group_by(jobs.c.owner)
    .order_by(sa.func.min(jobs.c.id))
)
NEXT_QUEUED = (
    _OBSERVED.where(
        _IS_QUEUED,
        jobs.c.site == sa.bindparam("of_site"),
        jobs.c.owner == sa.bindparam("of_owner"),
        jobs.c.gpus <= sa.bindparam("most_gpus"),
        sa.or_(
            sa.and_(
                jobs.c.cpus <= sa.bindparam("room_cpus"),
                jobs.c.mem_gb <= sa.bindparam("room_mem_gb"),
                jobs.c.gpus <= sa.bindparam("room_gpus"),
            ),
            jobs.c.updated_at < sa.bindparam("overdue_before"),
        ),
    )
    .order_by(jobs.c.id)
    .limit(1)
)
SLOT_OF = sa.select(*SLOT_COLUMNS).where(jobs.c.id == sa.bindparam("job_id"))
SLOTS_TAKEN = sa.select(*SLOT_COLUMNS).where(jobs.c.site == sa.bindparam("of_site"), jobs.c.state.in_(ACTIVE))
TAKE_SLOT = (
    jobs.update()
    .where(jobs.c.id == sa.bindparam("job_id"))
    .values(state=State.LAUNCHING.value, gpu_ids=sa.bindparam("gpus_given"), updated_at=sa.bindparam("now"))
)

INSERT = jobs.insert()
UPDATE_STATUS = (
    jobs.update()
    .where(jobs.c.id == sa.bindparam("job_id"))
    .values({name: sa.bindparam(name) for name in STATUS_COLUMNS})
)


def unix_seconds(timestamp: str) -> float:
    moment = datetime.fromisoformat(timestamp)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def job_columns(request: Request, submission: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": request.id,
        "task": request.task,
        "method": request.method,
        "site": request.site,
        "label": request.label,
        "owner": submission.get("owner") or LOCAL_OWNER,
        "idempotency_key": submission.get("idempotency_key"),
        "created_at": request.created_at,
        "submitted_s": unix_seconds(request.created_at),
        "cpus": request.resources.cpus,
        "mem_gb": request.resources.mem_gb,
        "gpus": request.resources.gpus,
        "max_attempts": request.max_attempts,
    }


def status_columns(status: Status) -> dict[str, Any]:
    return {
        "state": status.state.value,
        "reason": status.reason.value if status.reason else None,
        "error_code": (status.error or {}).get("code"),
        "attempt": status.attempt,
        "gpu_ids": list(status.gpu_ids),
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "updated_at": time.time(),
        "cost": status.cost,
        "currency": status.currency,
    }
