"""Which pixels look like the object and which like its surroundings: colours of the picture itself, not of the mesh.

A depth sensor blurs outlines and loses pixels there, a mask is roughly drawn; the colour picture has the sharpest
outline of all. The mask says what colours the object mostly has in this light and what is around it, and with that
a missing tooth or a hole shows as what lies behind it.

Similar: V. Prisacariu, I. Reid, "PWP3D: Real-time segmentation and tracking of 3D objects", 2012.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from gnomon.tasks.object_pose.methods.render_compare import tile
from gnomon.tasks.object_pose.methods.render_compare.dense import make_scratch
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import Crop, Observation, colour_window

LEVELS = 16
"""Of each channel, in the histograms."""

AROUND = 0.15
"""Reach of the surroundings, in sides of the crop."""

FEWEST = 30
MOST = 1.5
"""Nats that one pixel may say; its neighbours say much the same."""


def likeness(rgb: UInt8[np.ndarray, "H W 3"], crop: Crop, seen: Observation) -> Float32[np.ndarray, "S S"]:
    """For each pixel in or near the mask the log odds of its colour among the object's and the surroundings'."""
    out = np.zeros(seen.mask.shape, np.float32)
    close = (seen.inside_picture > 0) & (seen.mask_distance < AROUND * crop.size)
    within, around = close & (seen.mask == 2), close & (seen.mask == 0) & (seen.mask_distance > 2)
    if min(int(within.sum()), int(around.sum())) < FEWEST:
        return out
    small = colour_window(rgb, crop, crop.to_picture)
    level = np.clip((small * LEVELS).astype(np.int64), 0, LEVELS - 1)
    cell = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    own, other = (_spread(np.bincount(cell[part], minlength=LEVELS**3)) for part in (within, around))
    odds = np.log((own + 1e-3) / (other + 1e-3))
    out[close] = np.clip(odds[cell[close]], -MOST, MOST)
    return out


def _spread(counts: np.ndarray) -> Float64[np.ndarray, " n"]:
    """Shares of the cells, each let into its neighbours: noise moves colours, and shading does."""
    cube = counts.reshape(LEVELS, LEVELS, LEVELS).astype(np.float64)
    for axis in range(3):
        padded = np.concatenate([cube.take([0], axis), cube, cube.take([-1], axis)], axis)
        inner = np.arange(1, LEVELS + 1)
        cube = 0.5 * cube + 0.25 * (padded.take(inner - 1, axis) + padded.take(inner + 1, axis))
    return cube.reshape(-1) / counts.sum()


def gains(
    model: PoseModel,
    seen: Observation,
    odds: Float32[np.ndarray, "S S"],
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
) -> Float64[np.ndarray, " n"]:
    """The odds summed over each pose's pixels, less those behind something nearer, in pixels of the mask."""
    out = np.zeros(len(R))
    _sums(model.shape, R, t, seen, max(0.04 * model.diameter_m, 0.005), odds, out)
    return out / max(float((seen.mask > 0).sum()), 1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sums(shape, R, t, seen, tau, odds, out):
    size = seen.mask.shape[0]
    scratch = make_scratch(shape.vertices.shape[1], shape.faces.shape[0], size)
    pinhole = (seen.fx, seen.fy, seen.cx, seen.cy)
    for i in range(len(R)):
        box = tile.draw(shape, R[i], t[i], pinhole, scratch.projected, scratch.nearness, scratch.face)
        total = 0.0
        for y in range(box[1], box[3] + 1):
            for x in range(box[0], box[2] + 1):
                if scratch.face[y, x] < 0:
                    continue
                d = seen.surface[y, x, 0]
                if d > 0.0 and 1.0 / scratch.nearness[y, x] - d >= tau:
                    continue
                total += odds[y, x]
        tile.clear(box, scratch.nearness, scratch.face)
        out[i] = total
