"""The index: slots by cores, memory and GPUs, taken once, by exactly one of many callers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gnomon.executors import Capacity
from gnomon.index import Index, open_index
from gnomon.job import Reason, State, new_id
from gnomon.request import Request, Resources
from gnomon.status import Status

ROOM = Capacity(cpus=4, mem_gb=8.0, gpus=2)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with open_index(tmp_path / "home") as opened:
        yield opened


def make_request(
    resources: dict[str, float] | None = None, created_at: str = "2026-01-01T00:00:00.000+00:00", label: str = "a"
) -> Request:
    wanted = Resources.model_validate({"cpus": 1, "mem_gb": 1.0} | (resources or {}))
    return Request(
        id=new_id(),
        task="probe",
        method="plain",
        params={},
        resources=wanted,
        label=label,
        created_at=created_at,
        gnomon_version="0",
    )


def add(index: Index, **resources: float) -> str:
    request = make_request(resources)
    index.add(request, Status(id=request.id, state=State.QUEUED))
    return request.id


def add_of(index: Index, owner: str, key: str | None = None, **details: str) -> str:
    """A queued job of an owner; `details` go to the request."""
    request = make_request(None, **details)
    index.add(request, Status(id=request.id, state=State.QUEUED), {"owner": owner, "idempotency_key": key})
    return request.id


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


def test_who_asked_for_a_job_is_remembered(index: Index):
    mine, yours = add_of(index, "mine", key="k1"), add_of(index, "yours", key="k1")
    nobodys = add(index)
    assert index.find_key("mine", "k1") == mine
    assert index.find_key("yours", "k1") == yours
    assert index.find_key("mine", "k2") is None
    assert (index.get(nobodys) or {})["owner"] == "local"
    assert index.get("0" * 16) is None
    assert index.queued_of("mine") == 1
    index.update(Status(id=mine, state=State.FAILED))
    assert index.queued_of("mine") == 0
    assert index.count_queued() == 2


def test_lists_can_be_narrowed(index: Index):
    old = add_of(index, "mine", created_at="2026-01-01T00:00:00.000+00:00", label="x")
    new = add_of(index, "yours", created_at="2026-03-01T00:00:00.000+02:00", label="y")

    def found(**filters: str) -> list[str]:
        return [row["id"] for row in index.list(**filters)]  # pyright: ignore[reportArgumentType]

    assert found(owner="mine") == [old]
    assert found(label="y") == [new]
    assert found(site="local") == [new, old]
    assert found(site="elsewhere") == []
    assert found(created_after="2026-02-01") == [new]
    assert found(created_before="2026-02-01T00:00:00Z") == [old]
    # Zones are understood: this is the very moment of the newer job, which is left out.
    assert found(created_after="2026-02-28T22:00:00+00:00") == []
    with pytest.raises(ValueError):
        found(created_after="yesterday")


def test_counts_and_totals(index: Index):
    one, two = add(index), add(index)
    add(index)
    began = 1767225600.0 + 5.0  # five seconds after make_request's time of creation
    index.update(Status(id=one, state=State.SUCCEEDED, started_at=began, ended_at=began + 2))
    index.update(Status(id=two, state=State.FAILED, reason=Reason.TIMEOUT, started_at=began, ended_at=began + 3))
    assert [tuple(row.values()) for row in index.counts()] == [
        ("probe", "failed", "timeout", 1),
        ("probe", "queued", None, 1),
        ("probe", "succeeded", None, 1),
    ]
    assert index.totals() == [{"task": "probe", "count": 2, "succeeded": 1, "run_s": 5.0, "queue_s": 10.0}]


def test_a_rebuilt_index_knows_the_submissions(index: Index):
    request = make_request()
    status = Status(id=request.id, state=State.QUEUED)
    index.rebuild([(request, status, {"owner": "mine", "idempotency_key": "k"})])
    assert index.find_key("mine", "k") == request.id
