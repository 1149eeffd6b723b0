"""/v1/jobs/{id}/results: the list, single files with ranges, everything as a zip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

from gnomon.api import Job
from gnomon.errors import NotFound
from gnomon.inputs import input_path
from gnomon.server.problem import refusals
from gnomon.server.routes.jobs import Here, Reader, no_results

router = APIRouter(prefix="/v1/jobs/{job_id}/results", tags=["results"])

BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {}}, "description": "the bytes, of the type that the name suggests"},
    206: {"content": {"*/*": {}}, "description": "a range of them"},
    416: {"content": {"*/*": {}}, "description": "the range lies outside of the file"},
}


class ResultFile(BaseModel):
    """One file of a result; `name` goes behind /results/ to get it."""

    name: str
    size: int
    sha256: str


class ResultList(BaseModel):
    """All files of a result, and its record."""

    job: str
    status: str
    files: list[ResultFile]
    result: dict[str, Any]
    warnings: list[str]


@router.get("", responses=refusals(404, 409))
def list_results(job_id: str, service: Here, caller: Reader) -> ResultList:
    """What a job has published."""
    record = _record(service.job(job_id, caller))
    return ResultList(
        job=job_id,
        status=record["status"],
        files=[ResultFile(**file) for file in record["outputs"]],
        result=record["result"],
        warnings=record["warnings"],
    )


ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}, "description": "a zip, made while it is sent"}
}


@router.get(".zip", response_class=StreamingResponse, responses=refusals(404, 409) | ZIP)
def zip_results(job_id: str, service: Here, caller: Reader) -> StreamingResponse:
    """All files in one zip."""
    job = service.job(job_id, caller)
    names = [*(file["name"] for file in _record(job)["outputs"]), "result.json"]
    headers = {"Content-Disposition": f'attachment; filename="{job_id}.zip"'}
    return StreamingResponse(service.packed(job, names), media_type="application/zip", headers=headers)


@router.get("/{name:path}", response_class=FileResponse, responses=BINARY | refusals(404, 409, 422))
def get_result(job_id: str, name: str, service: Here, caller: Reader) -> FileResponse:
    """One file of the result; Range is honoured, so that downloads can go on."""
    job = service.job(job_id, caller)
    known = {file["name"]: file for file in _record(job)["outputs"]}
    if name not in known and name != "result.json":
        raise NotFound(
            f"job {job_id} has no result file {name!r}",
            code="result_not_found",
            field="name",
            value=name,
            expected=f"one of the names that GET /v1/jobs/{job_id}/results lists",
        )
    path: Path = input_path(job.results, name)
    # Results may hold pages and pictures of strangers' making: nothing in them may run as a page of this server.
    headers = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
    if name in known:
        headers["ETag"] = f'"{known[name]["sha256"]}"'
    return FileResponse(path, headers=headers)


def _record(job: Job) -> dict[str, Any]:
    record = job.directory.read_result()
    if record is None:
        raise no_results(job.id, job.status().state)
    return record
