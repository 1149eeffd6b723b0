"""One transaction of the index in which a pass puts down what it saw and decides who may start."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from gnomon.executors import Capacity
from gnomon.index_table import (
    NEXT_QUEUED,
    NO_LIMIT,
    SLOT_OF,
    SLOTS_TAKEN,
    TAKE_SLOT,
    UPDATE_STATUS,
    WAITING_OWNERS,
    jobs,
    status_columns,
)
from gnomon.job import State
from gnomon.status import Status


class Decision:
    """What can be done within the transaction; made by `Index.deciding`, which commits at the end."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._running: dict[str, list[dict[str, Any]]] = {}
        self._is_locked = connection.dialect.name != "postgresql"

    def update(self, status: Status) -> None:
        """Put down where a job stands now."""
        self._running.clear()
        self._connection.execute(UPDATE_STATUS, {"job_id": status.id, **status_columns(status)})

    def remove(self, job_id: str) -> None:
        self._running.clear()
        self._connection.execute(jobs.delete().where(jobs.c.id == job_id))

    def waiting_owners(self, site: str) -> Sequence[str]:
        """Those who have jobs in the queue of a site; first who has the oldest."""
        return self._connection.execute(WAITING_OWNERS, {"of_site": site}).scalars().all()

    def next_queued(
        self, site: str, owner: str, room: Capacity, most: Capacity, overdue_before: float
    ) -> dict[str, Any] | None:
        """An owner's oldest queued job that fits into `room` or has waited since before `overdue_before`.

        Anything fits into a site where nothing runs, so that a job larger than the site runs alone; but a job for
        more GPUs than `most` has, all there is on the site, is never given.
        """
        is_empty = room == most
        parameters = {
            "of_site": site,
            "of_owner": owner,
            "most_gpus": most.gpus,
            "room_cpus": NO_LIMIT if is_empty else room.cpus,
            "room_mem_gb": float(NO_LIMIT) if is_empty else room.mem_gb,
            "room_gpus": room.gpus,
            "overdue_before": overdue_before,
        }
        row = self._connection.execute(NEXT_QUEUED, parameters).mappings().one_or_none()
        return None if row is None else dict(row)

    def take_slot(self, job_id: str, capacity: Capacity) -> list[int] | None:
        """Move a queued job to launching if the site has room for it beside what already runs there.

        Returns the numbers of the GPUs it may use, or None. Exactly one of several callers gets the slot. A job
        that alone wants more cores or memory than the site has runs alone.
        """
        self.lock()
        row = self._connection.execute(SLOT_OF, {"job_id": job_id}).mappings().one_or_none()
        if row is None or row["state"] != State.QUEUED:
            return None
        return self.take(dict(row), capacity)

    def take(self, row: dict[str, Any], capacity: Capacity) -> list[int] | None:
        """`take_slot` of a queued row that was read in this transaction."""
        self.lock()
        running = self._running_on(row["site"])
        gpu_ids = _room_for(row, running, capacity)
        if gpu_ids is not None:
            self._connection.execute(TAKE_SLOT, {"job_id": row["id"], "gpus_given": gpu_ids, "now": time.time()})
            running.append({**row, "gpu_ids": gpu_ids})
        return gpu_ids

    def _running_on(self, site: str) -> list[dict[str, Any]]:
        """What runs on a site: read once, nobody else changes it before this transaction ends."""
        if site not in self._running:
            rows = self._connection.execute(SLOTS_TAKEN, {"of_site": site}).mappings()
            self._running[site] = [dict(row) for row in rows]
        return self._running[site]

    def lock(self) -> None:
        """SQLite's transactions are serial by themselves; in PostgreSQL two could see the same free slot."""
        if not self._is_locked:
            self._connection.exec_driver_sql("LOCK TABLE jobs IN EXCLUSIVE MODE")
            self._is_locked = True


def room_left(running: Sequence[dict[str, Any]], capacity: Capacity) -> Capacity:
    """What is free beside the rows of jobs that run. Nothing, where one job has more than the whole site."""
    busy = {number for row in running for number in row["gpu_ids"]}
    return Capacity(
        cpus=max(0, capacity.cpus - sum(row["cpus"] for row in running)),
        mem_gb=max(0.0, capacity.mem_gb - sum(row["mem_gb"] for row in running)),
        gpus=sum(number not in busy for number in range(capacity.gpus)),
    )


def _room_for(row: dict[str, Any], running: Sequence[dict[str, Any]], capacity: Capacity) -> list[int] | None:
    """The GPUs the job would get, or None when what runs leaves too little for it."""
    busy = {number for other in running for number in other["gpu_ids"]}
    free = [number for number in range(capacity.gpus) if number not in busy]
    cpus = sum(other["cpus"] for other in running) + row["cpus"]
    mem_gb = sum(other["mem_gb"] for other in running) + row["mem_gb"]
    too_much = cpus > capacity.cpus or mem_gb > capacity.mem_gb
    if len(free) < row["gpus"] or (running and too_much):
        return None
    return free[: row["gpus"]]
