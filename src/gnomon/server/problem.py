"""Errors on the wire: application/problem+json (RFC 9457) with the stable codes of docs/errors.md."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gnomon.errors import Cancelled, ExecutorError, GnomonError, InputError, LimitError, MethodError, MissingError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

STATUS_OF_CODE: dict[str, int] = {
    "task_not_found": 422,
    "method_not_found": 422,
    "site_not_found": 422,
    "job_active": 409,
    "job_ambiguous": 404,
    "not_retryable": 409,
    "no_results": 409,
    "result_not_found": 404,
    "idempotency_mismatch": 422,
    "queue_full": 429,
    "body_too_large": 413,
    "body_stalled": 408,
    "input_too_large": 413,
    "too_many_pixels": 413,
    "too_many_triangles": 413,
    "too_many_files": 413,
    "disk_full": 507,
    "index_unavailable": 503,
    "shutting_down": 503,
    "wait_timeout": 408,
}
"""Where a code says more than its class; modules of the server add theirs by `add_statuses`."""

STATUS_OF_CLASS: tuple[tuple[type[GnomonError], int], ...] = (
    (InputError, 422),
    (MissingError, 422),
    (ExecutorError, 503),
    (MethodError, 422),
    (LimitError, 422),
    (Cancelled, 409),
)


class Problem(BaseModel):
    """One error: what happened, where, and how to mend it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str | None = None
    value: Any = None
    expected: str | None = None
    fix: str | None = None
    retry_after_s: float | None = None


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for OpenAPI: these statuses, and those that any route can answer with."""
    described: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*statuses, 400, 401, 403, 408, 413, 421, 422, 429}):
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        described[status] = {"description": HTTPStatus(status).phrase, "content": content}
    return described


def add_statuses(statuses: dict[str, int]) -> None:
    """Let a module of the server say which HTTP status its codes have."""
    STATUS_OF_CODE.update(statuses)


def status_of(error: GnomonError) -> int:
    """The HTTP status for an error."""
    own = getattr(error, "http_status", None)
    if own is not None:
        return own
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    if error.code.endswith("not_found") and error.field == "job":
        return 404
    return next((status for kind, status in STATUS_OF_CLASS if isinstance(error, kind)), 500)


def problem_of(error: GnomonError) -> Problem:
    """The body of the answer for an error."""
    status = status_of(error)
    return Problem(
        type=f"urn:gnomon:error:{error.code}",
        title=error.code.replace("_", " "),
        status=status,
        detail=error.message,
        retry_after_s=getattr(error, "retry_after_s", None),
        **{
            key: value for key, value in error.to_dict().items() if key in ("code", "field", "value", "expected", "fix")
        },
    )


def answer(error: GnomonError) -> JSONResponse:
    """The answer for an error, with the headers that belong to it."""
    problem = problem_of(error)
    headers = dict(getattr(error, "headers", None) or {})
    if problem.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    return JSONResponse(
        problem.model_dump(mode="json", exclude_none=True), problem.status, headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Make every error of an app a problem document."""

    @app.exception_handler(GnomonError)
    async def on_gnomon_error(request: Request, error: GnomonError) -> JSONResponse:
        if status_of(error) >= 500:
            log.warning("%s %s: %s [%s]", request.method, request.url.path, error.message, error.code)
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(_of_validation(error))

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        return answer(_of_http(request, error))

    @app.exception_handler(Exception)
    async def on_mistake(request: Request, error: Exception) -> JSONResponse:
        # The traceback is the server log's business; a client learns only that it is our fault.
        return answer(GnomonError("the server made a mistake; its log says more"))


class HttpError(GnomonError):
    """What the framework refuses by itself: unknown paths, wrong methods, bodies that are no JSON."""

    def __init__(self, message: str, *, code: str, http_status: int, headers: Any = None, **details: Any) -> None:
        super().__init__(message, code=code, **details)
        self.http_status = http_status
        self.headers = headers


def _of_validation(error: RequestValidationError) -> GnomonError:
    first = error.errors()[0]
    place, *path = [str(part) for part in first["loc"]] or ["body"]
    if first["type"] == "json_invalid":
        return HttpError(
            f"the body is not valid JSON: {first.get('ctx', {}).get('error', '')}",
            code="body_invalid",
            http_status=400,
            field="body",
            expected="JSON",
        )
    codes = {"extra_forbidden": "field_unknown", "missing": "field_missing"}
    return HttpError(
        f"{place}{' field' if path else ''} {'.'.join(path)}: {first['msg']}".replace("  ", " "),
        code=codes.get(first["type"], "field_invalid"),
        http_status=422,
        field=".".join(path) or place,
        value=first.get("input"),
        fix="GET /openapi.json describes every route and field",
    )


def _of_http(request: Request, error: HTTPException) -> GnomonError:
    codes = {404: "route_not_found", 405: "method_not_allowed"}
    details: dict[str, Any] = {"fix": "GET /docs lists the routes"} if error.status_code in codes else {}
    if error.status_code in codes:
        message = f"there is no {request.method} {request.url.path}"
    else:
        message = str(error.detail)
    return HttpError(
        message,
        code=codes.get(error.status_code, "request_refused"),
        http_status=error.status_code,
        headers=error.headers,
        **details,
    )
