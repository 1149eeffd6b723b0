"""Errors of one estimated object pose against the true one.

Poses `T_cam_obj` map points of the model (metres) into the camera's frame (metres, OpenCV axes). Model points are the
vertices of the model that the data set names for evaluation.

Sources:
    ADD, ADD-S: Hinterstoisser et al., "Model Based Training, Detection and Pose Estimation of Texture-Less 3D Objects
        in Heavily Cluttered Scenes", ACCV 2012. ADD-S is called ADI in bop_toolkit.
    MSSD, MSPD: Hodan et al., "BOP Challenge 2020 on 6D Object Localization", ECCVW 2020, section 2.2.
"""

from __future__ import annotations

import numba
import numpy as np
from jaxtyping import Float, Float64

from gnomon.evaluation.nearest import nearest_distances
from gnomon.geometry import se3
from gnomon.geometry.camera import Camera
from gnomon.geometry.symmetry import Axis, Symmetries

Pose = Float[np.ndarray, "4 4"]
Points = Float[np.ndarray, "P 3"]
Transforms = Float[np.ndarray, "M 4 4"]


def add(T_est: Pose, T_gt: Pose, points: Points) -> float:
    """ADD: mean distance in metres between each model point at the two poses."""
    return float(np.linalg.norm(se3.apply(T_est, points) - se3.apply(T_gt, points), axis=-1).mean())


def adds(T_est: Pose, T_gt: Pose, points: Points) -> float:
    """ADD-S: mean distance in metres from each model point at the true pose to the nearest one at the estimated pose.

    It needs no list of symmetries, and forgives also what only nearly is one.
    """
    return float(nearest_distances(se3.apply(T_gt, points), se3.apply(T_est, points)).mean())


def mssd(T_est: Pose, T_gt: Pose, points: Points, symmetries: Transforms) -> float:
    """MSSD: largest distance in metres of a model point at the two poses, the best of all symmetric true poses.

    Args:
        symmetries: Of `Symmetries.transforms`, the identity among them.
    """
    seen = se3.apply(T_est, points)
    return float(_least_maximum(seen, _contiguous(points), _contiguous(T_gt @ symmetries)))


def mspd(T_est: Pose, T_gt: Pose, points: Points, symmetries: Transforms, camera: Camera) -> float:
    """MSPD: as `mssd`, of the projections, in pixels of `camera`; infinite if a point is not before the camera.

    BOP multiplies it by 640 / image width before it compares it with a threshold; see `recall`.
    """
    seen = camera.project(se3.apply(T_est, points))
    if np.isnan(seen).any():
        return float("inf")
    pinhole = (float(camera.fx), float(camera.fy), float(camera.cx), float(camera.cy))
    return float(_least_maximum_px(seen, _contiguous(points), _contiguous(T_gt @ symmetries), pinhole))


def rotation_and_translation(T_est: Pose, T_gt: Pose, symmetries: Symmetries) -> tuple[float, float]:
    """Angle in radians between the two rotations, and distance in metres between the two origins.

    Both are against the symmetric true pose whose rotation is nearest. Axes of rotation are not sampled: the angle
    about them is chosen exactly. Without symmetries these are `re` and `te` of bop_toolkit.
    """
    found = (float("inf"), float("inf"))
    R_obj = T_gt[:3, :3].T @ T_est[:3, :3]
    for discrete in [np.eye(4), *symmetries.discrete]:
        turned = [_best_turn(axis, R_obj @ discrete[:3, :3].T) @ discrete for axis in symmetries.continuous]
        for motion in turned or [discrete]:
            T = T_gt @ motion
            angle = float(se3.geodesic_angle(T[:3, :3], T_est[:3, :3]))
            found = min(found, (angle, float(np.linalg.norm(T_est[:3, 3] - T[:3, 3]))))
    return found


def _best_turn(axis: Axis, R: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "4 4"]:
    """The turn about an axis that comes nearest to R: it maximises trace(turn^T R) = c + a cos + b sin."""
    K = se3.skew(axis.direction)
    cosine_part = np.trace(R) - axis.direction @ R @ axis.direction
    sine_part = -np.trace(K @ R)
    return axis.rotation(float(np.arctan2(sine_part, cosine_part)))


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, np.float64)


@numba.njit(cache=True, nogil=True)
def _least_maximum(seen, points, transforms):
    """The least, over transforms, of the largest distance of a transformed point to the point seen."""
    best = np.inf
    for T in transforms:
        largest = 0.0
        for i in range(len(points)):
            x, y, z = points[i]
            dx = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3] - seen[i, 0]
            dy = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3] - seen[i, 1]
            dz = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3] - seen[i, 2]
            largest = max(largest, dx * dx + dy * dy + dz * dz)
            if largest >= best:
                break
        best = min(best, largest)
    return np.sqrt(best)


@numba.njit(cache=True, nogil=True)
def _least_maximum_px(seen, points, transforms, pinhole):
    """As `_least_maximum`, of projections; a transform that puts a point behind the camera does not count."""
    fx, fy, cx, cy = pinhole
    best = np.inf
    for T in transforms:
        largest = 0.0
        for i in range(len(points)):
            x, y, z = points[i]
            depth = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
            if depth <= 0:
                largest = np.inf
                break
            du = fx * (T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]) / depth + cx - seen[i, 0]
            dv = fy * (T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]) / depth + cy - seen[i, 1]
            largest = max(largest, du * du + dv * dv)
            if largest >= best:
                break
        best = min(best, largest)
    return np.sqrt(best)
