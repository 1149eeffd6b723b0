"""From ranked candidates to an estimate: is it good enough, and is it the only one?"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from gnomon.geometry import se3
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.search import Candidates, distinct
from gnomon.tasks.object_pose.pose import PoseEstimate, PoseState, RunnerUp

FOUND = 0.45
"""Scores below are not to be believed. In tuning trials 95 % of the right poses lie above, and 86 % of the best poses
of wrong objects, look-alikes among them, below."""

AMBIGUOUS = 0.03
"""Margins of evidence below this decide nothing: in 480 tuning trials, seeds 3000 to 3110, a quarter of the poses so
chosen were wrong, of those with larger margins none (bench/object_pose_tuning.py prints the same for other seeds)."""

APART = 0.1
"""Poses are different when some point of the surface moves by more than this share of the diameter."""


def pose_matrix(
    model: PoseModel, R: Float64[np.ndarray, "3 3"], t: Float64[np.ndarray, " 3"]
) -> Float64[np.ndarray, "4 4"]:
    """T_cam_obj, mesh frame in metres, of a pose about the model's centre."""
    R = se3.nearest_rotation(R)
    return se3.se3(R, t - R @ model.centre)


def judge(model: PoseModel, candidates: Candidates, *, seconds: float, good: PoseState = "estimated") -> PoseEstimate:
    """The first of the candidates, which are in order of their evidence, with the best different one beside it."""
    apart = distinct(model, candidates.R, candidates.t, np.arange(len(candidates.R)), 2, APART)
    runner_up = None
    if len(apart) > 1:
        second = apart[1]
        margin = float(candidates.evidence[0] - candidates.evidence[second])
        runner_up = RunnerUp(pose_matrix(model, candidates.R[second], candidates.t[second]), max(margin, 0.0))
    score = float(np.clip(candidates.score[0], 0, 1))
    return PoseEstimate(
        T_cam_obj=pose_matrix(model, candidates.R[0], candidates.t[0]),
        score=score,
        state=good if score >= FOUND else "lost",
        ambiguous=runner_up is not None and runner_up.margin < AMBIGUOUS,
        runner_up=runner_up,
        seconds=seconds,
    )
