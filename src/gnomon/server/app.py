"""The ASGI app of /v1: routes, errors, middleware, and OpenAPI at /docs without a foreign script."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, Response
from starlette.staticfiles import StaticFiles

from gnomon import __version__
from gnomon.errors import GnomonError
from gnomon.server import problem
from gnomon.server.access import AccessPolicy, Guard
from gnomon.server.limits import Answered, BodyLimit
from gnomon.server.routes import events, files, jobs, results, system
from gnomon.server.routes import webhooks as webhook_routes
from gnomon.server.service import Service
from gnomon.server.settings import ServerSettings
from gnomon.tasks import TASKS

DESCRIPTION = """3D-vision jobs over HTTP. Upload files, submit a job, wait for it, get its results.

Every error is `application/problem+json` with a stable `code`; docs/errors.md explains each."""


def make_app(service: Service, settings: ServerSettings, policy: AccessPolicy) -> FastAPI:
    """The app; the service is in `app.state.service`, the rules of access in `app.state.access`."""
    app = FastAPI(
        title="gnomon", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None, lifespan=None
    )
    app.state.service = service
    app.state.access = policy
    problem.install(app)
    for module in (jobs, results, events, files, webhook_routes, system):
        app.include_router(module.router)
    add_docs(app)
    guard_with(app, policy, service, settings, settings.body_bytes, streamed=("/v1/files",))
    app.openapi = lambda: _openapi(app)
    return app


def guard_with(
    app: FastAPI,
    policy: AccessPolicy,
    service: Service,
    settings: ServerSettings,
    most_bytes: int,
    *,
    answer: Callable[[GnomonError], Response] = problem.answer,
    **limits: Any,
) -> None:
    """Put the middleware around an app that every app of the server has, facades included.

    `answer` turns a refusal into the app's own kind of answer; `limits` are further options of BodyLimit.
    """
    # The last one added is the outermost.
    app.add_middleware(
        BodyLimit, most_bytes=most_bytes, read_timeout_s=settings.read_timeout_s, answer=answer, **limits
    )
    app.add_middleware(Guard, policy=policy, answer=answer)
    app.add_middleware(Answered, counts=service.answered)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, with the Problem model and the tasks' own schemas among its components."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        schemas = document["components"]["schemas"]
        template = "#/components/schemas/{model}"
        models = {"Problem": problem.Problem, **{task.spec_name: task.spec() for task in TASKS.values()}}
        for name, model in models.items():
            schema = model.model_json_schema(ref_template=template)
            schemas |= schema.pop("$defs", {})
            schemas[name] = schema
        app.openapi_schema = document
    return app.openapi_schema


def add_docs(app: FastAPI) -> None:
    """Swagger at /docs, also for an app that is mounted under a prefix."""
    # The pages' scripts come from a package, so that they work without the internet and ask nobody else.
    assets = importlib.resources.files("fastapi_swagger.resources")
    app.mount("/docs/static", StaticFiles(directory=str(assets)), name="docs-static")

    @app.get("/docs", include_in_schema=False)
    def docs(request: Request) -> HTMLResponse:
        prefix = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{prefix}/openapi.json",
            title=app.title,
            swagger_js_url=f"{prefix}/docs/static/swagger-ui-bundle.js",
            swagger_css_url=f"{prefix}/docs/static/swagger-ui.css",
            swagger_favicon_url=f"{prefix}/docs/static/favicon-32x32.png",
        )
