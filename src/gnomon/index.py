"""The index: a table that remembers where jobs stand. It can be deleted at any time; `gnomon reindex` rebuilds it.

SQLite in WAL mode by default, any SQLAlchemy URL by GNOMON_INDEX_URL. Two things are decided here and not in the
job folders, because they need a transaction: who may use a slot, and which process acts on a queued job.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from gnomon.errors import MissingError
from gnomon.executors import Capacity
from gnomon.index_decision import Decision
from gnomon.index_table import (
    ACTIVE_JOBS,
    COUNT_QUEUED,
    ENDED_SINCE,
    FINAL,
    INSERT,
    OBSERVED_COLUMNS,
    QUEUED_AFTER,
    job_columns,
    jobs,
    metadata,
    status_columns,
    unix_seconds,
)
from gnomon.job import State
from gnomon.request import Request
from gnomon.status import Status

BUSY_TIMEOUT_S = 30.0
Rows = list[dict[str, Any]]

log = logging.getLogger(__name__)


@dataclass
class _Entry:
    """A row that some thread wants to add."""

    values: dict[str, Any]
    is_written: bool = False


class Index:
    """One table of jobs. Every method is one short transaction."""

    def __init__(self, home: Path, url: str | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.url = url or os.environ.get("GNOMON_INDEX_URL") or f"sqlite:///{home / 'index.sqlite'}"
        self._engine = self._make_engine()
        self._reads = self._engine.execution_options(gnomon_reads=True)
        self._entries: deque[_Entry] = deque()
        self._adding = threading.Lock()
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

    def add(self, request: Request, status: Status, submission: Mapping[str, Any] | None = None) -> None:
        """Insert a job, or replace what was known of it. `submission` is what `JobDir.submission` gives."""
        entry = _Entry(job_columns(request, submission or {}) | status_columns(status))
        self._entries.append(entry)
        with self._adding:
            if not entry.is_written:
                self._write_entries()

    def _write_entries(self) -> None:
        """Write what this thread and those behind it in the queue want to add, in one transaction.

        A server's clients submit at the same time: one commit for all of them costs as much as one for each.
        """
        taken = [self._entries.popleft() for _ in range(len(self._entries))]
        rows = list({entry.values["id"]: entry.values for entry in taken}.values())
        try:
            self._insert(rows)
        except BaseException:
            # The others try themselves.
            self._entries.extendleft(reversed(taken))
            raise
        for entry in taken:
            entry.is_written = True

    def _insert(self, rows: Rows) -> None:
        """Insert rows; those that are there already are replaced."""
        try:
            with self._engine.begin() as connection:
                connection.execute(INSERT, rows)
        except exc.IntegrityError:
            with self._engine.begin() as connection:
                connection.execute(jobs.delete().where(jobs.c.id.in_([row["id"] for row in rows])))
                connection.execute(INSERT, rows)

    @contextlib.contextmanager
    def deciding(self) -> Iterator[Decision]:
        """One transaction that puts down what was seen and takes slots; nobody else takes one meanwhile."""
        with self._engine.begin() as connection:
            yield Decision(connection)

    def update(self, status: Status) -> None:
        with self.deciding() as decision:
            decision.update(status)

    def remove(self, job_id: str) -> None:
        with self.deciding() as decision:
            decision.remove(job_id)

    def take_slot(self, job_id: str, capacity: Capacity) -> list[int] | None:
        """`Decision.take_slot` in a transaction of its own."""
        with self.deciding() as decision:
            return decision.take_slot(job_id, capacity)

    def rebuild(self, entries: Iterable[tuple[Request, Status, dict[str, Any]]]) -> int:
        """Forget everything and remember `entries` (request, status, submission) instead, in one transaction."""
        rows = [job_columns(request, submission) | status_columns(status) for request, status, submission in entries]
        with self._engine.begin() as connection:
            connection.execute(jobs.delete())
            if rows:
                connection.execute(jobs.insert(), rows)
        return len(rows)

    def ids(self) -> set[str]:
        with self._reads.begin() as connection:
            return set(connection.execute(sa.select(jobs.c.id)).scalars())

    def get(self, job_id: str) -> dict[str, Any] | None:
        """What is known of one job."""
        rows = self._rows(sa.select(jobs).where(jobs.c.id == job_id))
        return rows[0] if rows else None

    def find_key(self, owner: str, key: str) -> str | None:
        """The id of the first job that this owner submitted under an idempotency key."""
        query = sa.select(jobs.c.id).where(jobs.c.idempotency_key == key, jobs.c.owner == owner)
        return self._scalar(query.order_by(jobs.c.id).limit(1))

    def list(
        self,
        *,
        task: str | None = None,
        states: Sequence[str] = (),
        owner: str | None = None,
        site: str | None = None,
        label: str | None = None,
        created_after: str | None = None,
        created_before: str | None = None,
        limit: int = 50,
        before: str | None = None,
    ) -> Rows:
        """The newest jobs first; `before` is the last id of the page before.

        `created_after` and `created_before` are ISO 8601 times (UTC where they name no zone) that are themselves
        left out. ValueError: one of them is none.
        """
        wanted = {jobs.c.task: task, jobs.c.owner: owner, jobs.c.site: site, jobs.c.label: label}
        conditions = [column == value for column, value in wanted.items() if value is not None]
        if states:
            conditions.append(jobs.c.state.in_(states))
        if created_after:
            conditions.append(jobs.c.submitted_s > unix_seconds(created_after))
        if created_before:
            conditions.append(jobs.c.submitted_s < unix_seconds(created_before))
        if before:
            conditions.append(jobs.c.id < before)
        return self._rows(sa.select(jobs).where(*conditions).order_by(jobs.c.id.desc()).limit(limit))

    def counts(self) -> Rows:
        """How many jobs there are: rows of task, state, reason, count."""
        kinds = (jobs.c.task, jobs.c.state, jobs.c.reason)
        return self._rows(sa.select(*kinds, sa.func.count().label("count")).group_by(*kinds).order_by(*kinds))

    def totals(self) -> Rows:
        """Of each task's finished jobs that had started: task, count, succeeded, and the sums run_s and queue_s."""
        query = (
            sa.select(
                jobs.c.task,
                sa.func.count().label("count"),
                sa.func.sum(sa.case((jobs.c.state == State.SUCCEEDED.value, 1), else_=0)).label("succeeded"),
                sa.func.sum(jobs.c.ended_at - jobs.c.started_at).label("run_s"),
                sa.func.sum(jobs.c.started_at - jobs.c.submitted_s).label("queue_s"),
            )
            .where(jobs.c.state.in_(FINAL), jobs.c.started_at.is_not(None), jobs.c.ended_at.is_not(None))
            .group_by(jobs.c.task)
            .order_by(jobs.c.task)
        )
        return self._rows(query)

    def costs(self) -> Rows:
        """What the jobs of each task have cost, by currency."""
        query = sa.select(jobs.c.task, jobs.c.currency, sa.func.sum(jobs.c.cost).label("cost"))
        return self._rows(query.where(jobs.c.cost.is_not(None)).group_by(jobs.c.task, jobs.c.currency))

    def ended_since(self, since_s: float) -> Rows:
        """Id, attempt and state of the jobs that ended, as far as anybody noticed, after this time."""
        return self._rows(ENDED_SINCE, {"since_s": since_s})

    def queue_lengths(self) -> dict[str, int]:
        """How many jobs of each owner wait."""
        query = sa.select(jobs.c.owner, sa.func.count().label("count")).where(jobs.c.state == State.QUEUED)
        return {row["owner"]: row["count"] for row in self._rows(query.group_by(jobs.c.owner))}

    def queued_of(self, owner: str) -> int:
        """How many of an owner's jobs wait."""
        query = sa.select(sa.func.count()).where(jobs.c.state == State.QUEUED.value, jobs.c.owner == owner)
        return self._scalar(query)

    def count_queued(self) -> int:
        return self._scalar(COUNT_QUEUED)

    def active(self) -> Rows:
        """The jobs that are, or may be, worked on: what a pass of the reconciler needs of them, oldest first."""
        return self._rows(ACTIVE_JOBS)

    def observed(self, job_ids: Sequence[str]) -> Rows:
        """The same of the jobs with these ids, in whatever state."""
        return self._rows(sa.select(*OBSERVED_COLUMNS).where(jobs.c.id.in_(job_ids)))

    def queued_after(self, job_id: str, limit: int) -> Rows:
        """The same of `limit` queued jobs in the order of their ids, from behind `job_id` on."""
        return self._rows(QUEUED_AFTER, {"after": job_id, "most": limit})

    def _rows(self, query: sa.Executable, parameters: dict[str, Any] | None = None) -> Rows:
        with self._reads.begin() as connection:
            found = connection.execute(query, parameters)
            names = tuple(found.keys())
            return [dict(zip(names, row, strict=True)) for row in found]

    def _scalar(self, query: sa.Executable) -> Any:
        with self._reads.begin() as connection:
            return connection.execute(query).scalar()

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


def _prepare_sqlite(connection: Any, record: Any) -> None:
    # SQLAlchemy, not the driver, opens transactions: see _begin_immediate.
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin_immediate(connection: sa.Connection) -> None:
    # Take the write lock at once: a transaction that reads and then writes must not lose it in between. One that
    # only reads takes none, so that listings and passes do not wait for each other.
    connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("gnomon_reads") else "BEGIN IMMEDIATE")
