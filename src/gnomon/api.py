"""The main path: submit a spec, wait for it, read its result. The command line and servers call these too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gnomon import __version__, inputs, paths, request
from gnomon import export as exporting
from gnomon.errors import ExecutorError, GnomonError, InputError, LimitError, MissingError, from_dict
from gnomon.events import EventReader
from gnomon.executors import agent_lock
from gnomon.index import open_or_rebuild
from gnomon.job import JobDir, JobStore, State, new_id
from gnomon.reconcile import Pass, Reconciler, deserves_retry
from gnomon.request import Draft, Request, Resources
from gnomon.site import get_site
from gnomon.status import Status, derive
from gnomon.tasks import get_task
from gnomon.tasks.spec import TaskSpec

WAIT_POLL_S = 0.05
PASS_INTERVAL_S = 0.5


class Home:
    """The jobs of one user on this machine. Most people never make one: the functions below use the default."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or paths.home_dir()
        # Inputs and results are the user's own; nobody else on the machine needs to read them.
        _make_folder(self.path)
        self.store = JobStore(self.path)
        self.reconciler = Reconciler(self.path, open_or_rebuild(self.path))
        self.index = self.reconciler.index
        if self.index.is_new:
            self.reindex()

    def close(self) -> None:
        self.index.close()

    def submit(
        self,
        spec: TaskSpec,
        *,
        site: str = "local",
        resources: Resources | None = None,
        seed: int = 0,
        label: str | None = None,
        max_attempts: int = 3,
        allow_private_urls: bool = False,
        submission: Mapping[str, Any] | None = None,
        hashes: Mapping[Path, str] | None = None,
        start: bool = True,
    ) -> Job:
        """Seal the spec with copies of its inputs into a job, and start it as soon as the site has room.

        A server says in `submission` who asked and whom to tell, in `hashes` which inputs never change (sha256 by
        path; they are linked), and starts jobs itself.

        Raises:
            InputError: an input is missing or of the wrong kind, or the site cannot ever run the job.
            MissingError: the method is not installed (code `method_not_installed`), or the disk is full.
        """
        where = get_site(self.reconciler.sites, site)
        task = get_task(spec.task)
        task.method(spec.method).require(paths.cache_dir())
        capacity = where.launcher.capacity()
        resources = resources or spec.default_resources(capacity.cpus, capacity.mem_gb)
        _check_resources(resources, capacity.gpus)
        try:
            draft = Draft(self.store, new_id())
            try:
                collected = inputs.collect(spec, draft.inputs, hashes)
                sealed = Request(
                    id=draft.id,
                    task=spec.task,
                    method=spec.method,
                    params=collected.params,
                    inputs=collected.files,
                    resources=resources,
                    seed=seed,
                    site=site,
                    label=label,
                    max_attempts=max_attempts,
                    allow_private_urls=allow_private_urls,
                    gnomon_version=__version__,
                ).sealed()
                directory = draft.seal(sealed, collected.urls, submission)
            except BaseException:
                draft.discard()
                raise
        except OSError as error:
            raise inputs.disk_error(error, self.store.folder / "x") from error
        # What was written a moment ago need not be read again.
        self.index.add(sealed, Status(id=sealed.id, state=State.QUEUED, attempt=1), submission)
        if start:
            self.reconciler.run_pass()
        return Job(self, directory, sealed)

    def job(self, text: str) -> Job:
        """The job with this id, or with an id that starts or ends so; `@last` is the newest."""
        return Job(self, self.store.find(text))

    def run_pass(self) -> Pass:
        return self.reconciler.run_pass()

    def keep_going(self) -> None:
        """Leave unfinished jobs to the agent, so that this process may end."""
        if self.run_pass().unfinished:
            agent_lock.spawn_if_free(self.path)

    def reindex(self) -> int:
        """Rebuild the index from the job folders and return how many jobs there are."""
        entries = []
        for job in self.store.all():
            try:
                entries.append((request.read(job), derive(job), job.submission()))
            except (GnomonError, ValueError):
                # A damaged folder is no reason to forget the others; `gnomon show` says what is wrong with it.
                continue
        return self.index.rebuild(entries)

    def ensure_indexed(self) -> None:
        """Notice job folders that the index has not heard of (it was deleted, or they were copied here)."""
        self.store.sweep()
        known = self.index.ids()
        for job in self.store.all():
            if job.id not in known:
                try:
                    self.index.add(request.read(job), derive(job), job.submission())
                except (GnomonError, ValueError):
                    continue


