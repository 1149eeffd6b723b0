"""The index: a table that remembers where jobs stand. It can be deleted at any time; `gnomon reindex` rebuilds it.

SQLite in WAL mode by default, any SQLAlchemy URL by GNOMON_INDEX_URL. Two things are decided here and not in the
job folders, because they need a transaction: who may use a slot, and which process acts on a queued job.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from gnomon.errors import MissingError
from gnomon.executors import Capacity
from gnomon.job import State
from gnomon.request import Request
from gnomon.status import Status

BUSY_TIMEOUT_S = 30.0
ACTIVE = [state.value for state in State if state.is_active]
UNFINISHED = [state.value for state in State if not state.is_final]

log = logging.getLogger(__name__)

metadata = sa.MetaData()

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("task", sa.String(32), nullable=False),
    sa.Column("method", sa.String(32), nullable=False),
    sa.Column("site", sa.String(64), nullable=False),
    sa.Column("label", sa.Text),
    sa.Column("created_at", sa.String(40), nullable=False),
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
    sa.Column("updated_at", sa.Float, nullable=False),
)


class Index:
    """One table of jobs. Every method is one short transaction."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.url = url or os.environ.get("GNOMON_INDEX_URL") or f"sqlite:///{home / 'index.sqlite'}"
        self._engine = self._make_engine()
        self.is_new = self._prepare_table()
        """Whether the table was made just now, so that it knows nothing of the jobs there are."""

    def close(self) -> None:
        self._engine.dispose()

    def _make_engine(self) -> sa.Engine:
        try:
            engine = sa.create_engine(self.url, connect_args=self._connect_args())
        except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
            raise MissingError(
                f"the index cannot be opened: {error}",
                code="index_unavailable",
                field="GNOMON_INDEX_URL",
                expected="a SQLAlchemy URL whose driver is installed",
                fix="unset GNOMON_INDEX_URL to use a file in gnomon's home",
            ) from None
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_immediate)
        return engine

    def _prepare_table(self) -> bool:
        """Make the table, anew if an older gnomon made it; it is only a memory and can be filled again."""
        with self._engine.begin() as connection:
            inspector = sa.inspect(connection)
            exists = inspector.has_table(jobs.name)
            if exists and {column["name"] for column in inspector.get_columns(jobs.name)} != set(jobs.c.keys()):
                jobs.drop(connection)
                exists = False
            metadata.create_all(connection)
        return not exists

    def add(self, request: Request, status: Status) -> None:
        """Insert a job, or replace what was known of it."""
        values = _job_columns(request) | _status_columns(status)
        with self._engine.begin() as connection:
            connection.execute(jobs.delete().where(jobs.c.id == request.id))
            connection.execute(jobs.insert().values(values))

    def update(self, status: Status) -> None:
        with self._engine.begin() as connection:
            connection.execute(jobs.update().where(jobs.c.id == status.id).values(_status_columns(status)))

    def remove(self, job_id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(jobs.delete().where(jobs.c.id == job_id))

    def rebuild(self, entries: Iterable[tuple[Request, Status]]) -> int:
        """Forget everything and remember `entries` instead, in one transaction."""
        rows = [_job_columns(request) | _status_columns(status) for request, status in entries]
        with self._engine.begin() as connection:
            connection.execute(jobs.delete())
            if rows:
                connection.execute(jobs.insert(), rows)
        return len(rows)

    def ids(self) -> set[str]:
        with self._engine.begin() as connection:
            return set(connection.execute(sa.select(jobs.c.id)).scalars())

    def unfinished(self) -> list[dict[str, Any]]:
        """Jobs that something may still have to be done for, oldest first."""
        query = sa.select(jobs).where(jobs.c.state.in_(UNFINISHED)).order_by(jobs.c.id)
        return self._rows(query)

    def list(
        self,
        *,
        task: str | None = None,
        states: Sequence[str] = (),
        limit: int = 50,
        before: str | None = None,
    ) -> list[dict[str, Any]]:
        """The newest jobs first; `before` is the last id of the page before."""
        query = sa.select(jobs).order_by(jobs.c.id.desc()).limit(limit)
        if task:
            query = query.where(jobs.c.task == task)
        if states:
            query = query.where(jobs.c.state.in_(states))
        if before:
            query = query.where(jobs.c.id < before)
        return self._rows(query)

    def take_slot(self, job_id: str, capacity: Capacity) -> list[int] | None:
        """Move a queued job to launching if the site has room for it beside what already runs there.

        Returns the numbers of the GPUs it may use, or None. Exactly one of several callers gets the slot. A job
        that alone wants more cores or memory than the site has runs alone.
        """
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # SQLite's transactions are serial by themselves; here two could see the same free slot.
                connection.exec_driver_sql("LOCK TABLE jobs IN EXCLUSIVE MODE")
            row = connection.execute(sa.select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()
            if row is None or row["state"] != State.QUEUED:
                return None
            query = sa.select(jobs).where(jobs.c.site == row["site"], jobs.c.state.in_(ACTIVE))
            running = connection.execute(query).mappings().all()
            gpu_ids = _room_for(row, running, capacity)
            if gpu_ids is None:
                return None
            taken = {"state": State.LAUNCHING.value, "gpu_ids": gpu_ids, "updated_at": time.time()}
            connection.execute(jobs.update().where(jobs.c.id == job_id).values(taken))
        return gpu_ids

    def _rows(self, query: sa.Select[Any]) -> list[dict[str, Any]]:
        with self._engine.begin() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def _connect_args(self) -> dict[str, Any]:
        return {"timeout": BUSY_TIMEOUT_S} if self.url.startswith("sqlite") else {}


def open_or_rebuild(home: Path) -> Index:
    """The index of a home. A damaged file is set aside, and the new one starts empty.

    Raises:
        MissingError: code `index_unavailable`, when the database of GNOMON_INDEX_URL cannot be used.
    """
    try:
        return Index(home)
    except exc.DatabaseError as error:
        file = home / "index.sqlite"
        if os.environ.get("GNOMON_INDEX_URL") or "locked" in str(error) or not file.exists():
            message = f"the index cannot be opened: {error.orig}"
            raise MissingError(message, code="index_unavailable", fix="try again, or gnomon reindex") from None
        for part in home.glob("index.sqlite*"):
            part.rename(part.with_name(f"broken-{time.time_ns()}-{part.name}"))
        log.warning("the index %s was damaged; it was set aside and is made anew", file)
        return Index(home)


@contextlib.contextmanager
def open_index(home: Path, url: str | None = None) -> Iterator[Index]:
    index = Index(home, url)
    try:
        yield index
    finally:
        index.close()


def _room_for(row: sa.RowMapping, running: Sequence[sa.RowMapping], capacity: Capacity) -> list[int] | None:
    """The GPUs the job would get, or None when what runs leaves too little for it."""
    busy = {number for other in running for number in other["gpu_ids"]}
    free = [number for number in range(capacity.gpus) if number not in busy]
    cpus = sum(other["cpus"] for other in running) + row["cpus"]
    mem_gb = sum(other["mem_gb"] for other in running) + row["mem_gb"]
    too_much = cpus > capacity.cpus or mem_gb > capacity.mem_gb
    if len(free) < row["gpus"] or (running and too_much):
        return None
    return free[: row["gpus"]]


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # SQLAlchemy, not the driver, opens transactions: see _begin_immediate.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_immediate(connection: sa.Connection) -> None:
    # Take the write lock at once: a transaction that reads and then writes must not lose it in between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _job_columns(request: Request) -> dict[str, Any]:
    return {
        "id": request.id,
        "task": request.task,
        "method": request.method,
        "site": request.site,
        "label": request.label,
        "created_at": request.created_at,
        "cpus": request.resources.cpus,
        "mem_gb": request.resources.mem_gb,
        "gpus": request.resources.gpus,
        "max_attempts": request.max_attempts,
    }


def _status_columns(status: Status) -> dict[str, Any]:
    return {
        "state": status.state.value,
        "reason": status.reason.value if status.reason else None,
        "error_code": (status.error or {}).get("code"),
        "attempt": status.attempt,
        "gpu_ids": list(status.gpu_ids),
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "updated_at": time.time(),
    }
