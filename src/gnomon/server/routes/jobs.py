"""/v1/jobs: submit, list, show, cancel, retry, delete."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from gnomon.errors import InputError
from gnomon.job import State
from gnomon.server.access import Caller, require
from gnomon.server.orders import Order
from gnomon.server.problem import refusals
from gnomon.server.service import Service
from gnomon.server.views import JobDetail, JobPage

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

Reader = Annotated[Caller, Depends(require("read"))]
Submitter = Annotated[Caller, Depends(require("submit"))]

MOST_WAIT_S = 60.0


async def service_of(request: Request) -> Service:
    # Not a plain function: FastAPI would send each request through another thread for it.
    return request.app.state.service


Here = Annotated[Service, Depends(service_of)]


REPEATED: dict[int | str, dict[str, Any]] = {
    200: {"model": JobDetail, "description": "the job that this idempotency key made before"}
}


@router.post("", status_code=201, responses=refusals(409, 503, 507) | REPEATED)
def submit(
    order: Order,
    service: Here,
    caller: Submitter,
    response: Response,
    idempotency_key: Annotated[
        str | None,
        Header(max_length=200, description="the same key with the same order gives the same job, however often sent"),
    ] = None,
) -> JobDetail:
    """Submit a job. 201 with the job; 200 if the idempotency key made it before."""
    job, is_new = service.submit_order(order, caller, idempotency_key)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return service.new_detail(job, caller.owner) if is_new else service.detail(job)


@router.get("", responses=refusals(422))
def list_jobs(
    service: Here,
    caller: Reader,
    task: Annotated[str | None, Query(max_length=64, description="only of this task")] = None,
    state: Annotated[list[State] | None, Query(description="only in these states")] = None,
    site: Annotated[str | None, Query(max_length=64, description="only on this site")] = None,
    label: Annotated[str | None, Query(max_length=500, description="only with exactly this label")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="most jobs of a page")] = 50,
    before: Annotated[str | None, Query(max_length=64, description="`next` of the page before")] = None,
) -> JobPage:
    """Jobs, newest first."""
    filters: dict[str, Any] = {"task": task, "states": [one.value for one in state or ()], "site": site}
    return service.page(caller, limit=limit, label=label, before=before, **filters)


@router.get("/{job_id}", responses=refusals(404))
async def show(
    job_id: str,
    service: Here,
    caller: Reader,
    wait_s: Annotated[
        float, Query(ge=0, le=MOST_WAIT_S, description="answer when the job has ended, or after so many seconds")
    ] = 0.0,
) -> JobDetail:
    """One job with its parameters, progress and result."""
    job = await service.in_thread(service.job, job_id, caller)
    if wait_s > 0:
        await service.wait(job, wait_s)
    return await service.in_thread(service.detail, job)


@router.post("/{job_id}/cancel", responses=refusals(404))
def cancel(job_id: str, service: Here, caller: Submitter) -> JobDetail:
    """Ask for a job's end. A job that has ended stays as it is."""
    job = service.job(job_id, caller)
    service.cancel(job)
    return service.detail(job)


@router.post("/{job_id}/retry", responses=refusals(404, 409, 429, 503))
def retry(job_id: str, service: Here, caller: Submitter) -> JobDetail:
    """Try a failed or cancelled job again; finished steps are kept."""
    job = service.job(job_id, caller)
    service.retry(job)
    return service.detail(job)


@router.delete("/{job_id}", status_code=204, responses=refusals(404, 409))
def delete(job_id: str, service: Here, caller: Submitter) -> Response:
    """Delete a job that has ended, with all its files."""
    service.remove(service.job(job_id, caller))
    return Response(status_code=204)


def no_results(job_id: str, state: State) -> InputError:
    """The refusal for results that are not there."""
    return InputError(
        f"job {job_id} has no results: it is {state.value}",
        code="no_results",
        field="job",
        value=job_id,
        fix=f"GET /v1/jobs/{job_id}" + ("" if state.is_final else "?wait_s=60 waits for it"),
    )
