"""The request and the result of `templates`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from gnomon.geometry.units import Unit
from gnomon.request import Frozen, Resources
from gnomon.tasks.spec import Input, TaskSpec

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".gltf")


def _companions(path: Path) -> list[str]:
    from gnomon.formats.mesh_companions import companions

    return companions(path)


MeshFile = Annotated[str, Input(suffixes=MESH_SUFFIXES, argument=True, companions=_companions)]
PoseFile = Annotated[str, Input(suffixes=(".npy",), max_bytes=10_000_000)]


class Templates(TaskSpec):
    """Render template views of CAD meshes: RGB, mask and object coordinates for every view."""

    task: ClassVar[str] = "templates"

    mesh: list[MeshFile] = Field(
        description="mesh files (PLY, OBJ, STL, GLB, glTF), paths or URLs", min_length=1, max_length=10_000
    )
    method: Literal["raster", "blender"] = Field(
        "raster", description="raster: our CPU rasteriser; blender: Cycles for photoreal RGB"
    )
    mesh_unit: Unit = Field("mm", description="unit of the mesh files")
    allow_any_size: bool = Field(False, description="accept meshes smaller than 1 mm or larger than 20 m")
    views: Literal[0, 1, 2] = Field(0, description="view set: 0 has 42 views, 1 has 162, 2 has 642")
    camera_poses: PoseFile | None = Field(
        None,
        description="own camera poses instead: .npy, N x 4 x 4, camera to object, OpenCV axes, 1000 = radius 2",
    )
    size: int = Field(512, ge=16, le=4096, description="width and height of the pictures in pixels")
    normalize: bool = Field(True, description="scale the object into a ball of radius 0.5 around the CAD origin")
    colorize: bool = Field(False, description="draw the object in one grey instead of its own colours")
    base_color: float = Field(0.05, ge=0, le=1, description="the linear grey of --colorize")
    supersample: int = Field(2, ge=1, le=4, description="RGB samples along each pixel's side")
    transparent: bool = Field(False, description="RGB with an alpha channel instead of the grey background")
    depth: bool = Field(False, description="also write depth maps, in the mesh's unit")
    normals: bool = Field(False, description="also write normal maps, in the object's frame")
    bundle: Literal["none", "npz", "hdf5"] = Field("none", description="also put all views into one file")
    layout: Literal["nested", "flat"] = Field(
        "nested", description="nested: OUT/templates/rgb_0.png; flat: OUT/rgb_0.png"
    )
    samples: int = Field(50, ge=1, le=4096, description="Cycles samples per pixel (method blender)")

    def default_resources(self, cpus: int, mem_gb: float) -> Resources:
        seconds_a_mesh = 60 if self.method == "raster" else 3600
        return Resources(
            cpus=min(cpus, 8),
            mem_gb=min(8.0, mem_gb),
            timeout_s=min(600 + seconds_a_mesh * len(self.mesh), 30 * 86400),
        )

    @classmethod
    def read_result(cls, record: dict[str, Any], root: Path) -> TemplatesResult:
        return TemplatesResult(root=root, sets=tuple(TemplateSet.model_validate(item) for item in record["sets"]))

    @classmethod
    def summary(cls, record: dict[str, Any]) -> list[str]:
        return [_line(TemplateSet.model_validate(item)) for item in record["sets"]]

    @field_validator("mesh", mode="before")
    @classmethod
    def _one_mesh_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, str | Path):
            return [str(value)]
        return [str(item) for item in value] if isinstance(value, list | tuple) else value

    @field_validator("camera_poses", mode="before")
    @classmethod
    def _path_to_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _flat_has_no_room_for_arrays(self) -> Templates:
        # Consumers count the .npy files of the template folder to find the number of views.
        if self.layout == "flat" and (self.depth or self.normals):
            raise ValueError("layout 'flat' cannot hold depth or normal maps; use layout 'nested'")
        return self


class TemplateSet(Frozen):
    """One mesh's templates. Paths are names inside the results folder."""

    name: str
    mesh: str
    folder: str = ""
    templates_dir: str = ""
    contact_sheet: str = ""
    views: int = 0
    triangles: int = 0
    diameter_m: float = 0.0
    cached: bool = False
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()
    error: dict[str, Any] | None = None


class TemplatesResult(Frozen):
    """All sets of a job, in the order of the request."""

    root: Path
    sets: tuple[TemplateSet, ...]

    @property
    def succeeded(self) -> tuple[TemplateSet, ...]:
        return tuple(item for item in self.sets if item.error is None)

    @property
    def failed(self) -> tuple[TemplateSet, ...]:
        return tuple(item for item in self.sets if item.error is not None)


def _line(item: TemplateSet) -> str:
    if item.error is not None:
        return f"{item.mesh}: failed, {item.error['message']} [{item.error['code']}]"
    source = "from the cache" if item.cached else f"{item.seconds:.2f} s"
    size = f"{item.triangles:,} triangles, {item.diameter_m * 1e3:,.1f} mm across"
    return f"{item.mesh}: {item.views} views of {size}, {source}"
