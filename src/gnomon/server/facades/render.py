"""The Render Server's API: CAD files of the server's disk to 42 template views for SAM-6D. docs/render-api.md.

Two APIs in one: the simple one (`/render/templates`, `/jobs/ID`) and the documented one (`/api/v1/...`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from gnomon.errors import GnomonError, InputError
from gnomon.server import problem
from gnomon.server.access import AccessPolicy, Caller, require
from gnomon.server.app import add_docs, guard_with
from gnomon.server.facades import render_models as wire
from gnomon.server.facades.render_courier import failure_message
from gnomon.server.facades.render_desk import Desk
from gnomon.server.facades.render_orders import RenderOrder
from gnomon.server.service import Service
from gnomon.server.settings import ServerSettings

log = logging.getLogger(__name__)

API_VERSION = "1.0.0"
DEFAULT_SAMPLES = 50
MOST_WAIT_S = 3600.0
"""How long /api/v1 holds a request; its jobs go on after that."""

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

Reader = Annotated[Caller, Depends(require("read"))]
Submitter = Annotated[Caller, Depends(require("submit"))]


def make(service: Service, settings: ServerSettings, policy: AccessPolicy) -> FastAPI:
    """The app. It looks after earlier servers' orders from now on.

    Raises:
        InputError: code `setting_invalid`: no root is set, or a variable of the old server has a wrong value.
    """
    _set_log_level(settings)
    desk = Desk(service, settings, _samples())
    app = FastAPI(
        title="Render Server",
        version=API_VERSION,
        description=str(__doc__),
        docs_url=None,
        redoc_url=None,
        lifespan=None,
        # Old clients may say nothing of their JSON; strange web pages are kept away by Guard.
        strict_content_type=False,
    )
    app.state.service = service
    app.state.access = policy
    _add_system_routes(app, service)
    _add_simple_routes(app, desk)
    _add_v1_routes(app, desk)
    _answer_errors(app)
    add_docs(app)
    guard_with(app, policy, service, settings, settings.body_bytes, answer=_answer, remedy="send smaller batches")
    desk.courier.start()
    return app


def _add_system_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health", tags=["system"])
    def health() -> wire.Health:
        """Whether the process answers; needs no token."""
        return wire.Health(status="healthy", message="Render Server is running", timestamp=time.time())

    @app.get("/api/v1/status", tags=["system"])
    def status(caller: Reader) -> wire.ServerStatus:
        """Whether renders can be taken and run now, and for how long the server has been up, in seconds."""
        ready = not service.problems()
        uptime = round(time.time() - service.started_at, 3)
        return wire.ServerStatus(server="running", renderer_ready=ready, uptime=uptime, version=API_VERSION)


def _add_simple_routes(app: FastAPI, desk: Desk) -> None:
    @app.post("/render/templates", tags=["simple"], response_model_exclude_none=True)
    async def render_templates(
        body: wire.RenderBody,
        caller: Submitter,
        wait: Annotated[bool, Query(description="answer when the render has ended")] = False,
        wait_timeout_sec: Annotated[
            int, Query(ge=0, le=wire.MOST_TIMEOUT_S, description="with wait: answer `timeout` after so long")
        ] = 1800,
    ) -> dict[str, Any]:
        """Render one mesh. At once `{"job_id", "status": "queued"}`; with `wait` the job's record."""
        order = await desk.service.in_thread(desk.take, body, caller, wait_timeout_sec if wait else 0)
        if not wait:
            return {"job_id": order.id, "status": "queued"}
        ending = await desk.wait(order, wait_timeout_sec)
        record = await desk.service.in_thread(desk.record, order)
        if ending is None and record.status in ("queued", "running"):
            _check_open(desk, order)
            record = wire.timed_out(record, time.time())
        return record.model_dump(exclude_none=True)

    @app.get("/jobs/{job_id}", tags=["simple"], response_model_exclude_none=True)
    def job(job_id: str, caller: Reader) -> wire.Record:
        """A job's record."""
        order = desk.find(job_id, caller)
        if order is None:
            raise HTTPException(404, "job not found")
        return desk.record(order)


