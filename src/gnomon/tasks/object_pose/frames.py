"""The frames and objects of a request: which masks belong to which, and frames that are read when they are needed.

What a method gets to see is defined here: `Frame`, `Target` and `LoadedFrame`. They name no job and no folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gnomon.errors import InputError
from gnomon.geometry.camera import Camera
from gnomon.geometry.units import METRES_PER_UNIT, Unit
from gnomon.tasks.object_pose import read
from gnomon.tasks.object_pose.read_camera import CameraFile
from gnomon.tasks.object_pose.spec import ObjectPose

MOST_SIZE_RATIO = 10.0
LEAST_MASKED_DEPTH = 4
"""With fewer measured pixels under a mask no method can place an object."""


ReadMask = Callable[[], Bool[np.ndarray, "H W"]]
MasksByPlace = dict[tuple[int, int], ReadMask]
"""By frame and target."""


@dataclass(frozen=True)
class Target:
    """One object that is looked for: a mesh, and which of its instances."""

    index: int
    name: str
    """Unique; the name of its folder of results."""
    mesh: int
    """Index into the request's meshes."""
    obj_id: int
    instance: int = 0


@dataclass(frozen=True)
class LoadedFrame:
    """One frame's pictures, all of the same size."""

    rgb: UInt8[np.ndarray, "H W 3"]
    depth_m: Float32[np.ndarray, "H W"]
    """Metres along the optical axis, 0 where nothing was measured."""
    camera: Camera


@dataclass(frozen=True)
class Frame:
    """One frame of the request. Nothing is read before `load` and `mask` are called."""

    index: int
    name: str
    """Unique; the stem of its result files."""
    im_id: int
    load: Callable[[], LoadedFrame]
    """Raises InputError for pictures that cannot be used."""
    masks: dict[int, ReadMask] = field(default_factory=dict)
    """By the index of the target that is to be found there. Empty in frames that are only tracked."""

    mesh_unit: Unit | None = None
    """What the meshes are said to be in; None if their size is not to be compared with the masks."""

    def mask(self, target: int, loaded: LoadedFrame, diameter_m: float) -> Bool[np.ndarray, "H W"]:
        """The mask of a target, checked against the pictures and the size of the mesh.

        Raises InputError `mask_unreadable`, `sizes_differ`, `mask_empty`, `mask_without_depth`, `unit_implausible`.
        """
        mask = self.masks[target]()
        _check_size("mask", mask.shape, loaded.rgb.shape[:2], self.name)
        if not mask.any():
            raise InputError(
                f"the mask in frame {self.name} is empty",
                code="mask_empty",
                field="mask",
                value=self.name,
                expected="a value other than 0 on every pixel of the object",
            )
        depth_m = loaded.depth_m[mask]
        measured = depth_m[depth_m > 0]
        if measured.size < LEAST_MASKED_DEPTH:
            raise InputError(
                f"in frame {self.name} depth was measured on {measured.size} of the mask's {depth_m.size} pixels",
                code="mask_without_depth",
                field="mask",
                value=self.name,
                expected=f"{LEAST_MASKED_DEPTH} pixels with depth or more",
                fix="check that mask and depth belong to the same frame; shiny and transparent things have no depth",
            )
        if self.mesh_unit is not None:
            _check_units(mask, float(np.median(measured)), loaded.camera, diameter_m, self.name, self.mesh_unit)
        return mask


