"""The old pose API: POST /foundationpose with everything as base64 in JSON, and the pose in the answer.

Each request is kept in a folder of its own and becomes a job like any other, so it survives a client that hangs up
and a server that is killed. Clients know four fields of an answer and the texts of errors; further fields are ours.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import Annotated, Literal

import anyio
import anyio.to_thread
import numpy as np
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from jaxtyping import Float64
from starlette.exceptions import HTTPException

from gnomon import __version__
from gnomon.api import Job, error_of, read_result
from gnomon.errors import GnomonError, InputError, from_dict
from gnomon.job import Reason, State
from gnomon.server import problem
from gnomon.server.access import AccessPolicy, Caller, require
from gnomon.server.app import guard_with
from gnomon.server.facades import pose_api_saved as saved_requests
from gnomon.server.facades.pose_api_body import (
    NOT_MATRIX_OR_IMAGE,
    NOT_MESH_OR_MASK,
    PoseApiRefusal,
    PoseBody,
    read_body,
)
from gnomon.server.facades.pose_api_saved import SavedRequest
from gnomon.server.service import Service
from gnomon.server.settings import ServerSettings
from gnomon.status import Status
from gnomon.tasks.object_pose.spec import ObjectInFrame, ObjectPose

log = logging.getLogger(__name__)

DECODERS = 4
"""Bodies that are decoded at a time; each takes a few times its size of memory for a moment."""
BODIES_IN_MEMORY = 2.0
"""Memory for bodies that are being received or wait to be decoded, in largest bodies."""

JOB_FAILED = "Pose job failed"
Frames = Literal["first", "all"]


def make(service: Service, settings: ServerSettings, policy: AccessPolicy) -> FastAPI:
    """The app of the facade."""
    app = FastAPI(title="pose API", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.service = service
    app.state.access = policy
    api = PoseApi(service, settings)
    app.state.pose_api = api
    _answer_errors(app)

    @app.api_route("/", methods=["GET", "HEAD"], response_class=HTMLResponse)
    async def alive() -> str:
        return "it is running!"

    @app.post("/foundationpose")
    async def foundationpose(
        request: Request, caller: Annotated[Caller, Depends(require("submit"))], frames: Frames = "first"
    ) -> JSONResponse:
        return await api.answer(request, caller, frames)

    most_bytes = int(settings.pose_api_body_mb * 1e6)
    remedy = "send fewer frames, or start the server with a larger --pose-api-body-mb"
    guard_with(app, policy, service, settings, most_bytes, answer=_answer, remedy=remedy)
    return app


@dataclass(frozen=True)
class Submitted:
    """A request that has become a job."""

    request_id: str
    names: list[str]
    saved: SavedRequest
    job: Job


class PoseApi:
    """From a body to an answer."""

    def __init__(self, service: Service, settings: ServerSettings) -> None:
        self._service = service
        self._settings = settings
        self._root = service.home.path / settings.saved_requests
        self._most_held = int(settings.pose_api_body_mb * 1e6 * BODIES_IN_MEMORY)
        self._held = 0
        self._decoders = anyio.CapacityLimiter(DECODERS)
        saved_requests.sweep_drafts(self._root)

    async def answer(self, request: Request, caller: Caller, frames: Frames) -> JSONResponse:
        """Raises PoseApiRefusal and GnomonError."""
        # A full queue is known before anything is read.
        await self._service.in_thread(self._service.check_room, caller.owner)
        submitted = await self._submitted(request, caller)
        job = submitted.job
        timeout_s = (await self._service.in_thread(job.request)).resources.timeout_s
        # A client that hangs up does not end this: its result is still written down beside its request.
        status = await self._service.wait(job, timeout_s)
        return await self._service.in_thread(self._answer_of, submitted, status, frames)

    async def _submitted(self, request: Request, caller: Caller) -> Submitted:
        chunks: list[bytes] = []
        size = 0
        try:
            async for chunk in request.stream():
                size += len(chunk)
                self._held += len(chunk)
                if self._held > self._most_held:
                    details = "other requests fill the memory for requests; try again in a moment"
                    raise PoseApiRefusal(503, "Busy", details)
                chunks.append(chunk)
            return await anyio.to_thread.run_sync(self._submit, chunks, caller, limiter=self._decoders)
        finally:
            self._held -= size

    def _submit(self, chunks: list[bytes], caller: Caller) -> Submitted:
        body = b"".join(chunks)
        chunks.clear()
        content = read_body(body, self._settings)
        del body
        request_id = str(uuid.uuid4())
        saved = saved_requests.save(self._root, request_id, content)
        job = self._service.submit_spec(
            _spec(content, saved), caller, via="pose-api", hashes=saved.hashes, label=request_id
        )
        return Submitted(request_id, [frame.name for frame in content.frames], saved, job)

    def _answer_of(self, submitted: Submitted, status: Status, frames: Frames) -> JSONResponse:
        who = {"request_id": submitted.request_id, "job_id": submitted.job.id}
        if not status.state.is_final:
            raise self._unfinished(status, who)
        if status.state is not State.SUCCEEDED:
            raise _refusal(error_of(status), status.reason is Reason.BAD_INPUT, who)
        result = read_result(submitted.job.directory, status)
        found: list[ObjectInFrame | None] = [next(iter(frame.objects), None) for frame in result.frames]
        matrices = [_matrix(entry) for entry in found]
        if matrices[0] is None:
            raise _no_pose(found[0], submitted.names[0], who)
        for matrix, name in zip(matrices, submitted.names, strict=True):
            if matrix is not None:
                if not is_rotation(np.array(matrix)[:3, :3]):
                    details = "Pose estimation returned an invalid rotation matrix"
                    raise PoseApiRefusal(500, "Pose estimation error", details, **who)
                saved_requests.write_pose(submitted.saved.folder, name, matrix)
        return JSONResponse(
            {
                "status": "Pose estimation complete",
                "transformation_matrix": matrices if frames == "all" else matrices[0],
                "transformation_matrices": matrices,
                "filenames": submitted.names,
                "states": [entry.state if entry else "lost" for entry in found],
                "scores": [entry.score if entry else 0.0 for entry in found],
                "ambiguous": [entry is not None and entry.ambiguous for entry in found],
                **who,
            }
        )

    def _unfinished(self, status: Status, who: dict[str, str]) -> PoseApiRefusal:
        if self._service.is_closing:
            return PoseApiRefusal(503, "Shutting down", "the server stops; the job goes on without it", **who)
        details = f"the job was still {status.state.value} when its time was over; /v1/jobs/{status.id} has its end"
        return PoseApiRefusal(500, JOB_FAILED, details, **who)


def is_rotation(R: Float64[np.ndarray, "3 3"]) -> bool:
    """The old API's own check of what it answers."""
    return bool(np.allclose(R.T @ R, np.eye(3), atol=1e-5) and np.isclose(np.linalg.det(R), 1.0, atol=1e-3))


