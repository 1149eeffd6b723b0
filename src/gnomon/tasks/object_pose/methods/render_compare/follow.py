"""One step of tracking: from about where an object should be to where it is.

There is no mask. The predicted pose drawn into the picture, with a margin for what the prediction may miss, stands
in for it; depth far from the predicted surface, such as the table the object stands on or a hand in front, is left
out of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numba
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, UInt8

from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.tasks.object_pose.methods.render_compare import points, tile
from gnomon.tasks.object_pose.methods.render_compare.continuity import (
    Pose,
    spins_nearly_freely,
    spun,
    steadied,
    unexpectedness,
)
from gnomon.tasks.object_pose.methods.render_compare.drawn import drawn
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import (
    Crop,
    Observation,
    describe,
    resample_depth,
)
from gnomon.tasks.object_pose.methods.render_compare.revision import revised_mask
from gnomon.tasks.object_pose.methods.render_compare.search import distinct, in_threads

MARGIN = 1.35
SMALLEST_GATE_M = 0.015
GATE = 0.12
"""Depth may be off the predicted surface by this share of the diameter."""


TWINS_RAD = np.radians(32.0)
"""How far nearly equal poses may be turned to be tried. Nothing turns over between two frames."""

TWINS_KEPT = 2

CONTINUITY = 0.01
"""What a turn far from the expected one has to be better by, in evidence or score."""

SPIN = 0.005
"""What a pose spun about the axis of a nearly round thing has to be better by, beyond that."""


@dataclass(frozen=True)
class Spread:
    """How far the object may be from the prediction: standard deviations."""

    angle_rad: float
    shift_m: float
    starts: int


@dataclass(frozen=True)
class Followed:
    """A pose about the model's centre."""

    R: Float64[np.ndarray, "3 3"]
    t: Float64[np.ndarray, " 3"]
    score: float
    worth: float
    """The score, less what is unexpected about the turn: to choose between poses for one frame."""
    seen: Observation
    """What it was compared with last."""


def follow(
    model: PoseModel,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: Float32[np.ndarray, "H W"],
    camera: Camera,
    guesses: list[tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]],
    spread: Spread,
    rng: np.random.Generator,
    threads: int,
) -> Followed | None:
    """The best pose near the guesses, of which the first is the centre; None where nothing of it can be seen."""
    crop = crop_around_pose(model, camera, *guesses[0], spread.shift_m, 96)
    if crop is None:
        return None
    seen = _expect(model, rgb, depth_m, camera, crop, *guesses[0], spread, with_colour=model.textured)
    if seen is None:
        return None
    R, t = _starts(guesses, spread, rng)
    R, t = _refined_points(model, seen, R, t, threads, guesses[0][0], spread.angle_rad)
    d = model.diameter_m
    R, t, value, _ = drawn(
        model, seen, R, t, (0.06 * d, max(0.02 * d, 0.004)), 3, threads, colour=model.textured, stride=2
    )
    value = value - CONTINUITY * unexpectedness(R, guesses[0][0], spread.angle_rad)
    best = np.argsort(-value)[:2]
    last = _expect(
        model, rgb, depth_m, camera, crop._replace(size=128), R[best[0]], t[best[0]], None, with_colour=model.textured
    )
    if last is None:
        return None
    R, t = _with_twins(model, last, R[best], t[best], threads)
    R, t, value, _ = drawn(model, last, R, t, (0.03 * d, max(0.01 * d, 0.003)), 3, threads, colour=model.textured)
    return _weighed(model, last, R, t, value, guesses[0], spread, threads)


