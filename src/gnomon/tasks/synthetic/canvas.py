"""A picture into which bodies are drawn one after the other; the nearest surface is seen."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from jaxtyping import Float, Float32, Int16, UInt8

from gnomon.geometry.camera import Camera
from gnomon.geometry.view import View, ViewMesh, draw_view

NOTHING, OBJECT, SUPPORT, WALL, OCCLUDER, CLUTTER = 0, 1, 2, 3, 4, 5
"""Labels; the first piece of clutter has CLUTTER, the next ones the numbers that follow."""

NEAR_M = 0.05
FAR_M = 20.0

Window = tuple[slice, slice]
"""Rows and columns of a picture."""


class Drawn(NamedTuple):
    """A body in a picture."""

    body: ViewMesh
    T_cam_body: Float[np.ndarray, "4 4"]
    """In metres."""
    label: int
    tint: Float[np.ndarray, " 3"]


class Canvas:
    """What every pixel of a camera sees of the bodies so far."""

    def __init__(self, camera: Camera) -> None:
        size = (camera.height, camera.width)
        self.camera = camera
        self.depth_m: Float32[np.ndarray, "H W"] = np.zeros(size, np.float32)
        """0 where nothing is seen."""
        self.normal_cam: Float32[np.ndarray, "H W 3"] = np.zeros((*size, 3), np.float32)
        self.albedo: UInt8[np.ndarray, "H W 3"] = np.zeros((*size, 3), np.uint8)
        self.label: Int16[np.ndarray, "H W"] = np.full(size, NOTHING, np.int16)
        self.drawn: list[Drawn] = []
        """The bodies so far, so that the scene can be drawn again with one of them elsewhere."""

    def add(
        self, body: ViewMesh, T_cam_body: Float[np.ndarray, "4 4"], label: int, tint: Float[np.ndarray, " 3"]
    ) -> None:
        """Draw a body; its colours are multiplied with `tint` (0 to 1)."""
        self.drawn.append(Drawn(body, T_cam_body, label, tint))
        drawn = view_in_window(body, T_cam_body, self.camera)
        if drawn is None:
            return
        view, at = drawn
        assert view.rgb is not None
        _merge(
            view.depth_m, view.normal_cam, view.rgb, np.asarray(tint, np.float32), label,
            self.depth_m[at], self.normal_cam[at], self.albedo[at], self.label[at],
        )  # fmt: skip

    def would_hide(self, body: ViewMesh, T_cam_body: Float[np.ndarray, "4 4"]) -> int:
        """How many pixels of the object that are seen now a further body would hide."""
        drawn = view_in_window(body, T_cam_body, self.camera, colour=False)
        if drawn is None:
            return 0
        view, at = drawn
        return int(((view.depth_m > 0) & (view.depth_m < self.depth_m[at]) & (self.label[at] == OBJECT)).sum())


def view_in_window(
    body: ViewMesh, T_cam_body: Float[np.ndarray, "4 4"], camera: Camera, *, colour: bool = True
) -> tuple[View, Window] | None:
    """A body drawn into the smallest window that holds it, and the window; None if it is out of the picture."""
    left, top, right, bottom = _bounds(body, T_cam_body, camera)
    if right <= left or bottom <= top:
        return None
    part = camera.cropped(left, top, right - left, bottom - top)
    view = draw_view(body, T_cam_body, part, near_m=NEAR_M, far_m=FAR_M, colour=colour)
    return view, (slice(top, bottom), slice(left, right))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _merge(depth, normal, rgb, tint, label, out_depth, out_normal, out_albedo, out_label):
    """Copy what a view sees nearer than the picture so far (depth 0: nothing yet)."""
    for y in range(depth.shape[0]):
        for x in range(depth.shape[1]):
            z = depth[y, x]
            if z > 0 and (z < out_depth[y, x] or out_depth[y, x] == 0):
                out_depth[y, x] = z
                out_label[y, x] = label
                for k in range(3):
                    out_normal[y, x, k] = normal[y, x, k]
                    out_albedo[y, x, k] = np.uint8(np.float32(rgb[y, x, k]) * tint[k])


def _bounds(body: ViewMesh, T_cam_body: Float[np.ndarray, "4 4"], camera: Camera) -> tuple[int, int, int, int]:
    """Left, top, right and bottom (exclusive) of the box's projection, inside the picture."""
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    corners = body.drawable.origin + signs * body.drawable.half_extent
    points = corners @ T_cam_body[:3, :3].T + T_cam_body[:3, 3]
    if points[:, 2].max() <= NEAR_M:
        return 0, 0, 0, 0
    if points[:, 2].min() <= NEAR_M:
        return 0, 0, camera.width, camera.height
    pixels = camera.project(points)
    # Clipped before they become whole numbers: points just in front of the camera may be anywhere.
    low = np.clip(np.floor(pixels.min(axis=0)), 0, (camera.width, camera.height)).astype(int)
    high = np.clip(np.ceil(pixels.max(axis=0)) + 1, 0, (camera.width, camera.height)).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
