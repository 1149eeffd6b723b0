"""The job directory: names, ids, claims, and the rename that publishes once."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from gnomon import atomic
from gnomon.context import Context
from gnomon.errors import InputError, NotFound
from gnomon.events import EventLog, EventReader, read_all
from gnomon.job import JobDir, JobStore, Reason, State, is_id, new_id
from gnomon.request import Draft, Request, read
from gnomon.status import derive


def make_job(store: JobStore) -> JobDir:
    draft = Draft(store, new_id())
    return draft.seal(Request(id=draft.id, task="probe", method="plain", params={}, gnomon_version="0"))


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(tmp_path / "home")


@pytest.fixture
def job(store: JobStore) -> JobDir:
    return make_job(store)


def launched(job: JobDir, token: str):
    attempt = job.newest_attempt()
    assert attempt is not None
    assert attempt.claim({"token": token})
    attempt.take_over_out()
    return attempt


def result_of(attempt, text: str) -> None:
    atomic.write_json(
        attempt.out / "result.json",
        {
            "status": "complete",
            "attempt": attempt.number,
            "started_at": "2026-01-01T00:00:00+00:00",
            "ended_at": "2026-01-01T00:00:01+00:00",
            "text": text,
        },
    )


def test_ids_sort_by_time_and_are_recognised():
    ids = [new_id() for _ in range(50)]
    assert all(is_id(made) for made in ids)
    assert [made[:10] for made in ids] == sorted(made[:10] for made in ids)
    assert len(set(ids)) == 50
    assert not is_id(".new-" + ids[0])


def test_a_job_is_found_by_either_end_of_its_id(store: JobStore):
    first, second = make_job(store), make_job(store)
    assert store.find(first.id) == first
    assert store.find(second.id[-6:]) == second
    assert store.find("@last") in (first, second)
    with pytest.raises(NotFound, match="fits 2 jobs") as error:
        store.find(first.id[:5])
    assert error.value.code == "job_ambiguous"
    with pytest.raises(NotFound) as error:
        store.find("nothing")
    assert error.value.code == "job_not_found"


def test_a_draft_is_no_job_until_it_is_sealed(store: JobStore):
    draft = Draft(store, new_id())
    assert store.all() == []
    draft.discard()
    assert list(store.folder.iterdir()) == []


def test_drafts_of_killed_processes_are_swept_up(store: JobStore):
    left, fresh = Draft(store, new_id()), Draft(store, new_id())
    os.utime(left.path, (1, 1))
    store.sweep()
    assert [path.name for path in store.folder.iterdir()] == [fresh.path.name]


def test_a_changed_request_is_noticed(job: JobDir):
    text = job.request.read_text().replace('"plain"', '"other"')
    job.request.chmod(0o644)
    job.request.write_text(text)
    with pytest.raises(InputError) as error:
        read(job)
    assert error.value.code == "request_seal_broken"


def test_only_one_of_many_callers_claims_an_attempt(job: JobDir):
    attempt = job.newest_attempt()
    assert attempt is not None
    wins = []
    threads = [threading.Thread(target=lambda n=n: wins.append(attempt.claim({"token": str(n)}))) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wins) == [False] * 15 + [True]


def test_only_one_of_many_callers_adds_an_attempt(job: JobDir):
    assert job.add_attempt() is not None
    made = job.attempt(3)
    made.path.mkdir()
    assert len(job.attempts()) == 3


def test_publishing_is_one_rename_and_happens_once(job: JobDir):
    attempt = launched(job, "a")
    result_of(attempt, "first")
    assert derive(job).state is State.LAUNCHING
    assert attempt.publish("a")
    assert derive(job).state is State.SUCCEEDED
    assert not attempt.publish("a")
    assert (job.read_result() or {})["text"] == "first"


def test_a_wrong_token_never_publishes(job: JobDir):
    attempt = launched(job, "a")
    result_of(attempt, "first")
    assert not attempt.publish("b")
    assert not job.results.exists()


def test_a_successor_takes_the_work_over_and_fences_its_predecessor(job: JobDir):
    zombie = launched(job, "a")
    (zombie.out / "step").write_text("done")
    result_of(zombie, "late")
    zombie.record_exit({"reason": "worker_killed"})
    job.add_attempt()
    successor = launched(job, "b")
    assert (successor.out / "step").read_text() == "done"
    # Even a zombie that passed its last check before the takeover has lost the folder it would rename.
    with pytest.raises(FileNotFoundError):
        zombie.out.rename(job.results)
    assert not zombie.publish("a")
    result_of(successor, "right")
    assert successor.publish("b")
    assert (job.read_result() or {})["text"] == "right"


def test_a_fenced_worker_cannot_make_its_folder_again(job: JobDir, tmp_path: Path):
    zombie = launched(job, "a")
    log = EventLog(zombie.events)
    context = Context(zombie, log, (), cpus=1, seed=0, cache=tmp_path, check_cancelled=lambda: None)
    with context.new_folder("deep/er/one") as folder:
        (folder / "data").touch()
    assert (zombie.out / "deep" / "er" / "one" / "data").exists()
    job.add_attempt()
    launched(job, "b")
    for name in ("two", "deep/two"):
        with pytest.raises(FileNotFoundError), context.new_folder(name):
            pass
    assert not zombie.out.exists()
    log.close()


def test_an_attempt_that_was_closed_does_not_publish(job: JobDir):
    attempt = launched(job, "a")
    result_of(attempt, "late")
    attempt.record_exit({"reason": "timeout"})
    assert not attempt.publish("a")


def test_the_first_account_of_an_ending_stands(job: JobDir):
    attempt = launched(job, "a")
    assert attempt.record_exit({"reason": "timeout", "error": {"code": "timeout", "message": "m"}})
    assert not attempt.record_exit({"reason": "worker_killed"})
    status = derive(job)
    assert (status.state, status.reason) == (State.FAILED, Reason.TIMEOUT)


def test_states_follow_the_files(job: JobDir):
    assert derive(job).state is State.QUEUED
    job.cancel_marker.touch()
    assert derive(job).state is State.CANCELLED
    job.cancel_marker.unlink()
    attempt = launched(job, "a")
    log = EventLog(attempt.events)
    for state in (State.STAGING, State.RUNNING, State.PUBLISHING):
        log.write("state", state=state.value)
        assert derive(job).state is state
    log.close()
    attempt.record_exit({"reason": "out_of_memory", "error": {"code": "out_of_memory", "message": "m"}})
    assert derive(job).reason is Reason.OUT_OF_MEMORY


def test_progress_is_that_of_the_newest_step(job: JobDir):
    attempt = launched(job, "a")
    log = EventLog(attempt.events)
    log.write("step", step="one", index=1, count=2)
    log.progress("one", 5, 10, "view")
    log.write("step", step="two", index=2, count=2)
    progress = derive(job).progress
    assert progress is not None
    assert (progress.step, progress.done) == ("two", 0)
    log.progress("two", 10, 10, "view")
    log.close()
    progress = derive(job).progress
    assert progress is not None
    assert (progress.done, progress.total) == (10, 10)


def test_many_progress_calls_write_few_lines(tmp_path: Path):
    log = EventLog(tmp_path / "events.jsonl")
    for done in range(10_000):
        log.progress("step", done, 10_000, "view")
    log.progress("step", 10_000, 10_000, "view")
    log.close()
    events = read_all(tmp_path / "events.jsonl")
    assert len(events) < 100
    assert events[-1]["done"] == 10_000


def test_a_torn_line_does_not_hide_the_others(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event": "a"}\n{"ev\n{"event": "b"}\n{"event": "unfinis')
    reader = EventReader(path)
    assert [event["event"] for event in reader.new()] == ["a", "b"]
    with path.open("ab") as stream:
        stream.write(b'hed"}\n')
    assert [event["event"] for event in reader.new()] == ["unfinished"]


def test_atomic_files_leave_nothing_behind_on_failure(tmp_path: Path):
    with pytest.raises(ValueError, match="Out of range"):
        atomic.write_json(tmp_path / "x.json", {"value": float("nan")})
    assert list(tmp_path.glob("*.json*")) == []
    assert atomic.create_json(tmp_path / "y.json", 1)
    assert not atomic.create_json(tmp_path / "y.json", 2)
    assert atomic.read_json(tmp_path / "y.json") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["y.json"]


def test_a_submission_is_private_and_there_when_the_job_is(store: JobStore):
    draft = Draft(store, new_id())
    request = Request(id=draft.id, task="probe", method="plain", params={}, gnomon_version="0")
    job = draft.seal(request, submission={"owner": "t1", "idempotency_key": "k"})
    assert job.submission() == {"owner": "t1", "idempotency_key": "k"}
    assert (job.path / "submission.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        job.keep_submission({"owner": "another"})


def test_a_job_without_a_submission_has_an_empty_one(job: JobDir):
    assert job.submission() == {}