def _weighed(
    model: PoseModel,
    seen: Observation,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    value: Float64[np.ndarray, " n"],
    expected: Pose,
    spread: Spread,
    threads: int,
) -> Followed:
    """The best of refined poses, spun if that is better still, and nearer to the expected one if that is as good."""

    def best(value: Float64[np.ndarray, " n"]) -> int:
        return int(np.argmax(value - CONTINUITY * unexpectedness(R, expected[0], spread.angle_rad)))

    taus = (0.03 * model.diameter_m, max(0.01 * model.diameter_m, 0.003))
    first = best(value)
    R, t = spun(model, (R[first], t[first]))
    if len(R) > 1:
        R, t, value, _ = drawn(model, seen, R, t, taus, 0, threads, colour=model.textured)
        value[1:] -= SPIN
        first = best(value)
        R, t = R[[first]], t[[first]]
    steady = steadied(model, seen, (R[0], t[0]), expected, spread.angle_rad, spread.shift_m, taus[1])
    R, t = np.stack([R[0], steady[0]]), np.stack([t[0], steady[1]])
    R, t, value, terms = drawn(model, seen, R, t, taus, 0, threads, colour=model.textured)
    first = best(value)
    score = float(np.clip(terms[first, 0], 0, 1))
    odd = float(unexpectedness(R[[first]], expected[0], spread.angle_rad)[0])
    return Followed(R[first], t[first], score, score - CONTINUITY * odd, seen)


def mask_at(
    model: PoseModel,
    depth_m: Float32[np.ndarray, "H W"],
    camera: Camera,
    R: Float64[np.ndarray, "3 3"],
    t: Float64[np.ndarray, " 3"],
) -> Bool[np.ndarray, "H W"] | None:
    """What hangs together, as depth sees it, with the object at this pose; None where nothing of it is seen."""
    crop = crop_around_pose(model, camera, R, t, 0.0, 160)
    if crop is None:
        return None
    expected = cv2.warpAffine(
        draw_depth(model, camera, crop, R, t), crop.to_picture, (camera.width, camera.height), flags=cv2.INTER_NEAREST
    )
    gate = max(GATE * model.diameter_m, SMALLEST_GATE_M)
    mask = (expected > 0) & (depth_m > 0) & (np.abs(depth_m - expected) < gate)
    if not mask.any():
        return None
    grown = revised_mask(mask, depth_m, camera, model.diameter_m)
    return mask if grown is None else grown


def _with_twins(
    model: PoseModel,
    seen: Observation,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    threads: int,
) -> tuple[Float64[np.ndarray, "m 3 3"], Float64[np.ndarray, "m 3"]]:
    """The poses, and the best of those that look nearly like the first: depth alone lets a can spin unseen."""
    angles = np.arccos(np.clip((np.trace(model.near_symmetry_R, axis1=1, axis2=2) - 1) / 2, -1, 1))
    near = angles < TWINS_RAD
    if not near.any() or model.symmetries.continuous or spins_nearly_freely(model):
        # What turns freely has no twins worth telling apart; what nearly does is spun in smaller steps later.
        return R, t
    twins_R = R[0] @ model.near_symmetry_R[near]
    twins_t = (R[0] @ model.near_symmetry_t[near][..., None])[..., 0] + t[0]
    twins_R, twins_t, value, _ = drawn(model, seen, twins_R, twins_t, (0.03, 0.01), 0, threads, colour=model.textured)
    best = np.argsort(-value)[:TWINS_KEPT]
    return np.concatenate([R, twins_R[best]]), np.concatenate([t, twins_t[best]])


def crop_around_pose(
    model: PoseModel,
    camera: Camera,
    R: Float64[np.ndarray, "3 3"],
    t: Float64[np.ndarray, " 3"],
    slack_m: float,
    size: int,
) -> Crop | None:
    """The window that a pose and `slack_m` metres around it take up; None if it lies outside the picture."""
    marks = model.marks @ R.T + t
    if marks[:, 2].min() < 0.02:
        return None
    pixels = camera.project(marks)
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    centre = (low + high) / 2
    if (high < 0).any() or (low > (camera.width - 1, camera.height - 1)).any():
        return None
    slack_px = 2 * slack_m * camera.fx / float(t[2])
    side = max(float((high - low).max()) * MARGIN, 16.0) + 2 * slack_px
    return Crop(float(centre[0]), float(centre[1]), side, size)


