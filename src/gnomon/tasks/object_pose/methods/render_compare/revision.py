"""Second thoughts about a mask, as depth sees it.

Segmenters take a part for the whole, or let the table belong to the object. Where the first search ends badly, the
mask is made anew: what is connected with its core without a step in depth, near enough to be the same object, and
not of the plane that things stand on. The outcome is a proposal: poses found with it still have to explain the
mask that was given.
"""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from gnomon.geometry.camera import Camera

REACH = 0.8
"""Diameters around the mask's middle that the object cannot exceed."""

STEP_M = 0.006
"""A step in depth between neighbours, per metre of depth, that ends a surface."""

PLANE_M = 0.006
PLANE_ROUNDS = 60
PLANE_SHARE = 0.12
"""Least share of the surroundings for a plane to count as what things stand on."""


def revised_mask(
    mask: Bool[np.ndarray, "H W"], depth_m: Float32[np.ndarray, "H W"], camera: Camera, diameter_m: float
) -> Bool[np.ndarray, "H W"] | None:
    """The mask as depth sees it; None where that is nothing usable or hardly different."""
    middle = _middle(mask, depth_m, camera)
    if middle is None:
        return None
    box = _box(middle, camera, REACH * diameter_m)
    if box is None:
        return None
    x0, y0, x1, y1 = box
    points = _points(depth_m[y0:y1, x0:x1], camera, x0, y0)
    measured = points[..., 2] > 0
    near = measured & (((points - middle) ** 2).sum(axis=-1) < (REACH * diameter_m) ** 2)
    small_mask = mask[y0:y1, x0:x1]
    near &= ~_on_plane(points, measured, small_mask)
    # A leak hangs on the core by a thin bridge at most.
    core = cv2.erode((small_mask & near).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    if int(core.sum()) < 12:
        return None
    grown = _connected(points[..., 2], near, core)
    both, either = int((grown & small_mask).sum()), int((grown | small_mask).sum())
    if int(grown.sum()) < 40 or both > 0.85 * either:
        return None
    out = np.zeros_like(mask)
    out[y0:y1, x0:x1] = grown
    return out


def bodies(
    near: Bool[np.ndarray, "H W"], depth_m: Float32[np.ndarray, "H W"], camera: Camera, most: int
) -> list[Bool[np.ndarray, "H W"]]:
    """What stands apart among the pixels `near`, once the plane that things stand on is gone; the largest first."""
    rows, columns = np.flatnonzero(near.any(axis=1)), np.flatnonzero(near.any(axis=0))
    if len(rows) == 0:
        return []
    y0, y1, x0, x1 = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    points = _points(depth_m[y0:y1, x0:x1], camera, int(x0), int(y0))
    inside = near[y0:y1, x0:x1]
    standing = inside & ~_on_plane(points, inside, np.zeros_like(inside))
    found = []
    left = standing.copy()
    for _ in range(most):
        # The core of what is largest now: pixels whose neighbours are left too.
        core = cv2.erode(left.astype(np.uint8), np.ones((3, 3), np.uint8))
        _, labels, stats, _ = cv2.connectedComponentsWithStats(core, connectivity=4)
        if len(stats) < 2 or stats[1:, cv2.CC_STAT_AREA].max() < 30:
            break
        seed = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
        body = _connected(points[..., 2], left, seed)
        whole = np.zeros_like(near)
        whole[y0:y1, x0:x1] = body
        found.append(whole)
        left &= ~(body | seed)
    return found


def _middle(
    mask: Bool[np.ndarray, "H W"], depth_m: Float32[np.ndarray, "H W"], camera: Camera
) -> Float64[np.ndarray, " 3"] | None:
    v, u = np.nonzero(mask & (depth_m > 0))
    if len(v) == 0:
        return None
    z = float(np.median(depth_m[v, u]))
    return camera.unproject(np.array([np.median(u), np.median(v)]), np.array(z))


def _box(middle: Float64[np.ndarray, " 3"], camera: Camera, radius_m: float) -> tuple[int, int, int, int] | None:
    u, v = camera.project(middle)
    reach = radius_m * camera.fx / middle[2]
    x0, x1 = int(max(u - reach, 0)), int(min(u + reach + 1, camera.width))
    y0, y1 = int(max(v - reach, 0)), int(min(v + reach + 1, camera.height))
    return (x0, y0, x1, y1) if x1 - x0 > 4 and y1 - y0 > 4 else None


def _points(depth_m: Float32[np.ndarray, "h w"], camera: Camera, x0: int, y0: int) -> Float32[np.ndarray, "h w 3"]:
    height, width = depth_m.shape
    x = (np.arange(x0, x0 + width, dtype=np.float32) - np.float32(camera.cx)) / np.float32(camera.fx)
    y = (np.arange(y0, y0 + height, dtype=np.float32) - np.float32(camera.cy)) / np.float32(camera.fy)
    return np.stack([x[None] * depth_m, y[:, None] * depth_m, depth_m], axis=-1)


def _on_plane(
    points: Float32[np.ndarray, "h w 3"], measured: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """Points on the largest plane around the mask, if there is one that deserves the name."""
    around = points[measured & ~mask]
    none = np.zeros(measured.shape, bool)
    if len(around) < 100:
        return none
    rng = np.random.default_rng(0)
    sample = around[rng.integers(len(around), size=1200)].astype(np.float64)
    corners = sample[rng.integers(len(sample), size=(PLANE_ROUNDS, 3))]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normals, axis=-1)
    good = length > 1e-7
    if not good.any():
        return none
    normals, corners = normals[good] / length[good, None], corners[good]
    off = np.abs(sample @ normals.T - (normals * corners[:, 0]).sum(axis=-1))
    counts = (off < PLANE_M).sum(axis=0)
    best = int(counts.argmax())
    if counts[best] < PLANE_SHARE * len(sample):
        return none
    on_it = sample[off[:, best] < PLANE_M]
    centre = on_it.mean(axis=0)
    normal = np.linalg.svd(on_it - centre, full_matrices=False)[2][2]
    return measured & (np.abs((points - centre) @ normal) < 1.3 * PLANE_M)


def _connected(
    depth_m: Float32[np.ndarray, "h w"], allowed: Bool[np.ndarray, "h w"], core: Bool[np.ndarray, "h w"]
) -> Bool[np.ndarray, "h w"]:
    """The allowed pixels that hang together with the core; steps in depth separate."""
    z = np.where(allowed, depth_m, np.nan)
    lowest = cv2.erode(np.where(allowed, depth_m, np.float32(1e6)), np.ones((3, 3), np.uint8))
    highest = cv2.dilate(np.where(allowed, depth_m, np.float32(0)), np.ones((3, 3), np.uint8))
    smooth = allowed & (np.maximum(highest - z, z - lowest) < STEP_M * np.maximum(z, 0.3) + 0.004)
    _, labels = cv2.connectedComponents((smooth | (core & allowed)).astype(np.uint8), connectivity=4)
    touched = np.unique(labels[core])
    sizes = np.bincount(labels[core], minlength=labels.max() + 1)
    main = [label for label in touched if label > 0 and sizes[label] >= 0.1 * core.sum()]
    grown = np.isin(labels, main)
    # The rim, where every pixel is next to a step, comes back.
    return (cv2.dilate(grown.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0) & allowed
