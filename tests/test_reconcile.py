"""Passes of the reconciler with a site that only takes notes: who is started next, and what a pass looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from gnomon import reconcile
from gnomon.executors import Capacity, Probe
from gnomon.executors.host import HostRuntime
from gnomon.executors.samepath import SamePathTransfer
from gnomon.index import Index, open_index
from gnomon.index_table import jobs
from gnomon.job import Attempt, JobDir, JobStore, State, new_id
from gnomon.reconcile import PATIENCE_S, Reconciler
from gnomon.request import Draft, Request, Resources
from gnomon.site import Site
from gnomon.status import Status, derive


class Notes:
    """A launcher that starts nothing: it writes down what it was asked to start."""

    def __init__(self, capacity: Capacity) -> None:
        self.started: list[str] = []
        self.alive = True
        self._capacity = capacity

    def submit(self, attempt: Attempt, command: Sequence[str], request: Request) -> None:
        assert "gnomon.worker" in command
        assert attempt.job.id == request.id
        self.started.append(request.id)

    def poll(self, attempts: Sequence[Attempt]) -> dict[Attempt, bool]:
        return dict.fromkeys(attempts, self.alive)

    def cancel(self, attempt: Attempt) -> None: ...

    def logs(self, attempt: Attempt, offset: int) -> bytes:
        return b""

    def capacity(self) -> Capacity:
        return self._capacity

    def probe(self) -> Probe:
        return Probe(ok=True)


class Bench:
    """A home with one site, and jobs put into it."""

    def __init__(self, home: Path, index: Index, cpus: int) -> None:
        self.store = JobStore(home)
        self.index = index
        self.last_id = ""
        self.notes = Notes(Capacity(cpus=cpus, mem_gb=1000.0, gpus=1))
        self.reconciler = Reconciler(
            home, index, {"local": Site("local", self.notes, HostRuntime(), SamePathTransfer())}
        )

    def add(self, owner: str = "local", cpus: int = 1, gpus: int = 0) -> JobDir:
        # Ids of the same millisecond are in no order; these tests need one.
        while (job_id := new_id()) <= self.last_id:
            continue
        self.last_id = job_id
        draft = Draft(self.store, job_id)
        request = Request(
            id=draft.id,
            task="probe",
            method="plain",
            params={},
            resources=Resources(cpus=cpus, gpus=gpus),
            gnomon_version="0",
        )
        job = draft.seal(request, submission={"owner": owner})
        self.index.add(request, derive(job), job.submission())
        return job

    def end(self, *job_ids: str) -> None:
        """Let started jobs end, as a worker that failed for good would."""
        for job_id in job_ids:
            attempt = self.store.job(job_id).newest_attempt()
            assert attempt is not None
            assert attempt.record_exit({"reason": "method_failed", "ended_at": 1.0})

    def make_wait(self, job: JobDir, seconds: float) -> None:
        """Let the index believe that the job has been waiting for longer."""
        with self.index._engine.begin() as connection:  # pyright: ignore[reportPrivateUsage]
            waited = jobs.update().where(jobs.c.id == job.id)
            connection.execute(waited.values(updated_at=jobs.c.updated_at - sa.literal(seconds)))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "home") as opened:
        yield opened


@pytest.fixture
def bench(tmp_path: Path, index: Index) -> Bench:
    return Bench(tmp_path / "home", index, cpus=1)


@pytest.fixture
def wide(tmp_path: Path, index: Index) -> Bench:
    return Bench(tmp_path / "home", index, cpus=4)


def test_owners_take_turns_and_each_owners_oldest_job_is_first(bench: Bench):
    many = [bench.add("many").id for _ in range(4)]
    few = [bench.add("few").id for _ in range(2)]
    for _ in range(6):
        bench.reconciler.run_pass()
        bench.end(bench.notes.started[-1])
    assert bench.notes.started == [many[0], few[0], many[1], few[1], many[2], many[3]]


def test_a_free_site_is_filled_in_turns_too(wide: Bench):
    many = [wide.add("many").id for _ in range(4)]
    few = wide.add("few").id
    seen = wide.reconciler.run_pass()
    assert wide.notes.started == [many[0], few, many[1], many[2]]
    assert (seen.active, seen.queued) == (4, 1)


def test_a_job_that_does_not_fit_is_passed_over_at_first_but_not_for_ever(wide: Bench):
    busy = [wide.add(cpus=2).id, wide.add(cpus=1).id]
    wide.reconciler.run_pass()
    large, small, later = wide.add("large", cpus=4), wide.add("small"), wide.add("small")
    wide.reconciler.run_pass()
    assert wide.notes.started == [*busy, small.id]
    wide.make_wait(large, PATIENCE_S + 1)
    wide.end(busy[1])
    wide.reconciler.run_pass()
    # There is room for one core, and yet nobody is started: it is kept for the large one.
    assert wide.notes.started == [*busy, small.id]
    wide.end(busy[0], small.id)
    wide.reconciler.run_pass()
    assert wide.notes.started[-1] == large.id
    wide.end(large.id)
    wide.reconciler.run_pass()
    assert wide.notes.started[-1] == later.id


def test_a_job_that_never_fits_blocks_nobody(bench: Bench):
    hopeless, small = bench.add(gpus=2), bench.add()
    bench.make_wait(hopeless, PATIENCE_S + 1)
    bench.reconciler.run_pass()
    assert bench.notes.started == [small.id]


def test_a_job_larger_than_the_site_runs_alone(bench: Bench):
    first, large = bench.add(), bench.add(cpus=64)
    bench.reconciler.run_pass()
    assert bench.notes.started == [first.id]
    bench.end(first.id)
    bench.reconciler.run_pass()
    assert bench.notes.started == [first.id, large.id]


def test_a_cancelled_job_is_never_started(bench: Bench):
    bench.add()
    bench.reconciler.run_pass()
    cancelled, next_one = bench.add(), bench.add()
    bench.end(bench.notes.started[0])
    cancelled.cancel_marker.touch()
    seen = bench.reconciler.run_pass()
    assert bench.notes.started[1:] == [next_one.id]
    assert [(status.id, status.state) for status in seen.changed][-1] == (cancelled.id, State.CANCELLED)


def test_a_touched_job_is_looked_at_in_the_next_pass(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reconcile, "QUEUE_LOOK_ROWS", 1)
    waiting = [bench.add() for _ in range(4)]
    bench.reconciler.run_pass()
    monkeypatch.setattr(reconcile, "QUEUE_LOOK_INTERVAL_S", 1e6)
    bench.reconciler.run_pass()
    waiting[-1].cancel_marker.touch()
    assert bench.reconciler.run_pass().changed == []
    bench.reconciler.touch(waiting[-1].id)
    assert [status.id for status in bench.reconciler.run_pass().changed] == [waiting[-1].id]


def test_changes_from_outside_are_found_part_by_part(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reconcile, "QUEUE_LOOK_ROWS", 2)
    monkeypatch.setattr(reconcile, "QUEUE_LOOK_INTERVAL_S", 0.0)
    waiting = [bench.add() for _ in range(7)]
    bench.reconciler.run_pass()
    for job in waiting[1:]:
        job.cancel_marker.touch()
    passes = [bench.reconciler.run_pass() for _ in range(4)]
    assert all(len(seen.changed) <= 2 for seen in passes)
    assert {status.id for seen in passes for status in seen.changed} == {job.id for job in waiting[1:]}
    assert passes[-1].queued == 0


def test_a_queued_job_whose_folder_is_gone_is_forgotten(bench: Bench):
    bench.add()
    gone = bench.add()
    gone.path.rename(gone.path.with_name(".removed-x"))
    bench.reconciler.run_pass()
    assert bench.index.get(gone.id) is None


def test_a_launch_record_torn_by_a_power_cut_costs_one_attempt(bench: Bench):
    job = bench.add()
    bench.reconciler.run_pass()
    attempt = job.attempt(1)
    (attempt.path / "launch.json").write_text("")
    bench.notes.alive = False
    bench.reconciler.run_pass()
    assert [found.number for found in job.attempts()] == [1, 2]
    assert bench.notes.started == [job.id, job.id]


def test_the_index_can_say_launching_when_the_folder_does_not_yet(bench: Bench):
    job = bench.add()
    assert bench.index.take_slot(job.id, bench.notes.capacity()) == []
    seen = bench.reconciler.run_pass()
    assert (bench.notes.started, seen.active) == ([], 1)
    bench.index.update(Status(id=job.id, state=State.QUEUED, attempt=1))
    bench.reconciler.run_pass()
    assert bench.notes.started == [job.id]
