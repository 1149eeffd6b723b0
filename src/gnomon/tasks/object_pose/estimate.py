"""The pose of one object in one RGB-D picture, from its mask: arrays in, a `PoseEstimate` out."""

from __future__ import annotations

import time

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from gnomon.errors import InputError
from gnomon.geometry.camera import Camera
from gnomon.tasks.object_pose.methods.render_compare import search
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.search import Effort
from gnomon.tasks.object_pose.methods.render_compare.verdict import judge
from gnomon.tasks.object_pose.pose import PoseEstimate

FEWEST_MASK_PIXELS = 12
FEWEST_MEASURED = 12
"""With fewer measured pixels there is nothing that six numbers could be found from."""


def estimate(
    model: PoseModel,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: Float[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "H W"],
    camera: Camera,
    *,
    threads: int = 1,
    effort: Effort | None = None,
) -> PoseEstimate:
    """Find where `model` is in a picture.

    Args:
        model: From `prepare`.
        rgb: The colour picture. Used only for objects whose colours tell their sides apart.
        depth_m: Depth along the camera's z axis in metres, registered to `rgb`; 0 or NaN = not measured.
        mask: Where the object's visible part is. It may be a few pixels off, have bites, and leak a little.
        camera: Of both pictures.
        threads: How many threads may work on it.
        effort: How much to try; the default is what the reported figures were measured with.

    Returns:
        The pose that explains the picture best. `state` is "lost" if even that one explains it badly.

    Raises:
        InputError: sizes_differ, mask_empty, mask_without_depth.
    """
    began = time.perf_counter()
    check_sizes(rgb, depth_m, mask, camera)
    depth = clean_depth(depth_m)
    check_mask(mask, depth)
    candidates = search.find(model, rgb, depth, mask, camera, threads=threads, effort=effort or Effort())
    return judge(model, candidates, seconds=time.perf_counter() - began)


def clean_depth(depth_m: Float[np.ndarray, "H W"]) -> Float32[np.ndarray, "H W"]:
    """float32 with 0 for every value that is no measurement."""
    depth = np.ascontiguousarray(depth_m, np.float32)
    usable = np.isfinite(depth) & (depth > 0)
    return depth if usable.all() else np.where(usable, depth, np.float32(0))


def check_sizes(rgb: np.ndarray, depth_m: np.ndarray, mask: np.ndarray | None, camera: Camera) -> None:
    """Raise InputError `sizes_differ` unless all are as large as the camera's picture."""
    size = (camera.height, camera.width)
    for field, array in (("rgb", rgb), ("depth_m", depth_m), ("mask", mask)):
        if array is not None and array.shape[:2] != size:
            raise InputError(
                f"{field} is {array.shape[1]} x {array.shape[0]} pixels, the camera's picture {size[1]} x {size[0]}",
                code="sizes_differ",
                field=field,
                value=list(array.shape[:2]),
                expected=f"{size[1]} x {size[0]} pixels, as the camera",
                fix="resize the masks and register the depth to the colour picture",
            )


def check_mask(mask: Bool[np.ndarray, "H W"], depth_m: Float32[np.ndarray, "H W"]) -> None:
    """Raise InputError `mask_empty` or `mask_without_depth` if no pose can come of it."""
    pixels = int(mask.sum())
    if pixels < FEWEST_MASK_PIXELS:
        raise InputError(
            f"the mask has {pixels} pixels",
            code="mask_empty",
            field="mask",
            value=pixels,
            expected=f"at least {FEWEST_MASK_PIXELS} pixels on the object",
            fix="give a mask in which the object's pixels are not zero",
        )
    measured = int((depth_m[mask] > 0).sum())
    if measured < FEWEST_MEASURED:
        raise InputError(
            f"only {measured} of the mask's {pixels} pixels have a measured depth",
            code="mask_without_depth",
            field="mask",
            value=measured,
            expected=f"at least {FEWEST_MEASURED} pixels with depth",
            fix="check that depth and mask belong to the same picture, and the depth's unit",
        )
