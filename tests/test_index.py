"""The index: slots by cores, memory and GPUs, taken once, by exactly one of many callers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gnomon.executors import Capacity
from gnomon.index import Index, open_index
from gnomon.job import State, new_id
from gnomon.request import Request, Resources
from gnomon.status import Status

ROOM = Capacity(cpus=4, mem_gb=8.0, gpus=2)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "home") as opened:
        yield opened


def add(index: Index, **resources: float) -> str:
    job_id = new_id()
    wanted = Resources.model_validate({"cpus": 1, "mem_gb": 1.0} | resources)
    request = Request(id=job_id, task="probe", method="plain", params={}, resources=wanted, gnomon_version="0")
    index.add(request, Status(id=job_id, state=State.QUEUED))
    return job_id


def test_jobs_fit_until_one_kind_of_room_is_used_up(index: Index):
    assert index.take_slot(add(index, cpus=3), ROOM) == []
    assert index.take_slot(add(index, cpus=2), ROOM) is None
    assert index.take_slot(add(index, cpus=1, mem_gb=7.5), ROOM) is None
    assert index.take_slot(add(index, cpus=1, mem_gb=7.0), ROOM) == []


def test_gpus_are_given_by_number_and_come_back(index: Index):
    first, second = add(index, gpus=1), add(index, gpus=1)
    assert index.take_slot(first, ROOM) == [0]
    assert index.take_slot(second, ROOM) == [1]
    third = add(index, gpus=1)
    assert index.take_slot(third, ROOM) is None
    index.update(Status(id=first, state=State.SUCCEEDED))
    assert index.take_slot(third, ROOM) == [0]


def test_a_job_larger_than_the_site_runs_alone(index: Index):
    large, small = add(index, cpus=64), add(index)
    assert index.take_slot(large, ROOM) == []
    assert index.take_slot(small, ROOM) is None


def test_more_gpus_than_there_are_never_fit(index: Index):
    assert index.take_slot(add(index, gpus=3), ROOM) is None


def test_exactly_one_of_many_callers_gets_the_slot(index: Index, tmp_path: Path):
    job_id = add(index)
    wins: list[bool] = []

    def take() -> None:
        with open_index(tmp_path / "home") as own:
            wins.append(own.take_slot(job_id, ROOM) is not None)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 7 + [True]


def test_pages_go_on_where_the_last_one_ended(index: Index):
    ids = sorted((add(index) for _ in range(5)), reverse=True)
    first = [row["id"] for row in index.list(limit=2)]
    second = [row["id"] for row in index.list(limit=10, before=first[-1])]
    assert first + second == ids
    index.update(Status(id=ids[0], state=State.FAILED))
    assert [row["id"] for row in index.list(states=["failed"])] == [ids[0]]
    assert index.list(task="templates") == []