def _spec(body: PoseBody, saved: SavedRequest) -> ObjectPose:
    return ObjectPose.parse(
        rgb=list(map(str, saved.rgb)),
        depth=list(map(str, saved.depth)),
        mask=str(saved.mask),
        mesh=str(saved.mesh),
        mesh_unit=body.mesh_unit,
        camera=str(saved.camera),
        depth_unit="mm",
        name=body.frames[0].name,
        # A tracker takes a moment to set up.
        track=len(body.frames) > 1,
        overlay=False,
        video=False,
    )


def _matrix(entry: ObjectInFrame | None) -> tuple[tuple[float, ...], ...] | None:
    """The pose, if it may be used: that of a lost object is a guess."""
    return entry.T_cam_obj if entry is not None and entry.found else None


def _no_pose(entry: ObjectInFrame | None, name: str, who: dict[str, str]) -> PoseApiRefusal:
    where = f"images[0] ({name})"
    if entry is not None and entry.error is not None:
        error = from_dict(entry.error)
        return _refusal(error, isinstance(error, InputError), who, where=f"{where}: ")
    score = f", best score {entry.score:.2f}" if entry is not None else ""
    details = f"{where}: no pose explains mask and depth{score}; check mesh, mesh unit, mask and camera_matrix"
    return PoseApiRefusal(500, JOB_FAILED, details, **who)


def _refusal(error: GnomonError, is_input: bool, who: dict[str, str], where: str = "") -> PoseApiRefusal:
    """A failed job: 400 where the client sent something that cannot be used, else 500."""
    details = f"{where}{error.message} [{error.code}]"
    if not is_input:
        return PoseApiRefusal(500, JOB_FAILED, details, **who)
    about_mesh = error.field in ("mesh", "mesh_unit", "mask")
    return PoseApiRefusal(400, NOT_MESH_OR_MASK if about_mesh else NOT_MATRIX_OR_IMAGE, details, **who)


def _answer(error: GnomonError) -> JSONResponse:
    """An error of the server's own as the old API's clients read errors; the status stays."""
    status = problem.status_of(error)
    if status == 422:
        status = 400
    headers = dict(getattr(error, "headers", None) or {})
    retry_after_s = getattr(error, "retry_after_s", None)
    if retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(retry_after_s)))
    details = "; ".join(text for text in (error.message, error.expected, error.fix) if text)
    return JSONResponse({"error": error.code.replace("_", " ").capitalize(), "details": details}, status, headers)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(PoseApiRefusal)
    async def on_refusal(request: Request, error: PoseApiRefusal) -> JSONResponse:
        if error.status >= 500:
            log.warning("%s: %s %s", error.error, error.details, error.fields)
        headers = {"Retry-After": "10"} if error.status == 503 else None
        return JSONResponse({"error": error.error, "details": error.details, **error.fields}, error.status, headers)

    @app.exception_handler(GnomonError)
    async def on_gnomon_error(request: Request, error: GnomonError) -> JSONResponse:
        return _answer(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return JSONResponse({"error": "Invalid fields", "details": f"{first['loc'][-1]}: {first['msg']}"}, 400)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        details = f"{request.method} {request.url.path}; there are GET / and POST /foundationpose"
        return JSONResponse({"error": str(error.detail), "details": details}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def on_mistake(request: Request, error: Exception) -> JSONResponse:
        # The traceback is the server log's business.
        return JSONResponse({"error": JOB_FAILED, "details": "the server made a mistake; its log says more"}, 500)
