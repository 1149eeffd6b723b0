"""Warm workers with real processes: what a job gets there, and what every kind of end costs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from probe_task.spec import Probe
from waiting import LIMIT_S, until

from gnomon import atomic
from gnomon.api import Home, Job
from gnomon.environments import Environment
from gnomon.executors import Capacity
from gnomon.executors.local import LocalLauncher
from gnomon.executors.warm import PoolSettings, WarmPool
from gnomon.job import Reason, State
from gnomon.methods import Method
from gnomon.request import Resources
from gnomon.tasks import Task

MakePool = Callable[..., WarmPool]


@pytest.fixture
def make_pool(home: Home) -> Iterator[MakePool]:
    """Makes the pool of the home's local site, which has two cores."""
    pools: list[WarmPool] = []

    def make(**settings: Any) -> WarmPool:
        pool = WarmPool(home.path, PoolSettings(size=settings.pop("size", 1), **settings), lambda: None)
        pool.start()
        pools.append(pool)
        launcher = LocalLauncher(home.path, Capacity(cpus=2, mem_gb=8.0, gpus=1), pool)
        site = home.reconciler.sites["local"]
        object.__setattr__(site, "launcher", launcher)
        return pool

    yield make
    for pool in pools:
        slots = [slot["pid"] for slot in pool.describe()]
        pool.stop()
        until(lambda slots=slots: not any(is_running(pid) for pid in slots), "the slots to leave")


def is_running(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def submit(home: Home, *script: str, max_attempts: int = 1, **resources: Any) -> Job:
    wanted = Resources.model_validate({"cpus": 1, "mem_gb": 1.0, "timeout_s": 60.0} | resources)
    return home.submit(Probe.parse(script=list(script)), resources=wanted, max_attempts=max_attempts)


def run(home: Home, *script: str, **options: Any) -> Job:
    job = submit(home, *script, **options)
    job.wait(timeout_s=LIMIT_S)
    return job


def ends(job: Job) -> tuple[State, Reason | None]:
    status = job.wait(timeout_s=LIMIT_S)
    return status.state, status.reason


def worker_of(job: Job, attempt: int = 1) -> int:
    """The pid of the worker that ran it."""
    return until(lambda: atomic.read_json(job.directory.attempt(attempt).environment), "env.json")["pid"]


def slot_of(job: Job, attempt: int = 1) -> int:
    return until(job.directory.attempt(attempt).process, "process.json")["pid"]


def runs(job: Job) -> None:
    until(lambda: job.status().state is State.RUNNING, "the job to run")


def waits_for_go(job: Job) -> None:
    def is_there() -> bool:
        progress = job.status().progress
        return progress is not None and progress.step == "wait-go"

    until(is_there, "the job to wait")


def go(job: Job) -> None:
    (job.directory.path / "go").touch()


def test_jobs_run_in_one_worker_and_leave_the_same_files_as_elsewhere(home: Home, make_pool: MakePool):
    pool = make_pool()
    first, second = run(home, "say one", "write a"), run(home, "say two")
    assert first.result() == {"done": ["a"]}
    assert worker_of(first) == worker_of(second)
    assert (first.logs(), second.logs()) == ("one\n", "two\n")
    slot = until(lambda: pool.describe()[0] if pool.describe()[0]["state"] == "idle" else None, "the slot to be idle")
    assert slot["pid"] == slot_of(first) != worker_of(first)
    assert (slot["task"], slot["job"], slot["jobs"]) == ("probe", None, 2)
    assert slot["rss_mb"] > 1
    outcome = first.directory.attempt(1).exit()
    assert outcome is not None
    assert outcome["exit_code"] == 0
    assert {"wall_s", "cpu_s", "max_rss_mb", "ended_at"} <= set(outcome)


def test_the_pool_says_when_a_job_has_ended(home: Home):
    ended = threading.Event()
    pool = WarmPool(home.path, PoolSettings(size=1), ended.set)
    home.reconciler.sites["local"].launcher.use_pool(pool)  # pyright: ignore[reportAttributeAccessIssue]
    pool.start()
    job = submit(home, "wait go")
    runs(job)
    assert not ended.is_set()
    go(job)
    assert ended.wait(LIMIT_S)
    assert job.directory.attempt(1).exit() is not None
    pool.stop()


def test_a_job_finds_nothing_of_the_one_before(home: Home, make_pool: MakePool):
    make_pool()
    first, second = run(home, "stubborn", "litter"), run(home, "litter")
    assert worker_of(first) == worker_of(second)
    assert first.logs() == second.logs() == "found nothing in 0001\n"
    # The first one ignored requests to stop; the next one does not.
    third = submit(home, "wait never")
    runs(third)
    third.cancel()
    assert ends(third) == (State.CANCELLED, Reason.CANCELLED_BY_USER)
    assert third.directory.attempt(1).exit()["wall_s"] < 60.0  # pyright: ignore[reportOptionalSubscript]


def test_threads_follow_the_job(home: Home, make_pool: MakePool):
    make_pool()
    one, two = run(home, "threads"), run(home, "threads", cpus=2)
    assert worker_of(one) == worker_of(two)
    most = os.cpu_count() or 1
    assert (one.logs(), two.logs()) == ("threads 1 1\n", f"threads {min(2, most)} 2\n")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise no_overlap", Reason.METHOD_FAILED),
        ("input bad_mesh", Reason.BAD_INPUT),
        ("crash", Reason.INTERNAL),
        ("full", Reason.DISK_FULL),
    ],
)
def test_a_failure_is_told_as_elsewhere_and_the_worker_goes_on(home: Home, make_pool: MakePool, script, reason):
    make_pool()
    job = submit(home, script)
    assert ends(job) == (State.FAILED, reason)
    assert worker_of(run(home, "write a")) == worker_of(job)


