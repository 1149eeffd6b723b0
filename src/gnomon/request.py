"""The sealed request: everything a worker needs to know about a job, and a hash that shows it was not changed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gnomon import atomic
from gnomon.errors import InputError
from gnomon.job import JobDir, JobStore

SCHEMA_VERSION = 1


class Frozen(BaseModel):
    """Base of all models that go to disk: no unknown fields, no changes after construction."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InputFile(Frozen):
    """One file under inputs/. A file that comes from a URL gets its hash when the worker has fetched it."""

    name: str
    sha256: str | None = None
    size: int | None = None
    url: str | None = None
    """Where it comes from, without user, password and query: those are secrets and stay out of the request."""


class Resources(Frozen):
    """What the job may use. The worker's threads follow `cpus`; going over the others ends the attempt."""

    cpus: int = Field(default=1, ge=1, le=4096)
    mem_gb: float = Field(default=4.0, gt=0, le=100_000)
    gpus: int = Field(default=0, ge=0, le=1024)
    timeout_s: float = Field(default=3600.0, gt=0, le=30 * 86400)


class Request(Frozen):
    """request.json. `params` is the task's spec with every input replaced by its name under inputs/."""

    schema_version: int = SCHEMA_VERSION
    id: str
    task: str
    method: str
    params: dict[str, Any]
    inputs: tuple[InputFile, ...] = ()
    resources: Resources = Resources()
    seed: int = 0
    site: str = "local"
    label: str | None = None
    max_attempts: int = Field(default=3, ge=1, le=100)
    allow_private_urls: bool = False
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    gnomon_version: str
    seal: str | None = None

    def compute_seal(self) -> str:
        """sha256 of the canonical JSON of every other field."""
        return hashlib.sha256(atomic.canonical_json(self.model_dump(exclude={"seal"}))).hexdigest()

    def sealed(self) -> Request:
        return self.model_copy(update={"seal": self.compute_seal()})


def read(job: JobDir) -> Request:
    """The request of a job, its seal checked.

    Raises:
        InputError: the file is absent, from a newer version, or was changed after sealing.
    """
    record = atomic.read_json(job.request)
    if record is None:
        raise InputError(f"{job.id} has no request.json", code="request_missing")
    if record.get("schema_version", 0) > SCHEMA_VERSION:
        raise InputError(
            f"job {job.id} was written by a newer gnomon (schema {record['schema_version']})",
            code="request_too_new",
            fix="update gnomon on this machine",
        )
    request = Request.model_validate(record)
    if request.seal != request.compute_seal():
        raise InputError(
            f"the request of job {job.id} was changed after it was sealed",
            code="request_seal_broken",
            fix="submit the job again; request.json is not meant to be edited",
        )
    return request


_recent: OrderedDict[str, Request] = OrderedDict()
"""Requests that this process sealed a while ago: those that it is about to start."""

MOST_RECENT = 2000


def recall(job: JobDir) -> Request:
    """`read`, but of a request that this very process has sealed it is not checked whether it is still the same.

    The worker does check; to start a job it is enough to know what it needs.
    """
    known = _recent.pop(str(job.path), None)
    return read(job) if known is None else known


def _remember(job: JobDir, request: Request) -> None:
    _recent[str(job.path)] = request
    while len(_recent) > MOST_RECENT:
        with contextlib.suppress(KeyError):
            _recent.popitem(last=False)


class Draft:
    """A job folder in the making. It becomes a job by one rename in `seal`, or leaves nothing behind."""

    def __init__(self, store: JobStore, job_id: str) -> None:
        self._store = store
        self.id = job_id
        store.folder.mkdir(parents=True, exist_ok=True)
        self.path = store.folder / f".new-{job_id}-{os.getpid()}-{secrets.token_hex(3)}"
        self.path.mkdir()
        self.inputs.mkdir()

    @property
    def inputs(self) -> Path:
        return self.path / "inputs"

    def seal(
        self,
        request: Request,
        private_urls: dict[str, str] | None = None,
        submission: Mapping[str, Any] | None = None,
    ) -> JobDir:
        """Write the request and who made it, ask for the first attempt, and make the job visible."""
        draft = JobDir(self.path)
        if submission:
            draft.keep_submission(dict(submission))
        if private_urls:
            draft.keep_private_urls(private_urls)
        sealed = request if request.seal else request.sealed()
        atomic.write_json(draft.request, sealed.model_dump())
        draft.request.chmod(0o444)
        draft.add_attempt()
        job = self._store.job(self.id)
        self.path.rename(job.path)
        atomic.sync_folder(self._store.folder)
        _remember(job, sealed)
        return job

    def discard(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
