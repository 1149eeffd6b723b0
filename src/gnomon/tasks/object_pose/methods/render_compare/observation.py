"""What the camera saw around the mask, small and cleaned: everything the kernels compare hypotheses with."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numba
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from gnomon.geometry.camera import Camera
from gnomon.tasks.object_pose.methods.render_compare.points import GRID

MARGIN = 1.35
"""Side of the crop over the side of the mask's box."""

SMALLEST_SIDE, LARGEST_SIDE = 0.3, 2.2
"""Bounds of the crop's side, in diameters of the object at the mask's depth."""

CUT_OFF_SIDE = 1.7
"""Least side, in diameters, where the mask touches the border of the picture."""

POOL_TOLERANCE = 0.01
"""Metres: depths of one cell this close to its median are averaged; the others belong to another surface."""

JUMP_M = 0.03
"""A step in depth between neighbours that is an edge, not a slope."""

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


class Observation(NamedTuple):
    """A square crop of size S; pixel centres at integers, metres, camera axes as everywhere."""

    fx: float
    fy: float
    cx: float
    cy: float
    surface: Float32[np.ndarray, "S S 4"]
    """Depth, 0 where nothing was measured and -1 beyond the picture, and the unit normal facing the camera, 0 where
    unknown."""
    mask: UInt8[np.ndarray, "S S"]
    """2 well inside the mask, 1 within two pixels of its border, 0 outside."""
    near_mask: UInt8[np.ndarray, "S S"]
    """1 in the mask widened by two pixels."""
    mask_distance: Float32[np.ndarray, "S S"]
    """Pixels to the mask's border, positive outside."""
    inside_picture: UInt8[np.ndarray, "S S"]
    """0 where the crop reaches beyond the picture: nothing is known there."""
    luma: Float32[np.ndarray, "S S"]
    """Brightness 0 to 1, blurred by a pixel."""
    luma_gradient: Float32[np.ndarray, "S S 2"]
    rgb: Float32[np.ndarray, "S S 3"]
    cell_share: Float32[np.ndarray, " G*G"]
    """Share of the mask's pixels in each cell of the GRID x GRID; 0 in cells that the mask only touches."""


class Crop(NamedTuple):
    """A square window of the picture: crop pixel = (picture pixel - centre) * scale + size / 2 - 0.5."""

    centre_u: float
    centre_v: float
    side_px: float
    size: int

    @property
    def scale(self) -> float:
        return self.size / self.side_px

    @property
    def to_picture(self) -> Float[np.ndarray, "2 3"]:
        """Crop pixels to picture pixels."""
        step, middle = 1 / self.scale, self.size / 2 - 0.5
        return np.array([[step, 0, self.centre_u - middle * step], [0, step, self.centre_v - middle * step]])

    def camera(self, camera: Camera) -> tuple[float, float, float, float]:
        """fx, fy, cx, cy of the crop."""
        middle = self.size / 2 - 0.5
        return (
            camera.fx * self.scale,
            camera.fy * self.scale,
            (camera.cx - self.centre_u) * self.scale + middle,
            (camera.cy - self.centre_v) * self.scale + middle,
        )


