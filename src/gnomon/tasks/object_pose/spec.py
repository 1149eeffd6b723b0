"""The request and the result of `object-pose`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from jaxtyping import Float64
from pydantic import BaseModel, Field, field_validator, model_validator

from gnomon.errors import InputError
from gnomon.geometry.units import Unit
from gnomon.request import Frozen, Resources
from gnomon.tasks.spec import Input, TaskSpec

MESH_SUFFIXES = (".ply", ".obj", ".stl", ".glb", ".gltf")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
DEPTH_SUFFIXES = (".png", ".tif", ".tiff", ".npy")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
MOST_FRAMES = 20_000
MOST_MASKS = 200_000
MOST_MESHES = 1_000
PICTURE_BYTES = 500_000_000


def _companions(path: Path) -> list[str]:
    from gnomon.formats.mesh_companions import companions

    return companions(path)


MeshFile = Annotated[str, Input(suffixes=MESH_SUFFIXES, companions=_companions)]
PictureFile = Annotated[str, Input(suffixes=PICTURE_SUFFIXES, max_bytes=PICTURE_BYTES)]
DepthFile = Annotated[str, Input(suffixes=DEPTH_SUFFIXES, max_bytes=PICTURE_BYTES)]
MaskFile = Annotated[str, Input(suffixes=MASK_SUFFIXES, max_bytes=PICTURE_BYTES)]
CameraFile = Annotated[str, Input(suffixes=(".json", ".txt"), max_bytes=100_000_000)]
JsonFile = Annotated[str, Input(suffixes=(".json",), max_bytes=1_000_000_000)]

FILE_LISTS = ("rgb", "depth", "mask", "mesh")
LISTS = (*FILE_LISTS, "obj_id", "name", "im_id", "mask_frame", "mask_mesh")


class SceneOptions(BaseModel):
    """Options that stand for many fields; `ObjectPose.from_scene` turns them into files."""

    scene: str | None = Field(None, description="folder with a whole scene: BOP's layout, or cam_K.txt, rgb/, depth/, "
                              "masks/ and mesh/; stands for the file options")  # fmt: skip
    models: str | None = Field(None, description="folder with the meshes of a BOP scene, if they are not beside it")


class ObjectPose(TaskSpec):
    """Estimate where an object is: its 6D pose from RGB-D pictures, a mask, a mesh and the camera, and track it."""

    task: ClassVar[str] = "object-pose"
    shortcuts: ClassVar[type[BaseModel] | None] = SceneOptions

    rgb: list[PictureFile] = Field(
        description="colour pictures, in the order of the frames", min_length=1, max_length=MOST_FRAMES
    )
    depth: list[DepthFile] = Field(
        description="depth pictures (16-bit PNG or TIFF, float TIFF or .npy), one for each colour picture",
        min_length=1,
        max_length=MOST_FRAMES,
    )
    mask: list[MaskFile] | None = Field(
        None, description="masks, any non-zero value is the object; one for each object", max_length=MOST_MASKS
    )
    mesh: list[MeshFile] = Field(
        description="mesh files; one for all masks, or one for each", min_length=1, max_length=MOST_MESHES
    )
    camera: CameraFile = Field(
        description="intrinsics: camera.json, scene_camera.json of BOP, or a 3 x 3 matrix as .txt"
    )
    method: Literal["render-compare", "foundationpose"] = Field(
        "render-compare",
        description="render-compare: ours, on the CPU; foundationpose: NVIDIA's, in its container, non-commercial",
    )
    mesh_unit: Unit = Field("mm", description="unit of the mesh files")
    allow_any_size: bool = Field(False, description="do not compare the size of mesh, mask and depth")
    depth_unit: Literal["by-type", "mm", "cm", "m", "inch"] = Field(
        "by-type", description="unit of the depth values; by-type: mm for whole numbers, m for floating point"
    )
    depth_scale: float | None = Field(
        None,
        gt=0,
        description="instead of a unit: millimetres per depth value, as in BOP; also read from the camera file",
    )
    symmetries: Literal["auto", "none"] = Field(
        "auto", description="auto: find the symmetries of each mesh; none: it has none"
    )
    models_info: JsonFile | None = Field(
        None, description="symmetries of the meshes by obj_id: models_info.json of BOP"
    )
    obj_id: list[int] | None = Field(
        None, description="number of each mesh in models_info.json and in the results, by default from obj_000005.ply"
    )
    name: list[str] | None = Field(None, description="name of each mesh in the results, by default that of its file")
    detections: JsonFile | None = Field(
        None, description="masks from a JSON of detections (BOP's format, RLE) instead of pictures"
    )
    instances: int = Field(1, ge=1, le=1000, description="detections of each mesh to use in a frame, the best first")
    mask_frame: list[int] | None = Field(
        None, description="frame of each mask, counted from 0, where they are not all of the first"
    )
    mask_mesh: list[int] | None = Field(None, description="mesh of each mask, counted from 0, where it does not follow")
    scene_id: int = Field(0, ge=0, description="number of the scene in the results and in the detections")
    im_id: list[int] | None = Field(None, description="number of each frame, by default from its file's name")
    track: bool = Field(True, description="follow the objects from frame to frame; otherwise every mask is estimated")
    overlay: bool = Field(True, description="draw the poses into the pictures")
    video: bool = Field(True, description="make a video of the overlays of several frames")
    fps: float = Field(30.0, gt=0, le=240, description="frames of the video per second")

    @classmethod
    def from_scene(
        cls,
        scene: str | Path,
        *,
        models: str | Path | None = None,
        **options: Any,
    ) -> Self:
        """The request for all objects in all frames of a scene folder.

        `obj_id` and `im_id` in `options` choose among the objects and images of a BOP scene; other options are
        fields. Raises InputError `scene_layout`, `scene_incomplete` and what `parse` raises.
        """
        from gnomon.tasks.object_pose.scene import expand

        return cls.parse(**expand(Path(scene), None if models is None else Path(models), options))

    @classmethod
    def from_options(cls, shortcuts: dict[str, Any], values: dict[str, Any]) -> Self:
        if "scene" in shortcuts:
            return cls.from_scene(shortcuts["scene"], models=shortcuts.get("models"), **values)
        if "models" in shortcuts:
            raise InputError("--models needs --scene", code="field_missing", field="scene", fix="give --scene DIR")
        return cls.parse(**values)

    def default_resources(self, cpus: int, mem_gb: float) -> Resources:
        seconds_a_mask = 30 if self.method == "render-compare" else 60
        masks = len(self.rgb) * len(self.mesh) if self.mask is None else len(self.mask)
        tracked = len(self.rgb) * masks if self.track else 0
        return Resources(
            cpus=min(cpus, 4),
            mem_gb=min(4.0 if self.method == "render-compare" else 16.0, mem_gb),
            gpus=1 if self.method == "foundationpose" else 0,
            timeout_s=min(600 + seconds_a_mask * masks + tracked + 2 * len(self.rgb), 30 * 86400),
        )

    @classmethod
    def read_result(cls, record: dict[str, Any], root: Path) -> ObjectPoseResult:
        from gnomon.tasks.object_pose.files import read_poses

        return read_poses(root / record["poses"])

    @classmethod
    def summary(cls, record: dict[str, Any]) -> list[str]:
        return [_line(ObjectSummary.model_validate(item)) for item in record["objects"]]

    @field_validator(*LISTS, mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        if isinstance(value, str | Path | int):
            value = [value]
        if isinstance(value, list | tuple):
            return [str(item) if isinstance(item, Path) else item for item in value]
        return value

    @field_validator("camera", "models_info", "detections", mode="before")
    @classmethod
    def _path_to_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @model_validator(mode="after")
    def _counts_agree(self) -> Self:
        frames, meshes = len(self.rgb), len(self.mesh)
        _same_number("depth", self.depth, frames, "one depth picture for each colour picture")
        _same_number("im_id", self.im_id, frames, "one number for each colour picture")
        _same_number("obj_id", self.obj_id, meshes, "one number for each mesh")
        _same_number("name", self.name, meshes, "one name for each mesh")
        if (self.mask is None) == (self.detections is None):
            raise InputError(
                "the objects are to be found by masks or by detections, and one of the two is needed",
                code="field_missing" if self.mask is None else "field_invalid",
                field="mask",
                expected="--mask FILE... or --detections FILE",
            )
        if self.mask is not None:
            self._masks_agree(len(self.mask), frames, meshes)
        if self.depth_scale is not None and self.depth_unit != "by-type":
            raise InputError(
                "depth_unit and depth_scale contradict each other",
                code="field_invalid",
                field="depth_scale",
                value=self.depth_scale,
                expected="one of the two",
            )
        return self

    def _masks_agree(self, masks: int, frames: int, meshes: int) -> None:
        for field, numbers, end in (("mask_frame", self.mask_frame, frames), ("mask_mesh", self.mask_mesh, meshes)):
            _same_number(field, numbers, masks, "one number for each mask")
            wrong = [number for number in numbers or () if not 0 <= number < end]
            if wrong:
                raise InputError(
                    f"{field} {wrong[0]} does not exist",
                    code="field_invalid",
                    field=field,
                    value=wrong[0],
                    expected=f"0 to {end - 1}; they are counted from 0",
                )
        if self.mask_mesh is not None:
            return
        if not self.track and self.mask_frame is None and masks == frames * meshes:
            return
        if meshes not in (1, masks):
            raise InputError(
                f"{masks} masks and {meshes} meshes: which belongs to which?",
                code="counts_differ",
                field="mask",
                value=masks,
                expected="one mesh for all masks, one mesh for each mask, or --mask-mesh",
            )
        if not self.track and self.mask_frame is None and frames > 1:
            raise InputError(
                f"without tracking every frame needs masks: there are {masks} for {frames} frames",
                code="counts_differ",
                field="mask",
                value=masks,
                expected=f"{frames * meshes} masks, frame by frame, or --mask-frame for each mask",
                fix="pass --track to follow the objects of the first frame",
            )


def _same_number(field: str, values: list[Any] | None, count: int, expected: str) -> None:
    if values is not None and len(values) != count:
        raise InputError(
            f"{field} has {len(values)} entries where {count} are due",
            code="counts_differ",
            field=field,
            value=len(values),
            expected=expected,
        )


class RunnerUpPose(Frozen):
    """The best pose that differs from the one reported."""

    T_cam_obj: tuple[tuple[float, ...], ...]
    margin: float


class ObjectInFrame(Frozen):
    """One object in one frame. `state` is one of estimated, tracked, reacquired, lost and failed."""

    object: str
    obj_id: int
    instance: int = 0
    T_cam_obj: tuple[tuple[float, ...], ...] | None = None
    score: float = 0.0
    state: Literal["estimated", "tracked", "reacquired", "lost", "failed"]
    ambiguous: bool = False
    runner_up: RunnerUpPose | None = None
    seconds: float = 0.0
    error: dict[str, Any] | None = None

    @property
    def found(self) -> bool:
        """Whether the pose may be used."""
        return self.state not in ("lost", "failed")

    @property
    def pose(self) -> Float64[np.ndarray, "4 4"] | None:
        """`T_cam_obj` as an array: mesh coordinates in metres to the camera's frame; None where it failed."""
        return None if self.T_cam_obj is None else np.array(self.T_cam_obj, np.float64)