def _add_v1_routes(app: FastAPI, desk: Desk) -> None:
    failures = {status: {"model": wire.Rendered} for status in (400, 403, 404, 429, 500, 503, 504)}

    @app.post(
        "/api/v1/render-templates",
        tags=["v1"],
        response_model=wire.Rendered,
        response_model_exclude_none=True,
        responses=failures,  # pyright: ignore[reportArgumentType]
    )
    async def render_one(body: wire.RenderBody, caller: Submitter) -> JSONResponse:
        """Render one mesh and answer when it is done."""
        status, answer = await _render(desk, body, caller)
        return JSONResponse(answer.model_dump(exclude_none=True), status)

    @app.post("/api/v1/render-templates-batch", tags=["v1"], response_model_exclude_none=True)
    async def render_batch(batch: wire.Batch, caller: Submitter) -> wire.BatchRendered:
        """Render several meshes and answer when all have ended; one that fails does not stop the others."""
        bodies = batch.bodies
        taken: set[str] = set()
        work = []
        for body in bodies:
            target = os.path.normpath(desk.templates_dir(body))
            work.append(_same_target(body, target) if target in taken else _render(desk, body, caller))
            taken.add(target)
        results = [answer for _, answer in await asyncio.gather(*work)]
        succeeded = sum(result.success for result in results)
        return wire.BatchRendered(
            success=succeeded == len(results),
            total=len(results),
            succeeded=succeeded,
            failed=len(results) - succeeded,
            results=results,
        )


async def _render(desk: Desk, body: wire.RenderBody, caller: Caller) -> tuple[int, wire.Rendered]:
    """Render one mesh to its end; the HTTP status and the answer."""
    target = desk.templates_dir(body)
    try:
        order = await desk.service.in_thread(desk.take, body, caller, 0)
    except GnomonError as error:
        return problem.status_of(error), wire.refused(body, target, failure_message(error, body.method))
    ending = await desk.wait(order, MOST_WAIT_S)
    if ending is None:
        why = "the server is shutting down" if desk.service.is_closing else f"not done after {MOST_WAIT_S:g} s"
        message = f"{why}; the job goes on: GET /jobs/{order.id} tells its end"
        return 503 if desk.service.is_closing else 504, wire.refused(body, target, message, order.id)
    return _status_of_code(ending.code), wire.rendered(body, order, ending)


async def _same_target(body: wire.RenderBody, target: str) -> tuple[int, wire.Rendered]:
    return 400, wire.refused(body, target, "another item of this batch has the same output folder")


def _status_of_code(code: str | None) -> int:
    """404 for a file that is not there, 400 for one that cannot be used, 500 where the server failed."""
    if code is None:
        return 200
    if code == "mesh_not_found":
        return 404
    if code in problem.STATUS_OF_CODE:
        return problem.STATUS_OF_CODE[code]
    wrong = code.startswith(("mesh_", "input_", "poses_", "output_", "unit_", "field_"))
    return 400 if wrong else 500


def _check_open(desk: Desk, order: RenderOrder) -> None:
    if desk.service.is_closing:
        raise HTTPException(503, f"the server is shutting down; the job goes on: GET /jobs/{order.id} tells its end")


def _answer(error: GnomonError) -> JSONResponse:
    """An error as FastAPI writes them: `{"detail": text}`."""
    answered = problem.answer(error)
    headers = {name: value for name, value in answered.headers.items() if name in ("retry-after", "www-authenticate")}
    text = error.message + (f"; {error.fix}" if error.fix else "")
    return JSONResponse({"detail": text}, answered.status_code, headers)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(GnomonError)
    async def on_gnomon_error(request: Request, error: GnomonError) -> JSONResponse:
        return _answer(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _finite(jsonable_encoder(error.errors()))}, 422)

    @app.exception_handler(Exception)
    async def on_mistake(request: Request, error: Exception) -> JSONResponse:
        # The traceback is the server log's business; a client learns only that it is our fault.
        return JSONResponse({"detail": "the server made a mistake; its log says more"}, 500)


def _finite(value: Any) -> Any:
    """Clients can send NaN, and errors show what was sent; but JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _samples() -> int:
    text = os.environ.get("BLENDER_PROC_SAMPLES", "").strip() or str(DEFAULT_SAMPLES)
    if not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise InputError(
            "BLENDER_PROC_SAMPLES is no number of samples",
            code="setting_invalid",
            field="BLENDER_PROC_SAMPLES",
            value=text,
            expected="a whole number from 1 to 4096",
        )
    return int(text)


def _set_log_level(settings: ServerSettings) -> None:
    """RENDER_LOG_LEVEL counts for this API's own lines, unless gnomon was told a level."""
    level = os.environ.get("RENDER_LOG_LEVEL", "").strip().upper()
    if not level or "log_level" in settings.model_fields_set:
        return
    if level not in LOG_LEVELS:
        raise InputError(
            "RENDER_LOG_LEVEL is no level",
            code="setting_invalid",
            field="RENDER_LOG_LEVEL",
            value=level,
            expected="one of " + ", ".join(LOG_LEVELS),
        )
    for name in ("render", "render_desk", "render_courier"):
        logging.getLogger(f"gnomon.server.facades.{name}").setLevel(level)