def crop_around(
    mask: Bool[np.ndarray, "H W"],
    depth_m: Float32[np.ndarray, "H W"],
    camera: Camera,
    diameter_m: float,
    size: int,
) -> Crop:
    """The window around a mask, never much larger than the object can be seen there."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    v, u = np.nonzero(box)
    left, right = np.percentile(u, (0.5, 99.5)) + columns[0]
    top, bottom = np.percentile(v, (0.5, 99.5)) + rows[0]
    side = max(right - left, bottom - top, 8.0) * MARGIN
    inside = depth_m[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][box]
    inside = inside[inside > 0]
    if len(inside):
        object_px = diameter_m * camera.fx / float(np.median(inside))
        side = min(max(side, SMALLEST_SIDE * object_px), LARGEST_SIDE * object_px)
        if rows[0] < 2 or columns[0] < 2 or rows[-1] > len(mask) - 3 or columns[-1] > mask.shape[1] - 3:
            # The picture cuts the object off: the rest of it lies outside, and the window must have room for it.
            side = max(side, CUT_OFF_SIDE * object_px)
    return Crop((left + right) / 2, (top + bottom) / 2, max(side, 12.0), size)


def observe(
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: Float32[np.ndarray, "H W"],
    mask: Bool[np.ndarray, "H W"],
    camera: Camera,
    crop: Crop,
    *,
    use_colour: bool,
) -> Observation:
    """Resample the window and derive what the kernels need."""
    depth, inside_picture = resample_depth(depth_m, crop)
    flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    small_mask = cv2.warpAffine(mask.view(np.uint8), crop.to_picture, (crop.size, crop.size), flags=flags)
    return describe(rgb, depth, inside_picture, small_mask, camera, crop, use_colour=use_colour)


def resample_depth(
    depth_m: Float32[np.ndarray, "H W"], crop: Crop
) -> tuple[Float32[np.ndarray, "S S"], UInt8[np.ndarray, "S S"]]:
    """Depth in the window, 0 where unknown, and 1 where the window lies inside the picture."""
    depth = np.empty((crop.size, crop.size), np.float32)
    inside_picture = np.empty((crop.size, crop.size), np.uint8)
    _pool_depth(depth_m, crop.to_picture, depth, inside_picture)
    median = cv2.medianBlur(depth, 3)
    return np.where((depth > 0) & (np.abs(median - depth) < 0.02), median, depth), inside_picture


def describe(
    rgb: UInt8[np.ndarray, "H W 3"],
    depth: Float32[np.ndarray, "S S"],
    inside_picture: UInt8[np.ndarray, "S S"],
    small_mask: UInt8[np.ndarray, "S S"],
    camera: Camera,
    crop: Crop,
    *,
    use_colour: bool,
) -> Observation:
    """The Observation of a window whose depth and mask (0 and 1) are resampled already."""
    fx, fy, cx, cy = crop.camera(camera)
    smooth = cv2.bilateralFilter(depth, 5, 0.015, 2.0)
    surface = np.zeros((crop.size, crop.size, 4), np.float32)
    surface[..., 0] = np.where(inside_picture > 0, depth, np.float32(-1))
    _normals(smooth, depth, fx, fy, cx, cy, surface)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    outside = cv2.distanceTransform(1 - small_mask, cv2.DIST_L2, 3)
    inside = cv2.distanceTransform(small_mask, cv2.DIST_L2, 3)
    colour = _colour(rgb, crop, crop.to_picture) if use_colour else (_NO_LUMA, _NO_GRADIENT, _NO_RGB)
    return Observation(
        fx,
        fy,
        cx,
        cy,
        surface,
        small_mask + cv2.erode(small_mask, disc),
        cv2.dilate(small_mask, disc),
        (outside - inside).astype(np.float32),
        inside_picture,
        *colour,
        _cell_share(small_mask),
    )


_NO_LUMA = np.zeros((1, 1), np.float32)
_NO_GRADIENT = np.zeros((1, 1, 2), np.float32)
_NO_RGB = np.zeros((1, 1, 3), np.float32)


def _colour(
    rgb: UInt8[np.ndarray, "H W 3"], crop: Crop, to_picture: Float[np.ndarray, "2 3"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    small = colour_window(rgb, crop, to_picture)
    luma = cv2.GaussianBlur(small @ LUMA, (0, 0), 1.0)
    gradient = np.stack(
        [cv2.Sobel(luma, cv2.CV_32F, 1, 0, ksize=3) / 8, cv2.Sobel(luma, cv2.CV_32F, 0, 1, ksize=3) / 8], axis=-1
    )
    return luma, gradient, small


def colour_window(
    rgb: UInt8[np.ndarray, "H W 3"], crop: Crop, to_picture: Float[np.ndarray, "2 3"]
) -> Float32[np.ndarray, "S S 3"]:
    """The window's colours, 0 to 1."""
    size = crop.size
    # Only the window is blurred: a whole picture costs more than all the rest.
    half = crop.side_px / 2 + 8
    height, width = rgb.shape[:2]
    left, top = max(int(crop.centre_u - half), 0), max(int(crop.centre_v - half), 0)
    right, bottom = min(math.ceil(crop.centre_u + half), width), min(math.ceil(crop.centre_v + half), height)
    window = rgb[top:bottom, left:right]
    if window.size == 0:
        return np.zeros((size, size, 3), np.float32)
    if crop.scale < 1:
        window = cv2.GaussianBlur(window, (0, 0), 0.5 / crop.scale)
    shifted = to_picture - np.array([[0, 0, left], [0, 0, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    small = cv2.warpAffine(window, shifted, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return small.astype(np.float32) / 255


def _cell_share(mask: UInt8[np.ndarray, "S S"]) -> Float32[np.ndarray, " G*G"]:
    size = len(mask)
    v, u = np.nonzero(mask)
    counts = np.zeros((GRID, GRID), np.float32)
    np.add.at(counts, (v * GRID // size, u * GRID // size), 1)
    counts[counts < 0.3 * (size / GRID) ** 2] = 0
    if not counts.any():
        np.add.at(counts, (v * GRID // size, u * GRID // size), 1)
    return (counts / max(float(counts.sum()), 1.0)).reshape(-1)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _pool_depth(depth_m, to_picture, out, inside_picture):
    """Each crop pixel: the mean of the picture's depths under it that lie near their median."""
    height, width = depth_m.shape
    step = to_picture[0, 0]
    reach = max(int(np.ceil((step - 1.0) / 2.0)), 0)
    values = np.empty((2 * reach + 1) ** 2, np.float32)
    for y in range(out.shape[0]):
        v = int(np.floor(to_picture[1, 1] * y + to_picture[1, 2] + 0.5))
        for x in range(out.shape[1]):
            u = int(np.floor(step * x + to_picture[0, 2] + 0.5))
            out[y, x] = 0.0
            inside_picture[y, x] = 1 if (0 <= u < width and 0 <= v < height) else 0
            n = 0
            for j in range(max(v - reach, 0), min(v + reach, height - 1) + 1):
                for i in range(max(u - reach, 0), min(u + reach, width - 1) + 1):
                    if depth_m[j, i] > 0:
                        values[n] = depth_m[j, i]
                        n += 1
            if n == 0 or 2 * n < (2 * reach + 1) ** 2:
                continue
            # The pixel at the middle decides which surface it is, if it was measured.
            anchor = depth_m[v, u] if inside_picture[y, x] and depth_m[v, u] > 0 else np.median(values[:n])
            total = np.float32(0.0)
            used = 0
            for k in range(n):
                if abs(values[k] - anchor) < POOL_TOLERANCE:
                    total += values[k]
                    used += 1
            if used > 0:
                out[y, x] = total / used


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _normals(smooth, depth, fx, fy, cx, cy, out):
    """Normals from differences two pixels apart, one-sided at edges."""
    height, width = depth.shape
    step = 2
    for y in range(height):
        for x in range(width):
            if depth[y, x] <= 0.0:
                continue
            z = smooth[y, x]
            x0 = max(x - step, 0)
            x1 = min(x + step, width - 1)
            y0 = max(y - step, 0)
            y1 = min(y + step, height - 1)
            if not (depth[y, x0] > 0.0 and abs(smooth[y, x0] - z) < JUMP_M):
                x0 = x
            if not (depth[y, x1] > 0.0 and abs(smooth[y, x1] - z) < JUMP_M):
                x1 = x
            if not (depth[y0, x] > 0.0 and abs(smooth[y0, x] - z) < JUMP_M):
                y0 = y
            if not (depth[y1, x] > 0.0 and abs(smooth[y1, x] - z) < JUMP_M):
                y1 = y
            if x0 == x1 or y0 == y1:
                continue
            za = smooth[y, x0]
            zb = smooth[y, x1]
            ax = (x1 - cx) / fx * zb - (x0 - cx) / fx * za
            ay = (y - cy) / fy * (zb - za)
            az = zb - za
            zc = smooth[y0, x]
            zd = smooth[y1, x]
            bx = (x - cx) / fx * (zd - zc)
            by = (y1 - cy) / fy * zd - (y0 - cy) / fy * zc
            bz = zd - zc
            nx = ay * bz - az * by
            ny = az * bx - ax * bz
            nz = ax * by - ay * bx
            length = np.sqrt(nx * nx + ny * ny + nz * nz)
            if length == 0.0:
                continue
            if nx * (x - cx) / fx + ny * (y - cy) / fy + nz > 0.0:
                length = -length
            out[y, x, 1] = nx / length
            out[y, x, 2] = ny / length
            out[y, x, 3] = nz / length
