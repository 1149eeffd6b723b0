"""What can be run here and how the server is: tasks, methods, sites, health, readiness, resources, metrics."""

from __future__ import annotations

import time
from typing import Annotated, Any

import psutil
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from gnomon import __version__, paths
from gnomon.errors import NotFound
from gnomon.server import metrics as measured
from gnomon.server.access import Caller, require
from gnomon.server.problem import HttpError, refusals
from gnomon.server.routes.jobs import Here, Reader
from gnomon.tasks import TASKS, get_task
from gnomon.tasks.spec import input_fields

router = APIRouter(tags=["system"])


class TaskView(BaseModel):
    """A task: its fields as a JSON schema, and which of them are files."""

    name: str
    summary: str
    methods: list[str]
    inputs: list[dict[str, Any]]
    params: dict[str, Any]


class Health(BaseModel):
    """The process answers."""

    status: str
    version: str
    uptime_s: float


class Readiness(BaseModel):
    """Whether jobs can be taken and run now; `problems` says why not."""

    ready: bool
    problems: list[str]


@router.get("/v1/tasks", responses=refusals())
def tasks(caller: Reader) -> list[TaskView]:
    """All tasks."""
    return [_task_view(name) for name in TASKS]


@router.get("/v1/tasks/{name}", responses=refusals(404))
def task(name: str, caller: Reader) -> TaskView:
    """One task; `params` is the JSON schema of an order's params."""
    try:
        return _task_view(name)
    except NotFound as error:
        # As a part of an order a wrong name is a wrong field; here it is the address that is wrong.
        raise HttpError(error.message, code=error.code, http_status=404, expected=error.expected) from None


@router.get("/v1/methods", responses=refusals())
def methods(caller: Reader) -> list[dict[str, Any]]:
    """All methods, and what each still needs on this machine."""
    cache = paths.cache_dir()
    return [method.describe(cache) for task in TASKS.values() for method in task.methods()]


@router.get("/v1/sites", responses=refusals())
def sites(service: Here, caller: Reader) -> list[dict[str, Any]]:
    """The places jobs can run, with what they have."""
    found = []
    for name, site in service.home.reconciler.sites.items():
        probe = site.launcher.probe()
        facts = {"name": name, "ok": probe.ok, "problems": list(probe.problems), **probe.facts}
        found.append(facts | {"price_per_hour": site.price_per_hour, "currency": site.currency})
    return found


@router.get("/v1/system", responses=refusals())
def system(service: Here, caller: Reader) -> dict[str, Any]:
    """The machine's resources, the warm workers and the server's own numbers."""
    memory = psutil.virtual_memory()
    process = psutil.Process()
    return {
        "version": __version__,
        "uptime_s": round(time.time() - service.started_at, 1),
        "cpus": psutil.cpu_count(),
        "load": list(psutil.getloadavg()),
        "memory": {"total_gb": round(memory.total / 1e9, 2), "available_gb": round(memory.available / 1e9, 2)},
        "disk": service.retention.usage(),
        "server": {"rss_mb": round(process.memory_info().rss / 1e6, 1), "cpu_s": sum(process.cpu_times()[:2])},
        "workers": service.pool.describe() if service.pool is not None else [],
    }


@router.get("/v1/health")
@router.get("/health", include_in_schema=False)
def health(service: Here) -> Health:
    """Whether the process answers; needs no token."""
    return Health(status="ok", version=__version__, uptime_s=round(time.time() - service.started_at, 1))


@router.get("/v1/ready", responses={503: {"model": Readiness}})
@router.get("/ready", include_in_schema=False, responses={503: {"model": Readiness}})
def ready(service: Here, response: Response) -> Readiness:
    """Whether jobs can be taken and run now (503 if not); needs no token."""
    problems = service.problems()
    if problems:
        response.status_code = 503
    return Readiness(ready=not problems, problems=problems)


PAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {}}, "description": "the numbers"}}


@router.get("/metrics", responses=refusals() | PAGE, response_class=Response)
def metrics(service: Here, caller: Annotated[Caller, Depends(require("read"))]) -> Response:
    """Everything for Prometheus."""
    return Response(measured.render(service), media_type=measured.CONTENT_TYPE)


def _task_view(name: str) -> TaskView:
    found = get_task(name)
    spec = found.spec()
    return TaskView(
        name=name,
        summary=found.summary,
        methods=[method.name for method in found.methods()],
        inputs=[
            {"field": field, "list": is_list, "suffixes": list(marker.suffixes), "max_bytes": marker.max_bytes}
            for field, marker, is_list in input_fields(spec)
        ],
        params=spec.model_json_schema(),
    )
