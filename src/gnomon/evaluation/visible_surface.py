"""VSD, the Visible Surface Discrepancy: how far the surface that can be seen lies from where it should be.

Source: Hodan, Michel et al., "BOP: Benchmark for 6D Object Pose Estimation", ECCV 2018, section 2.2, with the step
cost, and the visibility of the BOP challenges since 2019, which counts a pixel without a measurement as visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Float64

from gnomon.geometry.camera import Camera

DELTA_M = 0.015
"""How far in front of the model's surface a measurement may lie before the surface counts as hidden."""

TAUS = tuple(float(tau) for tau in np.arange(0.05, 0.51, 0.05))
"""The misalignment tolerances of the BOP challenge, as fractions of the diameter."""

Image = Float[np.ndarray, "H W"]


def ray_lengths(depth_m: Image, camera: Camera) -> Float64[np.ndarray, "H W"]:
    """Distances in metres from the camera's centre, of depths in metres along its z axis; 0 stays 0.

    As in bop_toolkit, the centre of the top-left pixel is (0, 0).
    """
    return _ray_lengths_at_1m(camera) * depth_m.astype(np.float64)


@lru_cache(maxsize=4)
def _ray_lengths_at_1m(camera: Camera) -> Float64[np.ndarray, "H W"]:
    return np.asarray(np.linalg.norm(camera.rays(), axis=-1))


def visible_true(measured: Image, true: Image, delta_m: float = DELTA_M) -> Bool[np.ndarray, "H W"]:
    """Where the object at the true pose can be seen; all images are distances along the rays, 0 for nothing."""
    return (true > 0) & ((true - measured <= delta_m) | (measured == 0))


def visible_estimated(
    measured: Image, estimated: Image, seen_true: Bool[np.ndarray, "H W"], delta_m: float = DELTA_M
) -> Bool[np.ndarray, "H W"]:
    """Where the object at the estimated pose can be seen.

    Where the true object is seen, the measurement is the object's own and hides nothing.
    """
    return visible_true(measured, estimated, delta_m) | (seen_true & (estimated > 0))


def vsd(
    depth_est_m: Image,
    depth_gt_m: Image,
    depth_measured_m: Image,
    camera: Camera,
    diameter_m: float,
    *,
    taus: Sequence[float] = TAUS,
    delta_m: float = DELTA_M,
) -> Float64[np.ndarray, " taus"]:
    """The share, for each tau, of visible pixels that are not matched: 0 is perfect, 1 is a miss.

    Args:
        depth_est_m: Depth (metres, 0 for nothing) of the model drawn at the estimated pose.
        depth_gt_m: The same at the true pose.
        depth_measured_m: What the sensor measured, 0 where it did not.
        taus: Tolerances as fractions of `diameter_m`.
    """
    estimated, true, measured = (ray_lengths(d, camera) for d in (depth_est_m, depth_gt_m, depth_measured_m))
    seen_true = visible_true(measured, true, delta_m)
    seen_est = visible_estimated(measured, estimated, seen_true, delta_m)
    either = int((seen_true | seen_est).sum())
    if either == 0:
        return np.ones(len(taus))
    both = seen_true & seen_est
    apart = np.abs(true[both] - estimated[both]) / diameter_m
    alone = either - int(both.sum())
    return np.array([((apart >= tau).sum() + alone) / either for tau in taus], np.float64)