@pytest.mark.parametrize("name", ["SIGKILL", "SIGABRT"])
def test_the_death_of_a_worker_costs_only_its_job(home: Home, make_pool: MakePool, name):
    make_pool()
    job = submit(home, f"die {name}")
    assert ends(job) == (State.FAILED, Reason.WORKER_KILLED)
    after = run(home, "write a")
    assert after.status().state is State.SUCCEEDED
    assert worker_of(after) != worker_of(job)
    assert slot_of(after) == slot_of(job)


def test_the_time_limit_holds_and_a_fresh_worker_follows(home: Home, make_pool: MakePool):
    make_pool()
    warm = run(home, "say warm")
    job = submit(home, "wait never", timeout_s=0.5)
    assert ends(job) == (State.FAILED, Reason.TIMEOUT)
    assert worker_of(job) == worker_of(warm)
    after = run(home, "write a")
    assert after.status().state is State.SUCCEEDED
    assert worker_of(after) != worker_of(job)


def test_the_memory_limit_counts_what_the_job_uses(home: Home, make_pool: MakePool):
    make_pool()
    # The worker itself holds more than this job may use.
    assert ends(submit(home, "write a", mem_gb=0.01)) == (State.SUCCEEDED, None)
    job = submit(home, "memory 400", "wait never", mem_gb=0.2)
    assert ends(job) == (State.FAILED, Reason.OUT_OF_MEMORY)
    assert worker_of(run(home, "write a")) != worker_of(job)


def test_a_worker_that_ignores_a_cancel_is_killed_and_replaced(home: Home, make_pool: MakePool):
    make_pool()
    job = submit(home, "stubborn", "wait never")
    runs(job)
    job.cancel()
    assert ends(job) == (State.CANCELLED, Reason.CANCELLED_BY_USER)
    assert not is_running(worker_of(job))
    assert run(home, "write a").status().state is State.SUCCEEDED


def test_what_a_job_leaves_running_is_killed_and_the_worker_replaced(home: Home, make_pool: MakePool):
    make_pool()
    job = run(home, "child")
    child = int((job.directory.path / "child").read_text())
    until(lambda: not is_running(child), "the child's end")
    assert worker_of(run(home, "write a")) != worker_of(job)


@pytest.mark.parametrize("limit", [{"max_jobs": 1}, {"max_age_s": 0.0}, {"max_rss_mb": 1.0}])
def test_a_worker_that_has_done_enough_is_replaced(home: Home, make_pool: MakePool, limit):
    make_pool(**limit)
    first, second = run(home, "write a"), run(home, "write b")
    assert second.status().state is State.SUCCEEDED
    assert worker_of(first) != worker_of(second)
    assert slot_of(first) == slot_of(second)


def test_an_idle_slot_leaves(home: Home, make_pool: MakePool):
    pool = make_pool(idle_s=0.1)
    job = run(home, "write a")
    until(lambda: pool.describe() == [], "the slot to leave")
    until(lambda: not is_running(slot_of(job)), "the slot's process to end")
    assert run(home, "write b").status().state is State.SUCCEEDED


def test_slots_with_warm_tasks_are_there_before_the_first_job(home: Home, make_pool: MakePool):
    pool = make_pool(size=2, warm_tasks=("probe",), idle_s=0.1)
    until(lambda: [slot["state"] for slot in pool.describe()] == ["idle", "idle"], "two idle slots")
    assert (home.path / "warm.log").read_text().count("the probe is warm") == 2
    victim = pool.describe()[0]["pid"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in [slot["pid"] for slot in pool.describe()], "the pool to notice")
    until(lambda: [slot["state"] for slot in pool.describe()] == ["idle", "idle"], "another slot")


def test_a_killed_slot_takes_its_worker_along_and_the_job_is_tried_again(home: Home, make_pool: MakePool):
    make_pool()
    job = submit(home, "write a", "wait go", max_attempts=2)
    waits_for_go(job)
    worker = worker_of(job)
    os.kill(slot_of(job), signal.SIGKILL)
    until(lambda: not is_running(worker), "the worker's end")
    go(job)
    assert ends(job) == (State.SUCCEEDED, None)
    assert job.status().attempt == 2
    assert (job.directory.path / "count-a").read_text() == "x"


