"""What a sweep removes and what it never does, with jobs that real workers made; and what the disk usage says."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from probe_task.spec import Probe
from waiting import until

from gnomon.api import Home, Job
from gnomon.job import State
from gnomon.server.disk_usage import FolderSize, SizeCache, Tally, measure
from gnomon.server.retention import SPARED_AFTER_END_S, Retention, RetentionPolicy
from gnomon.server.uploads import UploadStore

DAY_S = 86400.0
HOUR_S = 3600.0


@pytest.fixture
def uploads(home: Home) -> UploadStore:
    return UploadStore(home.path, max_bytes=10**9, max_total_bytes=10**9, min_free_bytes=0)


def finished(home: Home, *script: str) -> Job:
    job = home.submit(Probe(script=list(script)))
    job.wait()
    return job


def end_of(job: Job) -> float:
    found = job.status().ended_at
    assert found is not None
    return found


def exists(job: Job) -> bool:
    in_index = job.id in job.home.index.ids()
    assert in_index == job.directory.path.exists()
    return in_index


def keep_upload(store: UploadStore, data: bytes) -> Path:
    upload = store.begin(None, length=len(data))
    assert upload is not None
    upload.write(data)
    state, _ = upload.finish()
    return store.path(state.sha256)


def set_age(path: Path, now: float, age_s: float) -> None:
    os.utime(path, (now - age_s, now - age_s))


# By age


def test_nothing_but_uploads_is_removed_unless_it_is_said(home: Home, uploads: UploadStore):
    job = finished(home, "write a")
    upload = keep_upload(uploads, b"x" * 5000)
    now = end_of(job) + 1000 * DAY_S
    swept = Retention(RetentionPolicy(), home, uploads).sweep(now)
    assert (swept.jobs, swept.uploads, swept.freed_bytes) == (0, 1, 5000)
    assert exists(job)
    assert not upload.exists()


def test_jobs_go_when_their_days_are_over(home: Home, uploads: UploadStore):
    job = finished(home, "write a")
    retention = Retention(RetentionPolicy(keep_days=2), home, uploads)
    assert retention.sweep(end_of(job) + 2 * DAY_S - 1).jobs == 0
    assert exists(job)
    swept = retention.sweep(end_of(job) + 2 * DAY_S + 1)
    assert swept.jobs == 1
    assert swept.freed_bytes > 1000
    assert not exists(job)
    assert retention.sweep(1e12).jobs == 0


@pytest.mark.parametrize(
    ("policy", "failed_stays", "good_stays"),
    [
        (RetentionPolicy(keep_days=10, keep_failed_days=1), False, True),
        (RetentionPolicy(keep_days=1, keep_failed_days=10), True, False),
        (RetentionPolicy(keep_days=1), False, False),
        (RetentionPolicy(keep_failed_days=1), False, True),
    ],
)
def test_failed_jobs_may_have_a_time_of_their_own(
    home: Home, uploads: UploadStore, policy: RetentionPolicy, failed_stays: bool, good_stays: bool
):
    failed = finished(home, "raise method_failed")
    good = finished(home, "write a")
    Retention(policy, home, uploads).sweep(end_of(good) + 2 * DAY_S)
    assert (exists(failed), exists(good)) == (failed_stays, good_stays)


def test_a_job_that_was_cancelled_while_it_waited_counts_from_then(home: Home, uploads: UploadStore):
    blocker = home.submit(Probe(script=["wait go"]), resources=all_cores())
    job = home.submit(Probe(script=["write a"]), resources=all_cores())
    assert job.status().state is State.QUEUED
    job.cancel()
    cancelled_at = job.directory.cancel_marker.stat().st_mtime
    retention = Retention(RetentionPolicy(keep_days=1), home, uploads)
    late = cancelled_at + 5 * DAY_S
    os.utime(job.directory.cancel_marker, (late, late))
    retention.sweep(late + 0.5 * DAY_S)
    assert exists(job)
    retention.sweep(late + 1.5 * DAY_S)
    assert not exists(job)
    (blocker.directory.path / "go").touch()
    blocker.wait()


def all_cores():
    from gnomon.request import Resources

    return Resources(cpus=len(os.sched_getaffinity(0)))


# Never


def test_jobs_that_have_not_ended_always_stay(home: Home, uploads: UploadStore):
    running = home.submit(Probe(script=["wait go", "write a"]), resources=all_cores())
    queued = home.submit(Probe(script=["write b"]), resources=all_cores())
    until(lambda: running.status().state is State.RUNNING, "the job to run")
    home.run_pass()
    Retention(RetentionPolicy(keep_days=1e-9, keep_failed_days=1e-9, disk_gb=1e-9), home, uploads).sweep(1e12)
    assert exists(running)
    assert exists(queued)
    (running.directory.path / "go").touch()
    assert running.wait().state is State.SUCCEEDED
    assert queued.wait().state is State.SUCCEEDED


def test_a_job_that_runs_again_is_not_removed_though_the_index_says_it_ended(home: Home, uploads: UploadStore):
    job = finished(home, "raise method_failed")
    # Another process has just asked for a retry, and the index has not heard of it.
    job.directory.add_attempt()
    assert Retention(RetentionPolicy(keep_days=1), home, uploads).sweep(1e12).jobs == 0
    assert exists(job)


def test_held_jobs_stay_until_they_are_let_go(home: Home, uploads: UploadStore):
    held, free = finished(home, "write a"), finished(home, "write a")
    holding = {held.id}
    policy = RetentionPolicy(keep_days=1, disk_gb=1e-9)
    retention = Retention(policy, home, uploads, is_held=lambda job_id: job_id in holding)
    assert retention.sweep(1e12).jobs == 1
    assert exists(held)
    assert not exists(free)
    holding.clear()
    assert retention.sweep(1e12).jobs == 1
    assert not exists(held)


def test_a_download_that_has_begun_is_read_to_its_end(home: Home, uploads: UploadStore):
    job = finished(home, "write a")
    with (job.results / "a" / "data.txt").open("rb", buffering=0) as stream:
        stream.read(10)
        assert Retention(RetentionPolicy(keep_days=1), home, uploads).sweep(1e12).jobs == 1
        assert stream.read(5000) == b"a" * 990
    assert list(home.store.folder.iterdir()) == []


def test_a_folder_that_is_gone_leaves_the_index_and_harms_nobody(home: Home, uploads: UploadStore):
    gone, other = finished(home, "write a"), finished(home, "write a")
    gone.directory.path.rename(home.path / "elsewhere")
    assert Retention(RetentionPolicy(keep_days=1), home, uploads).sweep(1e12).jobs == 1
    assert home.index.ids() == set()
    assert not exists(other)


def test_a_damaged_job_stays_and_harms_nobody(home: Home, uploads: UploadStore):
    damaged, other = finished(home, "write a"), finished(home, "write a")
    result = damaged.directory.result_file
    result.chmod(0o600)
    result.write_text("{")
    assert Retention(RetentionPolicy(keep_days=1), home, uploads).sweep(1e12).jobs == 1
    assert exists(damaged)
    assert not exists(other)


# For space


def test_the_oldest_finished_jobs_go_until_there_is_room(home: Home, uploads: UploadStore):
    jobs = [finished(home, "write a") for _ in range(4)]
    for job in jobs:
        (job.directory.path / "ballast").write_bytes(b"x" * 1_000_000)
    now = end_of(jobs[-1]) + SPARED_AFTER_END_S + 1
    swept = Retention(RetentionPolicy(disk_gb=2.5e-3), home, uploads).sweep(now)
    assert swept.jobs == 2
    assert 2_000_000 < swept.freed_bytes < 2_500_000
    assert [exists(job) for job in jobs] == [False, False, True, True]


def test_a_job_that_has_just_ended_is_not_removed_for_space(
    home: Home, uploads: UploadStore, caplog: pytest.LogCaptureFixture
):
    job = finished(home, "write a")
    retention = Retention(RetentionPolicy(disk_gb=1e-9), home, uploads)
    assert retention.sweep(end_of(job) + SPARED_AFTER_END_S - 1).jobs == 0
    assert "nothing more may be removed" in caplog.text
    assert retention.sweep(end_of(job) + SPARED_AFTER_END_S + 1).jobs == 1


def test_a_shared_file_counts_once_and_is_freed_with_its_last_user(home: Home, uploads: UploadStore):
    jobs = [finished(home, "write a") for _ in range(2)]
    upload = keep_upload(uploads, b"x" * 1_000_000)
    for job in jobs:
        os.link(upload, job.directory.path / "linked")
    retention = Retention(RetentionPolicy(disk_gb=1e-9, keep_uploads_hours=1), home, uploads)
    usage = retention.usage()
    assert 1_000_000 <= usage["jobs"] < 1_500_000
    assert usage["uploads"] < 100_000
    now = end_of(jobs[-1]) + SPARED_AFTER_END_S + 1
    set_age(upload, now, 0)
    kept = retention.sweep(now)
    assert (kept.jobs, kept.uploads) == (2, 0)
    assert kept.freed_bytes < 500_000
    set_age(upload, now, 2 * HOUR_S)
    assert retention.sweep(now).freed_bytes == 1_000_000


# Uploads


def test_uploads_go_when_nobody_has_used_them_and_jobs_keep_theirs(home: Home, uploads: UploadStore, tmp_path: Path):
    now = 2e9
    used, unused = keep_upload(uploads, b"used"), keep_upload(uploads, b"unused")
    uploads.lay_out({"x": used.name}, tmp_path / "job")
    set_age(used, now, 25 * HOUR_S)
    set_age(unused, now, 23 * HOUR_S)
    swept = Retention(RetentionPolicy(), home, uploads).sweep(now)
    assert (swept.uploads, swept.freed_bytes) == (1, 0)
    assert (tmp_path / "job" / "x").read_bytes() == b"used"
    assert unused.exists()


def test_parts_of_files_go_a_day_after_the_last_byte(home: Home, uploads: UploadStore):
    upload = uploads.begin("0" * 64, length=10)
    assert upload is not None
    upload.write(b"123")
    upload.close()
    now = 2e9
    retention = Retention(RetentionPolicy(keep_uploads_hours=1), home, uploads)
    set_age(upload.path, now, 23 * HOUR_S)
    assert retention.sweep(now).uploads == 0
    set_age(upload.path, now, 25 * HOUR_S)
    assert retention.sweep(now).uploads == 1
    assert uploads.used_bytes == 0


# Sizes


def test_usage_is_what_the_disk_says(home: Home, uploads: UploadStore):
    job = finished(home, "write a")
    (job.directory.path / "sparse").touch()
    os.truncate(job.directory.path / "sparse", 1 << 30)
    (job.directory.path / "link").symlink_to("/")
    keep_upload(uploads, b"x" * 200_000)
    usage = Retention(RetentionPolicy(), home, uploads).usage()
    assert 2000 < usage["jobs"] < 1_000_000
    assert 200_000 <= usage["uploads"] < 300_000
    assert usage["free"] > 0


def test_what_does_not_change_is_measured_once(tmp_path: Path):
    cache = SizeCache()
    (tmp_path / "job").mkdir()
    before = cache.size(tmp_path / "job", ("succeeded", 1))
    (tmp_path / "job" / "a").write_bytes(b"x" * 10_000)
    assert cache.size(tmp_path / "job", ("succeeded", 1)) == before
    assert cache.size(tmp_path / "job", None).own_bytes > before.own_bytes
    assert cache.size(tmp_path / "job", ("succeeded", 2)).own_bytes > before.own_bytes
    cache.forget_all_but([])
    assert cache.size(tmp_path / "job", ("succeeded", 2)).own_bytes > before.own_bytes


def test_a_tally_counts_shared_files_once():
    tally = Tally()
    one, two = FolderSize(10, ((1, 5, 100),)), FolderSize(20, ((1, 5, 100), (1, 6, 1000)))
    tally.add(one)
    tally.add(two)
    assert tally.total_bytes == 1130
    assert tally.remove(two) == 1020
    assert tally.remove(one) == 110
    assert tally.total_bytes == 0


def test_measuring_a_folder_that_vanishes_is_no_error(tmp_path: Path):
    assert measure(tmp_path / "none") == FolderSize()
    for number in range(300):
        (tmp_path / "job" / str(number)).mkdir(parents=True)
        (tmp_path / "job" / str(number) / "x").touch()

    def remove() -> None:
        for number in range(300):
            (tmp_path / "job" / str(number) / "x").unlink()
            (tmp_path / "job" / str(number)).rmdir()

    thread = threading.Thread(target=remove)
    thread.start()
    while thread.is_alive():
        measure(tmp_path / "job")
    thread.join()
    assert measure(tmp_path / "job").linked == ()
