"""Numbers for Prometheus, read from the index and the server's parts whenever somebody asks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from gnomon.server.service import Service

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render(service: Service) -> bytes:
    """The whole page."""
    registry = CollectorRegistry()
    registry.register(_Jobs(service))
    registry.register(_Server(service))
    return generate_latest(registry)


class _Jobs(Collector):
    """What the index knows of all jobs there are; removed jobs are not counted any more."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        index = self._service.home.index
        jobs = GaugeMetricFamily("gnomon_jobs", "Jobs there are.", labels=["task", "state", "reason"])
        for row in index.counts():
            jobs.add_metric([row["task"], row["state"], row["reason"] or ""], row["count"])
        yield jobs
        count = GaugeMetricFamily("gnomon_jobs_finished", "Jobs that ended after they had started.", labels=["task"])
        run = GaugeMetricFamily("gnomon_jobs_run_seconds", "Seconds they ran in all.", labels=["task"])
        queue = GaugeMetricFamily("gnomon_jobs_queue_seconds", "Seconds they waited in all.", labels=["task"])
        mean = GaugeMetricFamily("gnomon_jobs_run_seconds_mean", "Seconds a job ran on average.", labels=["task"])
        rate = GaugeMetricFamily("gnomon_jobs_success_ratio", "Share of the finished that succeeded.", labels=["task"])
        cost = GaugeMetricFamily("gnomon_jobs_cost", "Cost of the finished, by currency.", labels=["task", "currency"])
        for row in index.totals():
            task, finished = [row["task"]], row["count"]
            count.add_metric(task, finished)
            run.add_metric(task, row["run_s"])
            queue.add_metric(task, row["queue_s"])
            mean.add_metric(task, row["run_s"] / finished if finished else 0.0)
            rate.add_metric(task, row["succeeded"] / finished if finished else 0.0)
        for row in index.costs():
            cost.add_metric([row["task"], row["currency"]], row["cost"])
        yield from (count, run, queue, mean, rate, cost)


class _Server(Collector):
    """The server itself: workers, uploads, webhooks, requests."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        workers = GaugeMetricFamily("gnomon_workers", "Warm workers by what they do.", labels=["state"])
        described = self._service.pool.describe() if self._service.pool is not None else []
        for state in ("starting", "idle", "busy"):
            workers.add_metric([state], sum(worker["state"] == state for worker in described))
        yield workers
        disk = GaugeMetricFamily("gnomon_disk_bytes", "Bytes on disk.", labels=["what"])
        for what, count in self._service.retention.usage().items():
            disk.add_metric([what], count)
        yield disk
        hooks = GaugeMetricFamily("gnomon_webhooks", "Webhook messages that wait, or were given up.", labels=["state"])
        counts = self._service.webhooks.counts()
        for state in ("pending", "dead"):
            hooks.add_metric([state], counts[state])
        yield hooks
        tries = CounterMetricFamily("gnomon_webhook_tries", "Messages sent, by how that ended.", labels=["outcome"])
        tries.add_metric(["delivered"], counts["delivered"])
        tries.add_metric(["failed"], counts["failed_attempts"])
        yield tries
        requests = CounterMetricFamily("gnomon_http_requests", "Requests answered.", labels=["status"])
        for status, count in sorted(self._service.answered.items()):
            requests.add_metric([f"{status}xx"], count)
        yield requests