def _check_units(
    mask: Bool[np.ndarray, "H W"], distance_m: float, camera: Camera, diameter_m: float, name: str, unit: Unit
) -> None:
    """Refuse a mesh that would look ten times as large or as small as its mask: one of the units is wrong."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    seen_m = math.hypot(np.ptp(columns) + 1.0, np.ptp(rows) + 1.0) * distance_m / math.sqrt(camera.fx * camera.fy)
    ratio = diameter_m / seen_m
    if 1 / MOST_SIZE_RATIO <= ratio <= MOST_SIZE_RATIO:
        return
    shown = f"{diameter_m * 1000:.4g} mm across; its mask and depth in frame {name} say about {seen_m * 1000:.4g} mm"
    raw = diameter_m / METRES_PER_UNIT[unit]
    fitting: list[Unit] = [other for other, factor in METRES_PER_UNIT.items() if 1 / 3 <= raw * factor / seen_m <= 3]
    hint = f'; in "{fitting[0]}" it would be {raw * METRES_PER_UNIT[fitting[0]] * 1000:.4g} mm' if fitting else ""
    raise InputError(
        f"the mesh would be {shown}{hint}",
        code="unit_implausible",
        field="mesh_unit",
        value=unit,
        expected=f"sizes that agree within a factor of {MOST_SIZE_RATIO:g}",
        fix=" or ".join([*(f"--mesh-unit {other}" for other in fitting), "--depth-unit", "--allow-any-size"]),
    )


def plan(spec: ObjectPose, path: Callable[[str], Path]) -> tuple[list[Target], list[Frame]]:
    """Who is to be found where. `path` gives the file of an input by its name.

    Raises:
        InputError: the camera or detections file cannot be used.
    """
    camera = CameraFile(path(spec.camera))
    names = _frame_names(spec.rgb, spec.im_id)
    im_ids = spec.im_id or [int(name) if name.isdecimal() and len(name) < 16 else i for i, name in enumerate(names)]
    targets, masks = _detected(spec, path, im_ids) if spec.detections is not None else _masked(spec, path)
    by_frame: dict[int, dict[int, ReadMask]] = {}
    for (frame, target), read_it in masks.items():
        by_frame.setdefault(frame, {})[target] = read_it
    frames = [
        Frame(
            index=i,
            name=name,
            im_id=im_ids[i],
            load=_Loader(spec, path(spec.rgb[i]), path(spec.depth[i]), camera, im_ids[i]),
            masks=by_frame.get(i, {}),
            mesh_unit=None if spec.allow_any_size else spec.mesh_unit,
        )
        for i, name in enumerate(names)
    ]
    return targets, frames


@dataclass(frozen=True)
class _Loader:
    """Reads the pictures of one frame."""

    spec: ObjectPose
    rgb: Path
    depth: Path
    camera: CameraFile
    im_id: int

    def __call__(self) -> LoadedFrame:
        intrinsics = self.camera.of(self.im_id)
        rgb = read.read_rgb(self.rgb)
        depth_m = read.read_depth_m(self.depth, self.spec, intrinsics.depth_scale)
        _check_size("depth", depth_m.shape, rgb.shape[:2], self.depth.name)
        return LoadedFrame(rgb, depth_m, intrinsics.camera(rgb.shape[1], rgb.shape[0], self.camera.name))


def _check_size(what: str, found: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    if found != expected:
        raise InputError(
            f"{what} {name} has {found[1]} x {found[0]} pixels, its colour picture {expected[1]} x {expected[0]}",
            code="sizes_differ",
            field=what,
            value=f"{found[1]} x {found[0]}",
            expected=f"{expected[1]} x {expected[0]}",
            fix="depth and masks must be registered to the colour picture, pixel by pixel",
        )


def _masked(spec: ObjectPose, path: Callable[[str], Path]) -> tuple[list[Target], MasksByPlace]:
    """Targets and masks by (frame, target), from a list of mask pictures."""
    assert spec.mask is not None
    frame_of, mesh_of = _assign(spec, len(spec.mask))
    pairs: list[tuple[int, int, int]] = []
    seen: dict[tuple[int, int], int] = {}
    for frame, mesh in zip(frame_of, mesh_of, strict=True):
        # While tracking, every mask starts an object of its own; else the k-th mask of a mesh in a frame is the
        # mesh's k-th instance.
        counted = (0 if spec.track else frame, mesh)
        instance = seen[counted] = seen.get(counted, -1) + 1
        pairs.append((frame, mesh, instance))
    targets = _name_targets(spec, sorted({(mesh, instance) for _, mesh, instance in pairs}))
    index = {(target.mesh, target.instance): target.index for target in targets}
    masks: MasksByPlace = {
        (frame, index[mesh, instance]): _MaskReader(path(name))
        for (frame, mesh, instance), name in zip(pairs, spec.mask, strict=True)
    }
    return targets, masks


@dataclass(frozen=True)
class _MaskReader:
    path: Path

    def __call__(self) -> Bool[np.ndarray, "H W"]:
        return read.read_mask(self.path)


def _assign(spec: ObjectPose, masks: int) -> tuple[list[int], list[int]]:
    """Frame and mesh of every mask; the spec has checked that the numbers allow it."""
    meshes = len(spec.mesh)
    frame_by_frame = not spec.track and spec.mask_frame is None and masks == len(spec.rgb) * meshes
    if frame_by_frame:
        frame_of = [i // meshes for i in range(masks)]
        return frame_of, spec.mask_mesh or [i % meshes for i in range(masks)]
    frame_of = spec.mask_frame or [0] * masks
    return frame_of, spec.mask_mesh or ([0] * masks if meshes == 1 else list(range(masks)))


def _detected(spec: ObjectPose, path: Callable[[str], Path], im_ids: list[int]) -> tuple[list[Target], MasksByPlace]:
    """Targets and masks from a file of detections: the best of each object in each frame, or in the first."""
    from gnomon.tasks.object_pose.read_detections import best_detections

    assert spec.detections is not None
    obj_ids = object_ids(spec)
    wanted = im_ids[:1] if spec.track else im_ids
    found = best_detections(path(spec.detections), spec.scene_id, wanted, obj_ids, spec.instances)
    frame_of = {im_id: i for i, im_id in enumerate(im_ids)}
    mesh_of = {obj_id: i for i, obj_id in enumerate(obj_ids)}
    targets = _name_targets(spec, sorted({(mesh_of[obj_id], rank) for _, obj_id, rank in found}))
    index = {(target.mesh, target.instance): target.index for target in targets}
    masks: MasksByPlace = {
        (frame_of[im_id], index[mesh_of[obj_id], rank]): mask for (im_id, obj_id, rank), mask in found.items()
    }
    return targets, masks


def object_ids(spec: ObjectPose) -> list[int]:
    """The number of each mesh: as given, else from a name like obj_000005.ply, else counted from 1."""
    if spec.obj_id is not None:
        return list(spec.obj_id)
    found = [re.search(r"obj_0*(\d{1,9})$", PurePosixPath(name).stem) for name in spec.mesh]
    ids = [int(match[1]) if match else None for match in found]
    if None in ids or len(set(ids)) < len(ids):
        return list(range(1, len(ids) + 1))
    return [number for number in ids if number is not None]


def _name_targets(spec: ObjectPose, pairs: list[tuple[int, int]]) -> list[Target]:
    """A unique name for each pair of mesh and instance: that of the mesh, and a number where there are several."""
    stems = spec.name or [PurePosixPath(name).stem for name in spec.mesh]
    clean = [_clean(stem) for stem in stems]
    ids = object_ids(spec)
    often = [sum(clean[mesh].lower() == clean[other].lower() for other, _ in pairs) for mesh, _ in pairs]
    taken: set[str] = set()
    targets = []
    for i, (mesh, instance) in enumerate(pairs):
        number = instance + 1
        name = clean[mesh] if often[i] == 1 else f"{clean[mesh]}-{number}"
        while name.lower() in taken:
            number += 1
            name = f"{clean[mesh]}-{number}"
        taken.add(name.lower())
        targets.append(Target(i, name, mesh, ids[mesh], instance))
    return targets


def _frame_names(rgb: list[str], im_ids: list[int] | None) -> list[str]:
    """The stem of each colour picture; six digits for all where two are alike, or where only `im_id` has numbers."""
    stems = [_clean(PurePosixPath(name).stem) for name in rgb]
    if im_ids is not None and len(set(im_ids)) == len(im_ids) and not all(stem.isdecimal() for stem in stems):
        return [f"{im_id:06d}" for im_id in im_ids]
    if len({stem.lower() for stem in stems}) == len(stems):
        return stems
    return [f"{i:06d}" for i in range(len(rgb))]


def _clean(stem: str) -> str:
    return re.sub(r"[^\w.-]+", "_", stem).strip("._")[:100] or "object"