def test_a_slot_that_dies_before_it_claims_its_job_costs_nothing(home: Home, make_pool: MakePool):
    make_pool()
    slot = slot_of(run(home, "write a"))
    os.kill(slot, signal.SIGSTOP)
    job = submit(home, "write b")
    os.kill(slot, signal.SIGKILL)
    assert ends(job) == (State.SUCCEEDED, None)
    assert job.status().attempt == 1


def test_a_slot_that_cannot_say_how_a_job_ended_ends_itself(home: Home, make_pool: MakePool):
    make_pool()
    job = submit(home, "wait go", "write a", max_attempts=2)
    runs(job)
    slot, attempt = slot_of(job), job.directory.attempt(1)
    # Nothing can be written into the attempt's folder any more, as on a full disk.
    away = attempt.path.rename(attempt.path.with_name("away"))
    go(job)
    until(lambda: not is_running(slot), "the slot's end")
    away.rename(attempt.path)
    assert ends(job) == (State.SUCCEEDED, None)


def test_an_attempt_that_was_closed_is_ended_and_publishes_nothing(home: Home, make_pool: MakePool):
    make_pool()
    job = submit(home, "wait go", "write a", max_attempts=3)
    runs(job)
    late = worker_of(job)
    os.kill(late, signal.SIGSTOP)
    first = job.directory.attempt(1)
    # The attempt was given up while its processes were only asleep.
    assert first.record_exit({"reason": "node_fail", "ended_at": 1.0})
    home.run_pass()
    until(lambda: not is_running(late), "the end of the first worker")
    go(job)
    assert ends(job) == (State.SUCCEEDED, None)
    record = job.directory.read_result()
    assert record is not None
    assert record["attempt"] == 2
    assert run(home, "write a").status().state is State.SUCCEEDED


def test_one_slot_runs_one_job_and_the_rest_starts_cold(home: Home, make_pool: MakePool):
    make_pool()
    first, second = submit(home, "wait go"), submit(home, "wait go")
    runs(first)
    runs(second)
    assert slot_of(first) != slot_of(second)
    go(first)
    go(second)
    assert ends(first) == ends(second) == (State.SUCCEEDED, None)


def test_jobs_for_gpus_or_private_environments_are_refused(
    home: Home, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
):
    pool = make_pool()
    wait = submit(home, "wait go", gpus=1)
    runs(wait)
    assert pool.describe() == []
    go(wait)
    private = Method(
        name="plain",
        task="probe",
        summary="",
        licence="",
        paper="",
        environment=Environment(name="far", python="3.11", requirements=("x==1",)),
    )
    monkeypatch.setattr(Task, "method", lambda task, name: private)
    assert not pool.offer(wait.directory.attempt(1), wait.request())
    wait.wait(timeout_s=LIMIT_S)


def test_a_command_in_another_runtime_is_not_for_the_pool(home: Home, make_pool: MakePool):
    pool = make_pool()
    job = run(home, "write a")
    launcher = home.reconciler.sites["local"].launcher
    attempt = job.directory.attempt(1)
    before = pool.describe()
    launcher.submit(attempt, ["apptainer", "exec", sys.executable, "-m", "gnomon.worker"], job.request())
    assert pool.describe()[0]["jobs"] == before[0]["jobs"]
    assert pool.describe()[0]["job"] is None


SERVER = """
import sys, threading
from pathlib import Path
from probe_task.spec import Probe
from gnomon.api import Home
from gnomon.executors.warm import PoolSettings, WarmPool
from gnomon.request import Resources
home = Home(Path(sys.argv[1]))
pool = WarmPool(home.path, PoolSettings(size=2, warm_tasks=("probe",)), lambda: None)
home.reconciler.sites["local"].launcher.use_pool(pool)
pool.start()
job = home.submit(Probe.parse(script=["wait go", "write a"]), resources=Resources(cpus=1, mem_gb=1.0))
print(job.id, *[slot["pid"] for slot in pool.describe()], flush=True)
threading.Event().wait()
"""


def test_a_killed_server_leaves_no_slot_behind_and_its_jobs_go_on(home: Home):
    with subprocess.Popen([sys.executable, "-c", SERVER, str(home.path)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        job_id, *slots = server.stdout.readline().split()
        job = Job(home, home.store.job(job_id))
        runs(job)
        busy = slot_of(job)
        assert str(busy) in slots
        server.kill()
    (idle,) = [int(pid) for pid in slots if int(pid) != busy]
    until(lambda: not is_running(idle), "the idle slot to leave")
    assert is_running(busy)
    home.ensure_indexed()
    assert home.run_pass().active == 1
    go(job)
    assert ends(job) == (State.SUCCEEDED, None)
    until(lambda: not is_running(busy), "the busy slot to leave")
    assert not is_running(worker_of(job))
    assert job.directory.attempt(1).exit() is not None
    assert list(Path(home.path).glob("**/*.sock")) == []
