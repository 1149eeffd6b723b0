"""The life of jobs with real processes: every ending, every kill, and what the next pass makes of it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from probe_task.spec import Probe
from waiting import LIMIT_S, until

from gnomon import api
from gnomon.api import Home, Job
from gnomon.errors import InputError, LimitError, MethodError, MissingError
from gnomon.executors.process import is_alive
from gnomon.job import Reason, State
from gnomon.request import Resources


def probe(*script: str) -> Probe:
    return Probe.parse(script=list(script))


def small(**changes: object) -> Resources:
    return Resources.model_validate({"cpus": 1, "mem_gb": 1.0, "timeout_s": 60.0} | changes)


def reaches(job: Job, state: State) -> None:
    until(lambda: job.status().state is state, f"state {state}")


def at_step(job: Job, step: str) -> None:
    def is_there() -> bool:
        progress = job.status().progress
        return progress is not None and progress.step == step

    until(is_there, f"step {step}")


def processes_of(job: Job) -> dict[str, psutil.Process]:
    attempt = job.directory.newest_attempt()
    assert attempt is not None
    record = until(attempt.process, "process.json")
    supervisor = psutil.Process(record["pid"])
    return {"supervisor": supervisor, "worker": until(supervisor.children, "the worker")[0]}


def kill(process: psutil.Process) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGKILL)


def counts(job: Job, name: str) -> int:
    file = job.directory.path / f"count-{name}"
    return len(file.read_text()) if file.exists() else 0


def go(job: Job, name: str = "go") -> None:
    (job.directory.path / name).touch()


def test_a_job_runs_and_its_result_is_described(home: Home):
    job = home.submit(probe("say hello", "write a", "write b"), resources=small(), label="mine")
    status = job.wait(timeout_s=LIMIT_S)
    assert status.state is State.SUCCEEDED
    assert job.result() == {"done": ["a", "b"]}
    record = job.directory.read_result()
    assert record is not None
    assert [output["name"] for output in record["outputs"]] == ["a/data.txt", "b/data.txt"]
    assert "hello" in job.logs()
    row = home.index.list()[0]
    assert (row["state"], row["label"]) == ("succeeded", "mine")


@pytest.mark.parametrize(
    ("script", "reason", "code", "exit_code"),
    [
        ("raise no_overlap", Reason.METHOD_FAILED, "no_overlap", 5),
        ("input bad_mesh", Reason.BAD_INPUT, "bad_mesh", 2),
        ("crash", Reason.INTERNAL, "internal", 1),
        ("full", Reason.DISK_FULL, "disk_full", 3),
    ],
)
def test_each_failure_has_its_reason_code_and_exit_code(home: Home, script, reason, code, exit_code):
    job = home.submit(probe("write a", script), resources=small())
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason, status.attempt) == (State.FAILED, reason, 1)
    error = api.error_of(status)
    assert (error.code, error.exit_code) == (code, exit_code)
    assert not job.results.exists()


def test_an_error_keeps_its_details_through_the_job_record(home: Home):
    job = home.submit(probe("input wrong"), resources=small())
    with pytest.raises(InputError) as caught:
        job.result(timeout_s=LIMIT_S)
    error = caught.value
    assert (error.field, error.value, error.expected, error.fix) == ("script", "input wrong", "better", "mend it")


def test_a_crash_leaves_its_traceback_in_the_log(home: Home):
    job = home.submit(probe("crash"), resources=small())
    job.wait(timeout_s=LIMIT_S)
    assert "ZeroDivisionError: a mistake" in job.logs()


def test_items_that_failed_are_not_hidden_behind_success(home: Home):
    status = home.submit(probe("partial", "write a"), resources=small()).wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason) == (State.SUCCEEDED, Reason.ITEMS_FAILED)


def test_the_time_limit_ends_a_job(home: Home):
    job = home.submit(probe("write a", "wait never"), resources=small(timeout_s=1.0))
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)
    assert isinstance(api.error_of(status), LimitError)
    assert "--timeout-s" in str(api.error_of(status).fix)


def test_the_memory_limit_ends_a_job_and_says_so(home: Home):
    job = home.submit(probe("memory 400", "wait never"), resources=small(mem_gb=0.2))
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason) == (State.FAILED, Reason.OUT_OF_MEMORY)
    assert "its limit is 0.2 GB" in api.error_of(status).message


def test_a_queued_job_is_cancelled_without_running(home: Home):
    busy = home.submit(probe("wait go"), resources=small(cpus=1000))
    waiting = home.submit(probe("write a"), resources=small())
    assert waiting.status().state is State.QUEUED
    assert waiting.cancel().state is State.CANCELLED
    go(busy)
    assert busy.wait(timeout_s=LIMIT_S).state is State.SUCCEEDED
    assert counts(waiting, "a") == 0


def test_a_running_job_is_cancelled_and_keeps_nothing_running(home: Home):
    job = home.submit(probe("child", "wait never"), resources=small())
    at_step(job, "wait-never")
    child = psutil.Process(int((job.directory.path / "child").read_text()))
    job.cancel()
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason) == (State.CANCELLED, Reason.CANCELLED_BY_USER)
    assert api.error_of(status).exit_code == 8
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the end of the child")


def test_a_worker_that_ignores_requests_is_killed(home: Home, monkeypatch: pytest.MonkeyPatch):
    job = home.submit(probe("stubborn", "wait never"), resources=small())
    at_step(job, "wait-never")
    worker = processes_of(job)["worker"]
    job.cancel()
    assert job.wait(timeout_s=LIMIT_S).state is State.CANCELLED
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_killed_worker_is_tried_again_and_finished_steps_are_kept(home: Home):
    job = home.submit(probe("write a", "wait go", "write b"), resources=small())
    at_step(job, "wait-go")
    kill(processes_of(job)["worker"])
    until(lambda: len(job.directory.attempts()) == 2 or (home.run_pass() and False), "the second attempt")
    go(job)
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.attempt) == (State.SUCCEEDED, 2)
    assert (counts(job, "a"), counts(job, "b")) == (1, 1)


def test_a_killed_supervisor_takes_its_worker_along(home: Home):
    job = home.submit(probe("write a", "wait go"), resources=small())
    at_step(job, "wait-go")
    found = processes_of(job)
    kill(found["supervisor"])
    until(
        lambda: not found["worker"].is_running() or found["worker"].status() == psutil.STATUS_ZOMBIE,
        "the end of the worker",
    )
    go(job)
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.attempt) == (State.SUCCEEDED, 2)
    assert counts(job, "a") == 1


def test_attempts_are_bounded(home: Home):
    job = home.submit(probe("write a", "die SIGKILL"), resources=small(), max_attempts=2)
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.state, status.reason, status.attempt) == (State.FAILED, Reason.WORKER_KILLED, 2)
    assert counts(job, "a") == 1


def test_wrong_input_is_never_tried_twice(home: Home):
    job = home.submit(probe("input bad"), resources=small(), max_attempts=5)
    job.wait(timeout_s=LIMIT_S)
    home.run_pass()
    assert len(job.directory.attempts()) == 1


def test_retry_goes_on_where_a_cancelled_job_stopped(home: Home):
    job = home.submit(probe("write a", "wait go", "write b"), resources=small())
    at_step(job, "wait-go")
    job.cancel()
    assert job.wait(timeout_s=LIMIT_S).state is State.CANCELLED
    go(job)
    job.retry()
    assert job.wait(timeout_s=LIMIT_S).state is State.SUCCEEDED
    assert counts(job, "a") == 1
    with pytest.raises(InputError) as error:
        job.retry()
    assert error.value.code == "not_retryable"


def test_slots_let_no_more_run_than_fit(home: Home, own_places: Path):
    (own_places.parent / "sites.toml").write_text("[sites.local]\ncpus = 2\nmem_gb = 8\n")
    with contextlib.closing(Home(own_places)) as small_home:
        jobs = [small_home.submit(probe("wait go"), resources=small()) for _ in range(4)]
        reaches(jobs[0], State.RUNNING)
        reaches(jobs[1], State.RUNNING)
        small_home.run_pass()
        assert [job.status().state for job in jobs[2:]] == [State.QUEUED] * 2
        for job in jobs:
            go(job)
        assert [job.wait(timeout_s=LIMIT_S).state for job in jobs] == [State.SUCCEEDED] * 4


def test_the_agent_starts_what_waits_when_nobody_looks(home: Home):
    first = home.submit(probe("wait go"), resources=small(cpus=1000))
    second = home.submit(probe("write a"), resources=small())
    home.keep_going()
    go(first)
    reaches(second, State.SUCCEEDED)
    assert counts(second, "a") == 1


def test_a_job_goes_on_when_its_starter_is_killed(own_places: Path, home: Home):
    code = (
        "from probe_task.spec import Probe; from gnomon.api import Home; import time;"
        "h = Home(); j = h.submit(Probe.parse(script=['write a', 'wait go', 'write b']));"
        "print(j.id, flush=True); j.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        job = home.job(starter.stdout.readline().strip())
        at_step(job, "wait-go")
        starter.kill()
    go(job)
    reaches(job, State.SUCCEEDED)
    assert home.job(job.id).result() == {"done": ["a", "b"]}


def test_a_closed_attempt_cannot_publish_however_late_it_is(home: Home):
    job = home.submit(probe("write a", "wait go", "write b"), resources=small())
    at_step(job, "wait-go")
    attempt = job.directory.newest_attempt()
    assert attempt is not None
    found = processes_of(job)
    os.kill(found["supervisor"].pid, signal.SIGSTOP)
    try:
        # The launcher gave the attempt up while its processes were only asleep.
        attempt.record_exit({"reason": "node_fail", "error": {"code": "node_fail", "message": "unreachable"}})
        until(lambda: len(job.directory.attempts()) == 2 or (home.run_pass() and False), "the second attempt")
        go(job)
        reaches(job, State.SUCCEEDED)
        record = job.directory.read_result()
        assert record is not None
        assert record["attempt"] == 2
    finally:
        os.kill(found["supervisor"].pid, signal.SIGCONT)
    until(lambda: not is_alive(attempt.process() or {}), "the end of the zombie")
    assert job.directory.read_result() == record


def test_reindex_rebuilds_what_was_deleted(home: Home, own_places: Path):
    done = home.submit(probe("write a"), resources=small())
    done.wait(timeout_s=LIMIT_S)
    failed = home.submit(probe("raise nothing"), resources=small())
    failed.wait(timeout_s=LIMIT_S)
    before = {row["id"]: row["state"] for row in home.index.list()}
    home.close()
    for file in own_places.glob("index.sqlite*"):
        file.unlink()
    with contextlib.closing(Home(own_places)) as again:
        assert again.reindex() == 2
        assert {row["id"]: row["state"] for row in again.index.list()} == before
        assert before == {done.id: "succeeded", failed.id: "failed"}


def test_a_running_job_survives_the_loss_of_the_index(home: Home, own_places: Path):
    job = home.submit(probe("wait go", "write a"), resources=small())
    reaches(job, State.RUNNING)
    home.close()
    for file in own_places.glob("index.sqlite*"):
        file.unlink()
    with contextlib.closing(Home(own_places)) as again:
        again.reindex()
        again.run_pass()
        go(job)
        assert again.job(job.id).wait(timeout_s=LIMIT_S).state is State.SUCCEEDED
    assert len(job.directory.attempts()) == 1


def test_a_deleted_index_is_filled_again_by_itself(home: Home, own_places: Path):
    waiting = home.submit(probe("wait go"), resources=small())
    home.close()
    for file in own_places.glob("index.sqlite*"):
        file.unlink()
    with contextlib.closing(Home(own_places)) as again:
        go(waiting)
        assert again.job(waiting.id).wait(timeout_s=LIMIT_S).state is State.SUCCEEDED
        assert [row["id"] for row in again.index.list()] == [waiting.id]


def test_a_damaged_index_is_set_aside(home: Home, own_places: Path):
    job = home.submit(probe("write a"), resources=small())
    job.wait(timeout_s=LIMIT_S)
    home.close()
    for file in own_places.glob("index.sqlite*"):
        file.unlink()
    (own_places / "index.sqlite").write_text("this is no database, and long enough to be noticed as such " * 50)
    with contextlib.closing(Home(own_places)) as again:
        assert [row["state"] for row in again.index.list()] == ["succeeded"]
    assert len(list(own_places.glob("broken-*-index.sqlite"))) == 1


def test_an_index_of_an_older_version_is_made_anew(home: Home, own_places: Path):
    job = home.submit(probe("write a"), resources=small())
    job.wait(timeout_s=LIMIT_S)
    home.close()
    with sqlite3.connect(own_places / "index.sqlite") as connection:
        connection.execute("ALTER TABLE jobs DROP COLUMN gpu_ids")
    connection.close()
    with contextlib.closing(Home(own_places)) as again:
        assert [row["id"] for row in again.index.list()] == [job.id]


def test_a_cancelled_job_whose_supervisor_died_is_cancelled_not_failed(home: Home):
    job = home.submit(probe("stubborn", "wait never"), resources=small())
    at_step(job, "wait-never")
    found = processes_of(job)
    os.kill(found["supervisor"].pid, signal.SIGSTOP)
    job.directory.cancel_marker.touch()
    kill(found["supervisor"])
    assert job.wait(timeout_s=LIMIT_S).state is State.CANCELLED


def test_removing_needs_an_ended_job(home: Home):
    job = home.submit(probe("wait go"), resources=small())
    with pytest.raises(InputError) as error:
        job.remove()
    assert error.value.code == "job_active"
    go(job)
    job.wait(timeout_s=LIMIT_S)
    job.remove()
    assert not job.directory.path.exists()
    assert home.index.list() == []


def test_a_method_that_is_not_installed_is_refused_with_its_remedy(home: Home):
    with pytest.raises(MissingError) as error:
        home.submit(Probe.parse(method="absent"))
    assert error.value.code == "method_not_installed"
    assert error.value.fix == 'pip install "gnomon[probe]"'
    assert home.store.all() == []


def test_more_gpus_than_there_are_is_refused(home: Home):
    with pytest.raises(InputError) as error:
        home.submit(probe(), resources=small(gpus=500))
    assert error.value.code == "resources_too_large"


def test_a_changed_input_is_noticed_by_the_worker(home: Home, tmp_path: Path):
    (tmp_path / "data.txt").write_text("one")
    busy = home.submit(probe("wait go"), resources=small(cpus=1000))
    job = home.submit(Probe.parse(script=["write a"], data=str(tmp_path / "data.txt")), resources=small())
    (job.directory.inputs / "data" / "data.txt").write_text("two")
    go(busy)
    status = job.wait(timeout_s=LIMIT_S)
    assert (status.error or {})["code"] == "input_hash_mismatch"


def test_a_tampered_request_fails_instead_of_waiting_forever(home: Home):
    busy = home.submit(probe("wait go"), resources=small(cpus=1000))
    job = home.submit(probe("write a"), resources=small())
    job.directory.request.chmod(0o644)
    job.directory.request.write_text(job.directory.request.read_text().replace("write a", "write b"))
    go(busy)
    busy.wait(timeout_s=LIMIT_S)
    until(lambda: home.run_pass().unfinished == 0, "the end of the pass")
    assert (job.status().error or {})["code"] == "request_seal_broken"


def test_waiting_has_a_bound_and_the_job_goes_on(home: Home):
    job = home.submit(probe("wait go"), resources=small())
    with pytest.raises(LimitError) as error:
        job.wait(timeout_s=0.2)
    assert error.value.code == "wait_timeout"
    go(job)
    assert job.wait(timeout_s=LIMIT_S).state is State.SUCCEEDED


def test_the_bare_function_runs_a_task_and_raises_its_error(own_places: Path, tmp_path: Path):
    assert api.run(probe("write a"), out=tmp_path / "out") == {"done": ["a"]}
    assert (tmp_path / "out" / "a" / "data.txt").exists()
    with pytest.raises(MethodError) as error:
        api.run(probe("raise no_luck"))
    assert error.value.code == "no_luck"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_kills_loses_nothing_and_publishes_once(home: Home, seed: int):
    """Kill the worker or its supervisor at random moments, staging and publishing included."""
    dice = random.Random(seed)
    names = [f"s{i}" for i in range(6)]
    job = home.submit(probe(*(f"write {name}" for name in names)), resources=small(), max_attempts=100)
    for _ in range(8):
        attempt = job.directory.newest_attempt()
        if job.directory.results.exists() or attempt is None:
            break
        record = until(lambda a=attempt: a.process() or (home.run_pass() and False), "process.json")
        time.sleep(dice.uniform(0.0, 0.35))
        with contextlib.suppress(psutil.Error):
            supervisor = psutil.Process(record["pid"])
            victims = [supervisor, *supervisor.children()]
            kill(dice.choice(victims))
        until(
            lambda a=attempt: (
                job.status().state.is_final or job.directory.newest_attempt() != a or (home.run_pass() and False)
            ),
            "the next attempt",
        )
    status = job.wait(timeout_s=LIMIT_S)
    assert status.state is State.SUCCEEDED
    record = job.directory.read_result()
    assert record is not None
    assert sorted(output["name"] for output in record["outputs"]) == [f"{name}/data.txt" for name in names]
    assert all((job.results / name / "data.txt").read_text() == name * 1000 for name in names)
    assert not list(job.directory.path.glob("attempts/*/out"))