def _expect(
    model: PoseModel,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: Float32[np.ndarray, "H W"],
    camera: Camera,
    crop: Crop,
    R: Float64[np.ndarray, "3 3"],
    t: Float64[np.ndarray, " 3"],
    spread: Spread | None,
    *,
    with_colour: bool,
) -> Observation | None:
    """The observation with the mask that a pose lets expect, widened by twice the spread."""
    depth, inside_picture = resample_depth(depth_m, crop)
    expected = draw_depth(model, camera, crop, R, t)
    silhouette = (expected > 0).astype(np.uint8)
    gate = max(GATE * model.diameter_m, SMALLEST_GATE_M)
    reach = 1
    if spread is not None:
        shift = spread.shift_m + spread.angle_rad * model.diameter_m / 2
        gate += 2 * shift
        reach = int(np.clip(2 * shift * camera.fx / float(t[2]) * crop.scale, 1, 12))
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    farthest = cv2.dilate(expected, disc)
    nearest = cv2.erode(np.where(expected > 0, expected, np.float32(1e6)), disc)
    near = (depth > nearest - gate) & (depth < farthest + gate)
    mask = (cv2.dilate(silhouette, disc) > 0) & (near | ((depth <= 0) & (silhouette > 0))) & (inside_picture > 0)
    if int((mask & (depth > 0)).sum()) < 20:
        return None
    return describe(rgb, depth, inside_picture, mask.astype(np.uint8), camera, crop, use_colour=with_colour)


def draw_depth(
    model: PoseModel, camera: Camera, crop: Crop, R: Float64[np.ndarray, "3 3"], t: Float64[np.ndarray, " 3"]
) -> Float32[np.ndarray, "S S"]:
    """The depth of the light mesh in the window, 0 where it is not seen."""
    return _draw_depth(model.shape, R, t, crop.camera(camera), crop.size)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw_depth(shape, R, t, pinhole, size):
    projected = np.empty((3, shape.vertices.shape[1]), np.float32)
    nearness = np.zeros((size, size), np.float32)
    face = np.full((size, size), -1, np.int32)
    tile.draw(shape, R, t, pinhole, projected, nearness, face)
    for y in range(size):
        for x in range(size):
            if face[y, x] >= 0:
                nearness[y, x] = np.float32(1.0) / nearness[y, x]
    return nearness


def _starts(
    guesses: list[tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]],
    spread: Spread,
    rng: np.random.Generator,
) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"]]:
    """The guesses, and poses strewn around the first."""
    count = max(spread.starts - len(guesses), 0)
    turns = se3.so3_exp(rng.normal(size=(count, 3)) * (spread.angle_rad / np.sqrt(3) * 1.7))
    shifts = rng.normal(size=(count, 3)) * spread.shift_m
    R = np.concatenate([[guess[0] for guess in guesses], turns @ guesses[0][0]])
    t = np.concatenate([[guess[1] for guess in guesses], guesses[0][1] + shifts])
    return np.ascontiguousarray(R), np.ascontiguousarray(t)


def nearest_views(model: PoseModel, R: Float[np.ndarray, "n 3 3"], t: Float[np.ndarray, "n 3"]) -> np.ndarray:
    """For each pose the template seen from the most similar direction."""
    toward = np.einsum("nij,ni->nj", R, t / np.linalg.norm(t, axis=-1, keepdims=True))
    return np.argmax(toward @ model.points.R_cam_obj[:, 2].T, axis=-1).astype(np.int64)


def _refined_points(
    model: PoseModel,
    seen: Observation,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    threads: int,
    expected_R: Float64[np.ndarray, "3 3"],
    angle_rad: float,
    keep: int = 4,
) -> tuple[Float64[np.ndarray, "m 3 3"], Float64[np.ndarray, "m 3"]]:
    d = model.diameter_m
    views = nearest_views(model, R, t)
    scores = np.empty(len(R))

    def work(first: int, last: int) -> None:
        points.refine_many(
            model.points, model.shape.mean_square_radius, views, R, t, seen, (0.12 * d, 0.05 * d, 0.02 * d), (4, 4),
            max(0.05 * d, 0.006), model.textured, first, last, scores,
        )  # fmt: skip

    in_threads(threads, len(R), work)
    scores -= CONTINUITY * unexpectedness(R, expected_R, angle_rad)
    kept = distinct(model, R, t, np.argsort(-scores), keep, 0.03)
    return np.ascontiguousarray(R[kept]), np.ascontiguousarray(t[kept])