class FrameResult(Frozen):
    """All objects of one frame."""

    name: str
    frame_index: int
    scene_id: int = 0
    im_id: int = 0
    error: dict[str, Any] | None = None
    objects: tuple[ObjectInFrame, ...] = ()


class ObjectSummary(Frozen):
    """One object over all frames."""

    name: str
    mesh: str
    mesh_index: int = 0
    obj_id: int
    instance: int = 0
    diameter_m: float = 0.0
    symmetries: str = ""
    frames: int = 0
    found: int = 0
    lost: int = 0
    failed: int = 0
    ambiguous: int = 0
    median_score: float = 0.0
    median_seconds: float = 0.0
    lost_frames: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    error: dict[str, Any] | None = None


class CameraRecord(Frozen):
    """The first frame's camera; K is 3 x 3 in pixels, pixel centres at whole numbers."""

    K: tuple[tuple[float, ...], ...]
    width: int
    height: int


class ObjectPoseResult(Frozen):
    """All poses of a job: what poses.json holds."""

    schema_version: int = 1
    root: Path = Field(default=Path(), exclude=True)
    method: str
    camera: CameraRecord
    objects: tuple[ObjectSummary, ...]
    frames: tuple[FrameResult, ...]

    def poses(self, name: str) -> Float64[np.ndarray, "N 4 4"]:
        """`T_cam_obj` of one object for every frame, NaN in all numbers where it was not found."""
        found = np.full((len(self.frames), 4, 4), np.nan)
        for row, frame in zip(found, self.frames, strict=True):
            for entry in frame.objects:
                if entry.object == name and entry.found and entry.T_cam_obj is not None:
                    row[:] = entry.T_cam_obj
        return found


def _line(item: ObjectSummary) -> str:
    if item.error is not None and item.found == 0:
        return f"{item.name}: failed, {item.error['message']} [{item.error['code']}]"
    of = "found" if item.frames == 1 else f"found in {item.found} of {item.frames} frames"
    parts = [of, f"score {item.median_score:.2f}", f"{item.median_seconds:.3f} s a frame"]
    if item.ambiguous:
        parts.append("ambiguous" if item.frames == 1 else f"ambiguous in {item.ambiguous}")
    if item.lost:
        parts.append(f"LOST in {item.lost}")
    if item.failed:
        parts.append(f"failed in {item.failed}")
    return f"{item.name}: " + ", ".join(parts)
