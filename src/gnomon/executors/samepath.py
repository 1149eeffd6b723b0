"""The plainest transfer: the worker sees the job under the same path, so nothing travels."""

from __future__ import annotations

from gnomon.job import JobDir


class SamePathTransfer:
    """Does nothing, because everything is there already."""

    def push(self, job: JobDir) -> None:
        del job

    def pull(self, job: JobDir) -> None:
        del job
