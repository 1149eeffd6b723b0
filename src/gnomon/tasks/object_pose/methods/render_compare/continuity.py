"""What the motion so far lets expect, weighed against what a frame shows.

A can that spins, a mug whose handle is hidden: a frame may say next to nothing about a turn, and the pose that fits it
best is then one of chance. Where that is so, the expected pose decides.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from gnomon.geometry import se3
from gnomon.tasks.object_pose.methods.render_compare import dense
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import Observation

Pose = tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, " 3"]]

SPINS_RAD = np.radians((-24.0, -12.0, -6.0, -2.5, 2.5, 6.0, 12.0, 24.0))
"""Turns that are tried of a thing that is nearly round."""

SMALL_RAD = np.radians(12.0)
"""What looks nearly the same after so small a turn is nearly round."""

NOISE_M = 0.002
TOGETHER = 20.0
"""Neighbouring depth pixels err together: so many count as one."""


def unexpectedness(
    R: Float64[np.ndarray, "n 3 3"], expected_R: Float64[np.ndarray, "3 3"], angle_rad: float
) -> Float64[np.ndarray, " n"]:
    """0 for turns as expected, 1 for those farther from it than several times the angle."""
    cosine = (np.einsum("nij,ij->n", R, expected_R) - 1) / 2
    angles = np.arccos(np.clip(cosine, -1, 1))
    return 1 - np.exp(-0.5 * (angles / angle_rad) ** 2)


def steadied(
    model: PoseModel, seen: Observation, found: Pose, expected: Pose, angle_rad: float, shift_m: float, tau: float
) -> Pose:
    """The pose between the one found and the one expected that both make most likely.

    `angle_rad` and `shift_m`: standard deviations of the expected pose. Turns that the frame says nothing about end
    where they were expected, all others all but where they were found.
    """
    R, t = found
    lower = np.empty((6, 6))
    if not dense.information(model.shape, R, t, seen, tau, model.textured, lower):
        return found
    A = lower + np.tril(lower, -1).T
    prior = np.repeat([angle_rad**-2.0, shift_m**-2.0], 3)
    to_expected = np.concatenate([se3.so3_log(expected[0] @ R.T), expected[1] - t])
    x = np.linalg.solve(A / (TOGETHER * NOISE_M**2) + np.diag(prior), prior * to_expected)
    return se3.so3_exp(x[:3]) @ R, t + x[3:]


def spins_nearly_freely(model: PoseModel) -> bool:
    """Whether only details or colours tell turns about an axis apart."""
    return not model.symmetries.continuous and len(_small_turns(model)) > 0


def spun(model: PoseModel, pose: Pose) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"]]:
    """The pose, and the same turned a little about the axis of a thing that is nearly round.

    Refinement alone slips there: shading and noise pull as much as the details do that hold it.
    """
    R, t = pose
    if not spins_nearly_freely(model):
        return R[None], t[None]
    k = int(_small_turns(model)[0])
    turn, shift = model.near_symmetry_R[k], model.near_symmetry_t[k]
    axis = se3.so3_log(turn)
    point = np.linalg.lstsq(np.eye(3) - turn, shift, rcond=None)[0]
    turns = se3.so3_exp(axis / np.linalg.norm(axis) * np.concatenate([[0.0], SPINS_RAD])[:, None])
    return R @ turns, (point - turns @ point) @ R.T + t


def _small_turns(model: PoseModel) -> np.ndarray:
    cosine = (np.trace(model.near_symmetry_R, axis1=1, axis2=2) - 1) / 2
    return np.flatnonzero((cosine > np.cos(SMALL_RAD)) & (cosine < np.cos(SMALL_RAD / 12)))