class Job:
    """A handle on one job. All it knows is in the job's folder; handles can be made and thrown away freely."""

    def __init__(self, home: Home, directory: JobDir, sealed: Request | None = None) -> None:
        self.home = home
        self.directory = directory
        self._request = sealed

    @property
    def id(self) -> str:
        return self.directory.id

    def __repr__(self) -> str:
        return f"Job({self.id!r}, state={self.status().state.value!r})"

    def request(self) -> Request:
        """What was asked for. It is sealed, so one look is enough."""
        if self._request is None:
            self._request = request.read(self.directory)
        return self._request

    def status(self) -> Status:
        return derive(self.directory)

    def events(self, *, follow: bool = True, timeout_s: float | None = None) -> Iterator[dict[str, Any]]:
        """The job's events in order, over all attempts; with `follow` until it ends.

        While it waits it does the reconciler's passes, so a retry or a freed slot is acted on.

        Raises:
            LimitError: code `wait_timeout`, when `timeout_s` is over first. The job goes on.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        readers: dict[int, EventReader] = {}
        next_pass = 0.0
        while True:
            status = self.status()
            for attempt in self.directory.attempts():
                yield from readers.setdefault(attempt.number, EventReader(attempt.events)).new()
            if not follow or (status.state.is_final and self.is_settled(status)):
                return
            now = time.monotonic()
            if deadline is not None and now > deadline:
                raise LimitError(f"job {self.id} is still {status.state.value}", code="wait_timeout")
            if now >= next_pass:
                self.home.run_pass()
                next_pass = now + PASS_INTERVAL_S
            time.sleep(WAIT_POLL_S)

    def wait(
        self,
        *,
        timeout_s: float | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Status:
        """Block until the job has ended, and return how.

        Raises:
            LimitError: code `wait_timeout`, when `timeout_s` is over first. The job goes on.
        """
        for event in self.events(timeout_s=timeout_s):
            if on_event is not None:
                on_event(event)
        status = self.status()
        self.home.index.update(status)
        return status

    def result(self, *, timeout_s: float | None = None) -> Any:
        """Wait for the job and return its typed result; raise the error it failed with."""
        return read_result(self.directory, self.wait(timeout_s=timeout_s))

    @property
    def results(self) -> Path:
        """The folder of the published results."""
        return self.directory.results

    def logs(self, attempt: int | None = None) -> str:
        """What the worker of the newest (or the given) attempt printed."""
        found = self.directory.attempt(attempt) if attempt is not None else self.directory.newest_attempt()
        if found is None or not found.log.exists():
            return ""
        return found.log.read_text("utf-8", errors="replace")

    def cancel(self) -> Status:
        """Ask for the job's end. A job that has its results keeps them."""
        if not self.status().state.is_final:
            self.directory.cancel_marker.touch()
        self.home.reconciler.touch(self.id)
        self.home.run_pass()
        return self.status()

    def retry(self, *, start: bool = True) -> Status:
        """Make another attempt; finished steps are not done again.

        Raises:
            InputError: code `not_retryable`, when the job has succeeded or has not ended yet.
        """
        status = self.status()
        partial = status.state is State.SUCCEEDED
        if not status.state.is_final or partial:
            raise InputError(
                f"job {self.id} is {status.state.value}",
                code="not_retryable",
                field="job",
                value=self.id,
                expected="a job that failed or was cancelled",
                fix="submit it again to have it done anew" if partial else "cancel it first, or wait",
            )
        self.directory.cancel_marker.unlink(missing_ok=True)
        newest = self.directory.newest_attempt()
        if newest is None or newest.launch() is not None:
            self.directory.add_attempt()
        self.home.index.add(self.request(), derive(self.directory), self.directory.submission())
        if start:
            self.home.run_pass()
        return self.status()

    def fetch(self, target: Path | str, *, overwrite: bool = False) -> Path:
        """Copy the results into a folder; nothing half-written is ever visible there."""
        status = self.status()
        if status.state is not State.SUCCEEDED:
            raise InputError(
                f"job {self.id} has no results: it is {status.state.value}",
                code="no_results",
                field="job",
                value=self.id,
                fix=f"gnomon wait {self.id}" if not status.state.is_final else f"gnomon show {self.id}",
            )
        return exporting.export_results(self.results, Path(target), overwrite=overwrite)

    def remove(self) -> None:
        """Delete the job with everything in it.

        Raises:
            InputError: code `job_active`, while something may still work on it.
        """
        import shutil

        if not self.status().state.is_final:
            raise InputError(
                f"job {self.id} has not ended",
                code="job_active",
                field="job",
                value=self.id,
                fix=f"gnomon cancel {self.id}",
            )
        # Renamed first, so that a half-deleted folder is never taken for a job.
        doomed = self.directory.path.with_name(f".removed-{self.id}")
        self.directory.path.rename(doomed)
        self.home.index.remove(self.id)
        shutil.rmtree(doomed, ignore_errors=True)

    def is_settled(self, status: Status) -> bool:
        """A transient failure is not the end while the reconciler still owes the job another attempt."""
        if status.state is not State.FAILED or status.reason is None or not status.reason.is_transient:
            return True
        self.home.run_pass()
        return self.status().state.is_final

    def is_owed_a_retry(self, status: Status) -> bool:
        """Whether the reconciler will make another attempt by itself."""
        return deserves_retry(self.directory, status, self.request().max_attempts)


