"""Pictures, masks, depth and meshes of a request, read with bounds and in the units that the request states."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from gnomon.errors import InputError
from gnomon.formats.depth import Depth, opened_picture, read_depth
from gnomon.formats.mesh_file import load_mesh
from gnomon.geometry.mesh import Mesh
from gnomon.geometry.units import METRES_PER_UNIT, check_size
from gnomon.tasks.object_pose.spec import ObjectPose

NEAREST_MEDIAN_M = 0.05
"""No depth camera measures nearer; a median below it is a unit mixed up."""
FARTHEST_MEDIAN_M = 20.0
LEAST_IN_JPEG = 127


def read_rgb(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A colour picture as 8-bit sRGB; an alpha channel is ignored, grey becomes three equal channels.

    Raises InputError `picture_unreadable`, `picture_too_large`, `picture_type` (16-bit grey, floating point).
    """
    with opened_picture(path, "rgb", code="picture_unreadable") as picture:
        if picture.mode.startswith("I") or picture.mode == "F":
            raise InputError(
                f"{path.name} is no colour picture: its values have more than 8 bits",
                code="picture_type",
                field="rgb",
                value=path.name,
                expected="8-bit RGB or grey",
                fix="check whether --rgb and --depth are exchanged",
            )
        # A decoder turns its picture by an EXIF mark only when asked; depth and mask know of no such mark.
        return np.array(picture.convert("RGB"))


def read_mask(path: Path) -> Bool[np.ndarray, "H W"]:
    """Where the object is: any value but 0, or above 127 in a JPEG. Of several channels the first that has one counts.

    Raises InputError `mask_unreadable`, `picture_too_large`.
    """
    with opened_picture(path, "mask", code="mask_unreadable") as picture:
        values = np.array(picture)
        if picture.format == "JPEG":
            # Its compression leaves traces of the object all around it.
            values = values > LEAST_IN_JPEG
    if values.ndim == 2:
        return values != 0
    # An alpha channel says where the picture is opaque, which is everywhere.
    channels = range(values.shape[2] if values.shape[2] in (1, 3) else values.shape[2] - 1)
    chosen = next((i for i in channels if values[..., i].any()), 0)
    return values[..., chosen] != 0


def read_depth_m(path: Path, spec: ObjectPose, camera_scale: float | None) -> Float32[np.ndarray, "H W"]:
    """Depth in metres, 0 where nothing was measured.

    Its unit is `depth_scale`, else a stated `depth_unit`, else `depth_scale` of the camera file for PNG, else
    millimetres for whole numbers and metres for floating point.

    Raises InputError: what `read_depth` raises, `depth_empty`, `depth_implausible`.
    """
    depth = read_depth(path, unit_m=_stated_unit_m(path, spec, camera_scale))
    _check_depth(depth, path.name, any_size=spec.allow_any_size)
    return depth.depth_m


def _stated_unit_m(path: Path, spec: ObjectPose, camera_scale: float | None) -> float | None:
    if spec.depth_scale is not None:
        return spec.depth_scale / 1000
    if spec.depth_unit != "by-type":
        return METRES_PER_UNIT[spec.depth_unit]
    # BOP's scale is for its 16-bit PNGs; no floating-point file of metres has one.
    if camera_scale is not None and path.suffix.lower() == ".png":
        return camera_scale / 1000
    return None


def _check_depth(depth: Depth, name: str, *, any_size: bool) -> None:
    """Refuse depth without a measurement, or whose middle value no depth camera has."""
    measured = depth.depth_m[depth.depth_m > 0]
    if measured.size == 0:
        raise InputError(
            f"{name} has no measured depth: all its values are 0 or not a number",
            code="depth_empty",
            field="depth",
            value=name,
            expected="distances; 0 only where nothing was measured",
        )
    median_m = float(np.median(measured))
    if any_size or _is_plausible(median_m):
        return
    in_file = median_m / depth.unit_m
    fitting = [f"--depth-unit {unit}" for unit, factor in METRES_PER_UNIT.items() if _is_plausible(in_file * factor)]
    raise InputError(
        f"the middle depth of {name} would be {median_m:.4g} m ({in_file:.4g} in the file)",
        code="depth_implausible",
        field="depth_unit",
        value=f"{depth.unit_m:g} m per value",
        expected=f"{NEAREST_MEDIAN_M} to {FARTHEST_MEDIAN_M:g} m",
        fix=" or ".join([*fitting, "--depth-scale", "--allow-any-size"]),
    )


def _is_plausible(median_m: float) -> bool:
    return NEAREST_MEDIAN_M <= median_m <= FARTHEST_MEDIAN_M


def read_mesh_m(path: Path, spec: ObjectPose) -> Mesh:
    """The mesh with its vertices in metres. Raises InputError: what `load_mesh` raises, and `unit_implausible`."""
    mesh = load_mesh(path)
    if not spec.allow_any_size:
        check_size(mesh.diameter, spec.mesh_unit, name=path.name)
    return mesh.scaled(METRES_PER_UNIT[spec.mesh_unit])
