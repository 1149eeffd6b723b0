"""The functions behind every route of /v1 and of the facades. They block for moments; routes run them in threads."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.concurrency import run_in_threadpool

from gnomon import atomic
from gnomon.api import Home, Job
from gnomon.errors import GnomonError, InputError, NotFound
from gnomon.executors.local import LocalLauncher
from gnomon.job import State, is_id
from gnomon.request import Resources
from gnomon.server import bounds, zipped
from gnomon.server.access import Caller
from gnomon.server.engine import Engine
from gnomon.server.orders import Order, resources_of
from gnomon.server.problem import HttpError
from gnomon.server.queueing import QueueFull, QueueLengths
from gnomon.server.retention import Retention, RetentionPolicy
from gnomon.server.settings import ServerSettings
from gnomon.server.uploads import UploadStore
from gnomon.server.views import JobDetail, JobPage, detail_of, view_of, view_of_row
from gnomon.server.webhooks import Webhooks, check_url
from gnomon.site import get_site
from gnomon.status import Status, derive
from gnomon.tasks.spec import TaskSpec

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from gnomon.executors.warm import WarmPool

T = TypeVar("T")

KEY_LOCKS = 64
LOOK_INTERVAL_S = 1.0
MOST_TOLD = 100_000
ANNOUNCE_OVERLAP_S = 15.0
"""Ends are looked for again over this long: an end is written down a while after it happened."""


class Service:
    """One server's jobs: submit, look, wait, end, repeat, delete."""

    def __init__(self, settings: ServerSettings, home: Home) -> None:
        self.settings = settings
        self.home = home
        self.engine = Engine(home.reconciler)
        self._queue = QueueLengths(home.index)
        self.uploads = UploadStore(
            home.path,
            max_bytes=int(settings.max_upload_gb * 1e9),
            max_total_bytes=int(settings.uploads_gb * 1e9),
            read_timeout_s=settings.read_timeout_s,
        )
        self.webhooks = Webhooks(home.path, allow_private=settings.allow_private_webhooks)
        self.retention = Retention(
            RetentionPolicy(
                keep_days=settings.keep_days,
                keep_failed_days=settings.keep_failed_days,
                disk_gb=settings.disk_gb,
                keep_uploads_hours=settings.keep_uploads_hours,
            ),
            home,
            self.uploads,
            lambda job_id: job_id in self._packed or self.webhooks.is_held(job_id),
        )
        self.pool: WarmPool | None = None
        self.answered: Counter[int] = Counter()
        self._told: dict[str, tuple[int, str]] = {}
        """Ends (attempt, state) that webhooks know of, so that the search for missed ones passes over them."""
        self._packed: Counter[str] = Counter()
        """Jobs whose results are being packed for somebody: they are not deleted meanwhile."""
        self.started_at = time.time()
        self.is_closing = False
        self._staging = home.path / "server" / "staging"
        self._key_locks = [threading.Lock() for _ in range(KEY_LOCKS)]
        # What a killed server was laying out is of no use to anybody.
        shutil.rmtree(self._staging, ignore_errors=True)

    def use_pool(self, pool: WarmPool) -> None:
        """Let the local site's jobs run in warm workers."""
        self.pool = pool
        launcher = self.home.reconciler.sites["local"].launcher
        assert isinstance(launcher, LocalLauncher)
        launcher.use_pool(pool)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        self.engine.listeners.append(self._announce)
        if self.pool is not None:
            self.pool.start()
        self.engine.start(loop)

    def stop(self) -> None:
        """Let go of everything; jobs that run go on by themselves."""
        self.engine.stop()
        if self.pool is not None:
            self.pool.stop()

    def sweep(self) -> None:
        """Delete what the retention policy says."""
        self.retention.sweep(time.time())

    def announce_missed(self) -> None:
        """Tell of jobs whose end another process noticed first, or that ended while no server ran."""
        record = self.home.path / "server" / "announced.json"
        began = time.time()
        since = (atomic.read_json(record) or {"until": began})["until"]
        for row in self.home.index.ended_since(since - ANNOUNCE_OVERLAP_S):
            if self._told.get(row["id"]) != (row["attempt"], row["state"]):
                self._announce(derive(self.home.store.job(row["id"])))
        record.parent.mkdir(mode=0o700, exist_ok=True)
        atomic.write_json(record, {"until": began})

    def submit_order(self, order: Order, caller: Caller, idempotency_key: str | None) -> tuple[Job, bool]:
        """Make a job of an order; with a key that was used before, give the job it made then.

        Returns the job, and whether it was made now.

        Raises:
            GnomonError: the order is wrong, the queue is full, or the key stands for another order.
        """
        order.check_names(self.settings.max_files)
        if order.webhook_url is not None:
            check_url(order.webhook_url, "webhook_url", allow_private=self.settings.allow_private_webhooks)
        fingerprint = order.fingerprint() if idempotency_key is not None else None
        with self._one_at_a_time(caller.owner, idempotency_key):
            if idempotency_key is not None:
                known = self.home.index.find_key(caller.owner, idempotency_key)
                if known is not None:
                    return self._same_order(known, fingerprint), False
            self.check_room(caller.owner)
            with self._staged(order) as (folder, hashes):
                spec = order.spec(folder)
                resources = self._resources(spec, order)
                job = self.submit_spec(
                    spec,
                    caller,
                    via="v1",
                    site=order.site,
                    resources=resources,
                    seed=order.seed,
                    label=order.label,
                    max_attempts=order.max_attempts,
                    hashes=hashes,
                    submission={
                        "idempotency_key": idempotency_key,
                        "fingerprint": fingerprint,
                        "webhook_url": order.webhook_url,
                    },
                )
            return job, True

    def submit_spec(
        self,
        spec: TaskSpec,
        caller: Caller,
        *,
        via: str,
        submission: Mapping[str, Any] | None = None,
        hashes: Mapping[Path, str] | None = None,
        **options: Any,
    ) -> Job:
        """Seal a spec whose inputs are files of this machine that the server itself put there, and wake the engine.

        `hashes` are the sha256 of inputs that will never change any more: these are linked instead of copied.
        """
        self._check_open()
        job = self.home.submit(
            spec,
            start=False,
            hashes=hashes,
            submission={"owner": caller.owner, "via": via, **(submission or {})},
            allow_private_urls=self.settings.allow_private_urls,
            **options,
        )
        self.engine.wake()
        return job

    def job(self, job_id: str, caller: Caller) -> Job:
        """The job, if the caller may see it; one that belongs to somebody else does not exist for them."""
        if is_id(job_id):
            job = Job(self.home, self.home.store.job(job_id))
            if job.directory.request.exists() and caller.sees(self.owner_of(job)):
                return job
        raise NotFound(
            f"there is no job {job_id!r}",
            code="job_not_found",
            field="job",
            value=job_id,
            expected="the id of a job of yours",
            fix="GET /v1/jobs lists them",
        )

    async def wait(self, job: Job, timeout_s: float) -> Status:
        """The job's status when it has ended for good, or after so many seconds."""
        deadline = time.monotonic() + timeout_s
        with self.engine.watching(job.id) as changed:
            while True:
                changed.clear()
                status = await self.in_thread(job.status)
                left_s = deadline - time.monotonic()
                ended = status.state.is_final and not job.is_owed_a_retry(status)
                if ended or left_s <= 0 or self.is_closing:
                    return status
                with contextlib.suppress(TimeoutError):
                    # The engine says when something changed; a look every second is for what it did not hear.
                    await asyncio.wait_for(changed.wait(), min(left_s, LOOK_INTERVAL_S))

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run something that reads or writes files without holding up the other requests."""
        return await run_in_threadpool(function, *arguments)

    def problems(self) -> list[str]:
        """Why jobs could not be taken or run now; empty when all is well."""
        found = [f"site {name}: {text}" for name, site in self.home.reconciler.sites.items()
                 for text in site.launcher.probe().problems]  # fmt: skip
        if not self.engine.is_alive:
            found.append("the engine's last pass failed; the server's log says why")
        if self.is_closing:
            found.append("the server is shutting down")
        return found

    def check_bounds(self, path: Path, field: str) -> None:
        """Refuse a picture or mesh whose header promises more than the settings allow."""
        limits = self.settings
        bounds.check_file(path, field=field, most_pixels=limits.max_pixels, most_triangles=limits.max_triangles)

    def owner_of(self, job: Job) -> str:
        return job.directory.submission().get("owner", "local")

    def detail(self, job: Job) -> JobDetail:
        request, status = job.request(), job.status()
        view = view_of(request, status, self.owner_of(job), time.time())
        return detail_of(job.directory, request, view)

    def new_detail(self, job: Job, owner: str) -> JobDetail:
        """`detail` of a job that was made a moment ago: it waits, whatever may already have happened to it."""
        status = Status(id=job.id, state=State.QUEUED, attempt=1)
        view = view_of(job.request(), status, owner, time.time())
        return detail_of(None, job.request(), view)

    def page(self, caller: Caller, *, limit: int, **filters: Any) -> JobPage:
        """The newest jobs that the caller may see."""
        owner = None if caller.may("admin") else caller.owner
        rows = self.home.index.list(owner=owner, limit=limit + 1, **filters)
        now = time.time()
        views = [view_of_row(row, now) for row in rows[:limit]]
        return JobPage(jobs=views, next=views[-1].id if len(rows) > limit else None)

    def cancel(self, job: Job) -> None:
        """Ask for the job's end; its state follows within a moment."""
        if not job.status().state.is_final:
            job.directory.cancel_marker.touch()
        self._look_at(job)

    def retry(self, job: Job) -> None:
        self._check_open()
        self.check_room(self.owner_of(job))
        job.retry(start=False)
        self._look_at(job)

    def remove(self, job: Job) -> None:
        job.remove()
        self.webhooks.forget_job(job.id)

    def packed(self, job: Job, names: Sequence[str]) -> Iterator[bytes]:
        """The bytes of a zip with these files of a job's results."""
        self._packed[job.id] += 1
        try:
            yield from zipped.stream(job.results, names)
        finally:
            self._packed[job.id] -= 1
            if not self._packed[job.id]:
                del self._packed[job.id]

    def close(self) -> None:
        """Take no more jobs. Those that run go on without the server."""
        self.is_closing = True

    def _announce(self, status: Status) -> None:
        if status.state.is_final:
            if len(self._told) > MOST_TOLD:
                self._told.clear()
            self._told[status.id] = (status.attempt, status.state.value)
        submission = self.home.store.job(status.id).submission()
        if submission.get("webhook_url") or self.webhooks.endpoints.all():
            self.webhooks.announce(status, self.home.index.get(status.id) or {}, submission)

    def _look_at(self, job: Job) -> None:
        self.home.reconciler.touch(job.id)
        self.engine.wake()

    def _check_open(self) -> None:
        if self.is_closing:
            raise GnomonError("the server is shutting down", code="shutting_down", fix="try again in a moment")

    def check_room(self, owner: str) -> None:
        """Raises QueueFull where too many jobs wait, in all or of this owner."""
        in_all, of_owner = self._queue.lengths(owner)
        if in_all >= self.settings.max_queued:
            raise QueueFull("the server's queue is full", limit=self.settings.max_queued)
        if of_owner >= self.settings.max_queued_per_token:
            raise QueueFull(f"{owner} has too many jobs waiting", limit=self.settings.max_queued_per_token)

    def _same_order(self, job_id: str, fingerprint: str | None) -> Job:
        job = Job(self.home, self.home.store.job(job_id))
        if job.directory.submission().get("fingerprint") != fingerprint:
            raise InputError(
                "this idempotency key was used for another order",
                code="idempotency_mismatch",
                field="Idempotency-Key",
                expected="a new key for a new order",
            )
        return job

    @contextlib.contextmanager
    def _one_at_a_time(self, owner: str, key: str | None) -> Iterator[None]:
        """Two requests with one key must not make two jobs."""
        if key is None:
            yield
            return
        with self._key_locks[hash((owner, key)) % KEY_LOCKS]:
            yield

    @contextlib.contextmanager
    def _staged(self, order: Order) -> Iterator[tuple[Path, dict[Path, str]]]:
        """The order's files under their names, as links into the upload store."""
        if not order.files:
            yield self._staging, {}
            return
        folder = self._staging / f"{os.getpid()}-{secrets.token_hex(6)}"
        folder.mkdir(parents=True)
        try:
            try:
                self.uploads.lay_out(order.files, folder)
            except NotFound as error:
                # Here it is a field of the order that is wrong, not the address of the request.
                raise HttpError(**error.to_dict(), http_status=422) from None
            for name in order.files:
                self.check_bounds(folder / name, f"files.{name}")
            yield folder, {folder / name: sha256 for name, sha256 in order.files.items()}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _resources(self, spec: TaskSpec, order: Order) -> Resources:
        capacity = get_site(self.home.reconciler.sites, order.site).launcher.capacity()
        resources = resources_of(spec, order.resources, capacity.cpus, capacity.mem_gb)
        most_s = self.settings.max_timeout_s
        if resources.timeout_s <= most_s:
            return resources
        if order.resources.get("timeout_s") is None:
            return resources.model_copy(update={"timeout_s": most_s})
        raise InputError(
            f"the job wants {resources.timeout_s:g} s; the server gives at most {most_s:g} s",
            code="timeout_too_long",
            field="resources.timeout_s",
            value=resources.timeout_s,
            expected=f"at most {most_s:g}",
        )