def submit(spec: TaskSpec, **options: Any) -> Job:
    """Start a job in the background and return its handle; options as in `Home.submit`.

    The job goes on when this process ends.
    """
    home = Home()
    job = home.submit(spec, **options)
    home.keep_going()
    return job


def run(spec: TaskSpec, *, out: Path | str | None = None, overwrite: bool = False, **options: Any) -> Any:
    """Run a job to its end and return the task's typed result; with `out`, also copy its files there.

    Raises:
        GnomonError: the error the job failed with, the same as the command line and the servers report.
    """
    if out is not None:
        exporting.check_target(Path(out), overwrite=overwrite)
    home = Home()
    job = home.submit(spec, **options)
    result = job.result()
    if out is not None:
        job.fetch(out, overwrite=overwrite)
    return result


def read_result(directory: JobDir, status: Status) -> Any:
    """The typed result of a job that has ended, or its error raised."""
    if status.state is not State.SUCCEEDED:
        raise error_of(status)
    record = directory.read_result() or {}
    return get_task(record["task"]).spec().read_result(record["result"], directory.results)


def error_of(status: Status) -> GnomonError:
    """The error a failed or cancelled job ended with."""
    if status.error is not None:
        return from_dict(status.error)
    if status.state is State.CANCELLED:
        return from_dict({"code": "cancelled_by_user", "message": f"job {status.id} was cancelled", "exit_code": 8})
    return ExecutorError(f"job {status.id} is {status.state.value}", code=status.reason or "launch_failed")


def _make_folder(home: Path) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise MissingError(
            f"gnomon's home {home} cannot be made: {error.strerror}",
            code="home_unavailable",
            field="GNOMON_HOME",
            value=str(home),
            expected="a folder that can be written",
            fix="set GNOMON_HOME to another place",
        ) from None


def _check_resources(resources: Resources, gpus: int) -> None:
    if resources.gpus > gpus:
        raise InputError(
            f"the job wants {resources.gpus} GPUs and the site has {gpus}",
            code="resources_too_large",
            field="gpus",
            value=resources.gpus,
            expected=f"at most {gpus}",
        )
