"""What a server is told: by flags of `gnomon serve`, by GNOMON_SERVER_* variables, else these defaults."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from gnomon.errors import InputError
from gnomon.request import Frozen

PREFIX = "GNOMON_SERVER_"


class ServerSettings(Frozen):
    """Everything that can be set. Each field is a flag and an environment variable of the same name."""

    host: str = Field("127.0.0.1", description="address to listen on; off loopback tokens are needed")
    port: int = Field(8800, ge=0, le=65535, description="port of /v1; 0 takes a free one")
    facade: tuple[str, ...] = Field((), description="a replaced system's API to offer: pose-api or render; "
                                    "NAME:PORT moves it, NAME:/PREFIX puts it under the port of /v1")  # fmt: skip
    require_token: bool = Field(False, description="ask for tokens on loopback too")
    allow_host: tuple[str, ...] = Field((), description="a host name under which the server may be called")
    cors_origin: tuple[str, ...] = Field((), description="an origin whose web pages may call the server")
    workers: int | None = Field(None, ge=0, le=256, description="warm workers at most; default: one for each core")
    warm: tuple[str, ...] = Field(
        (), description="a task whose first job must not wait: imported and compiled at start"
    )
    max_queued: int = Field(100_000, ge=1, description="jobs that may wait in all")
    max_queued_per_token: int = Field(10_000, ge=1, description="jobs of one token that may wait")
    max_timeout_s: float = Field(7 * 86400.0, gt=0, description="longest time limit that a job may ask for")
    max_body_mb: float = Field(8.0, gt=0, le=4096, description="largest JSON body of /v1")
    max_upload_gb: float = Field(20.0, gt=0, description="largest uploaded file")
    uploads_gb: float = Field(100.0, gt=0, description="space for uploaded files")
    max_pixels: int = Field(200_000_000, ge=1, description="largest picture, by its header")
    max_triangles: int = Field(20_000_000, ge=1, description="largest mesh, by its header")
    max_files: int = Field(50_000, ge=1, description="most files of one job")
    read_timeout_s: float = Field(60.0, gt=0, description="how long a client may send nothing in the middle of a body")
    keep_days: float | None = Field(None, gt=0, description="delete jobs so long after they ended; default: never")
    keep_failed_days: float | None = Field(None, gt=0, description="the same for jobs that failed or were cancelled")
    disk_gb: float | None = Field(None, gt=0, description="delete the oldest finished jobs above this; default: never")
    keep_uploads_hours: float = Field(24.0, gt=0, description="delete uploads that no job has used for so long")
    allow_private_urls: bool = Field(False, description="let jobs fetch inputs from private addresses")
    allow_private_webhooks: bool = Field(False, description="let webhooks go to private addresses")
    saved_requests: Path = Field(
        Path("FoundationPose/saved_requests"), description="where the pose API keeps requests; relative to the home"
    )
    pose_api_body_mb: float = Field(512.0, gt=0, le=4096, description="largest request of the pose API")
    pose_api_base64_status: int = Field(
        402, ge=400, le=499, description="what the pose API answers to base64 that is none; its code said 400"
    )
    render_root: tuple[Path, ...] = Field((), description="a folder that the Render Server's paths may lie in")
    render_layout: str = Field(
        "nested", pattern="^(nested|flat)$", description="where its templates go: nested or flat"
    )
    render_logs: Path = Field(Path("server/render/logs"), description="where its jobs' logs go; relative to the home")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="how much the log says")

    @property
    def body_bytes(self) -> int:
        return int(self.max_body_mb * 1e6)


def load_settings(given: dict[str, Any]) -> ServerSettings:
    """Settings from flags that were given, then the environment, then the defaults.

    Raises:
        InputError: code `setting_invalid`, with the flag or variable that is wrong.
    """
    values: dict[str, Any] = {}
    for name, field in ServerSettings.model_fields.items():
        variable = PREFIX + name.upper()
        if given.get(name) not in (None, ()):
            values[name] = given[name]
        elif os.environ.get(variable):
            text = os.environ[variable]
            # Several values of one variable are parted by commas.
            values[name] = [part.strip() for part in text.split(",")] if "tuple" in str(field.annotation) else text
    try:
        return ServerSettings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise InputError(
            f"{name}: {first['msg']}",
            code="setting_invalid",
            field=f"--{name.replace('_', '-')} or {PREFIX}{name.upper()}",
            value=first.get("input"),
            expected=ServerSettings.model_fields[name].description,
        ) from None
