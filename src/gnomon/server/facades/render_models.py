"""What goes over the wire in the Render Server's API: bodies, records and answers, as its clients know them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from gnomon.server.facades.render_orders import Ending, RenderOrder

MOST_ITEMS = 100
MOST_TIMEOUT_S = 86_400

PathText = Annotated[str, Field(min_length=1, max_length=4096)]


class RenderBody(BaseModel):
    """A mesh to draw. Paths are absolute paths on the server. Fields that are not known are ignored."""

    cad_path: PathText = Field(description="the CAD file: .ply, .obj or .stl, in millimetres")
    output_dir: PathText = Field(description="the folder for the templates; made if it is missing")
    normalize: bool = Field(True, description="scale the object into a ball of radius 0.5 around the CAD origin")
    colorize: bool = Field(False, description="draw the object in one grey instead of its own colours")
    base_color: float = Field(0.05, ge=0, le=1, allow_inf_nan=False, description="the linear grey of colorize")
    camera_poses_path: PathText | None = Field(None, description="own camera poses: .npy, N x 4 x 4")
    method: Literal["raster", "blender"] = Field("raster", description="raster: the CPU rasteriser; blender: Cycles")
    samples: int | None = Field(
        None, ge=1, le=4096, description="Cycles samples of method blender; default: BLENDER_PROC_SAMPLES, else 50"
    )
    layout: Literal["nested", "flat"] | None = Field(
        None, description="nested: files in OUTPUT_DIR/templates; flat: in OUTPUT_DIR; default: the server's setting"
    )
    timeout_sec: int | None = Field(
        None, ge=1, le=MOST_TIMEOUT_S, description="time limit of the job; never less than the time waited for it"
    )


class Items(BaseModel):
    """Several meshes."""

    items: list[RenderBody] = Field(min_length=1, max_length=MOST_ITEMS)


class Batch(RootModel[Items | Annotated[list[RenderBody], Field(min_length=1, max_length=MOST_ITEMS)]]):
    """Several meshes: `{"items": [...]}`, or the list alone."""

    @property
    def bodies(self) -> list[RenderBody]:
        return self.root.items if isinstance(self.root, Items) else self.root


class Record(BaseModel):
    """A job as the simple API shows it. Times are Unix seconds; what is not known yet is absent."""

    job_id: str
    status: Literal["queued", "running", "succeeded", "failed", "timeout"]
    cad_path: str
    output_dir: str
    templates_dir: str
    created_at: float
    started_at: float | None = None
    cmd: str | None = None
    log_path: str | None = None
    pid: int | None = None
    returncode: int | None = None
    ended_at: float | None = None
    elapsed_sec: float | None = None
    error: str | None = None
    warnings: list[str] | None = None


class Rendered(BaseModel):
    """The answer of /api/v1/render-templates. `output_dir` is where the files are; `error_message` says what failed."""

    success: bool
    total_poses: int
    rendered_count: int
    output_dir: str
    templates_dir: str
    cad_path: str
    normalize: bool
    colorize: bool
    base_color: float
    rendering_time: float
    job_id: str | None = None
    error_message: str | None = None
    warnings: list[str] | None = None


class BatchRendered(BaseModel):
    """The answer of /api/v1/render-templates-batch, results in the order of the items."""

    success: bool
    total: int
    succeeded: int
    failed: int
    results: list[Rendered]


class ServerStatus(BaseModel):
    server: str
    renderer_ready: bool
    uptime: float
    version: str


class Health(BaseModel):
    status: str
    message: str
    timestamp: float


def queued_record(order: RenderOrder) -> Record:
    return Record(
        job_id=order.id,
        status="queued",
        cad_path=order.cad_path,
        output_dir=order.output_dir,
        templates_dir=order.templates_dir,
        created_at=order.created_at,
    )


def running_record(order: RenderOrder, started_at: float, log_path: str, process: dict[str, Any]) -> Record:
    found = {"status": "running", "started_at": started_at, "log_path": log_path, **process}
    return queued_record(order).model_copy(update=found)


def ended_record(order: RenderOrder, ending: Ending, log_path: str) -> Record:
    started_at = ending.started_at if ending.started_at is not None else order.created_at
    found = {
        "status": ending.status,
        "started_at": started_at,
        "cmd": ending.cmd,
        "log_path": log_path,
        "pid": ending.pid,
        "returncode": ending.returncode,
        "ended_at": ending.ended_at,
        "elapsed_sec": round(ending.ended_at - started_at, 3),
        "error": ending.error,
        "warnings": list(ending.warnings) or None,
    }
    return queued_record(order).model_copy(update=found)


def timed_out(record: Record, now: float) -> Record:
    """A copy of a job's record for a client that waited long enough; the job itself goes on."""
    began = record.started_at if record.started_at is not None else record.created_at
    return record.model_copy(
        update={"status": "timeout", "ended_at": now, "elapsed_sec": round(now - began, 3), "returncode": None}
    )


def rendered(body: RenderBody, order: RenderOrder, ending: Ending) -> Rendered:
    started_at = ending.started_at if ending.started_at is not None else order.created_at
    return Rendered(
        success=ending.status == "succeeded",
        total_poses=order.total_poses,
        rendered_count=ending.rendered_count,
        output_dir=order.templates_dir,
        templates_dir=order.templates_dir,
        rendering_time=round(ending.ended_at - started_at, 3),
        job_id=order.id,
        error_message=ending.error,
        warnings=list(ending.warnings) or None,
        **_echo(body),
    )


def refused(body: RenderBody, templates_dir: str, message: str, job_id: str | None = None) -> Rendered:
    """The answer for a mesh that was not rendered at all, or not to its end."""
    return Rendered(
        success=False,
        total_poses=0,
        rendered_count=0,
        output_dir=templates_dir,
        templates_dir=templates_dir,
        rendering_time=0.0,
        job_id=job_id,
        error_message=message,
        **_echo(body),
    )


def _echo(body: RenderBody) -> dict[str, Any]:
    return body.model_dump(include={"cad_path", "normalize", "colorize", "base_color"})
