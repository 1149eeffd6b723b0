"""From errors of single estimates to scores of a data set: matching, recall, areas under curves.

The rules are those of the BOP challenge for localization (github.com/thodan/bop_toolkit: pose_matching.match_poses,
score.calc_localization_scores, eval_bop19_pose.py): recall is the share of targets, all objects and images together,
that an estimate is matched to, and an average recall (AR) is the mean of the recalls at several thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

FRACTIONS = tuple(float(fraction) for fraction in np.arange(0.05, 0.51, 0.05))
"""Thresholds on VSD, and on MSSD divided by the diameter."""

PIXELS = tuple(float(pixels) for pixels in np.arange(5, 51, 5))
"""Thresholds on MSPD in an image 640 pixels wide."""

REFERENCE_WIDTH_PX = 640

AUC_LIMIT_M = 0.1
"""Up to which distance the areas under the curves of ADD and ADD-S go."""

Errors = Float[np.ndarray, "E G"]
"""Of each estimate, by decreasing score, against each true pose, of one object in one image."""


def match(errors: Errors, threshold: float, valid: Bool[np.ndarray, " G"]) -> Int64[np.ndarray, " G"]:
    """The estimate that each true pose is matched to, -1 without one.

    Estimates choose in turn, those of the highest score first: each takes the true pose that is nearest to it, among
    those that are valid, not taken yet, and below the threshold.
    """
    found = np.full(len(valid), -1, np.int64)
    for estimate, row in enumerate(errors):
        open_errors = np.where(valid & (found < 0), row, np.inf)
        if open_errors.size and open_errors.min() < threshold:
            found[np.argmin(open_errors)] = estimate
    return found


def recall(groups: Iterable[tuple[Errors, Bool[np.ndarray, " G"]]], threshold: float) -> float:
    """The share of valid true poses, of all groups together, that are found with an error below the threshold.

    A group is one object in one image. Without any valid true pose the recall is NaN.
    """
    hits = targets = 0
    for errors, valid in groups:
        targets += int(valid.sum())
        hits += int((match(errors, threshold, valid) >= 0).sum())
    return hits / targets if targets else float("nan")


def average_recall(groups: Iterable[tuple[Errors, Bool[np.ndarray, " G"]]], thresholds: Iterable[float]) -> float:
    """The mean of the recalls at several thresholds."""
    groups = list(groups)
    return float(np.mean([recall(groups, threshold) for threshold in thresholds]))


def found_errors(errors: Errors, valid: Bool[np.ndarray, " G"]) -> Float64[np.ndarray, " valid"]:
    """The error at each valid true pose when estimates are matched without a threshold; infinite where none is left."""
    # Below infinity: an estimate with an infinite error has found nothing.
    matched = match(errors, np.inf, valid)
    return np.array([errors[matched[g], g] if matched[g] >= 0 else np.inf for g in np.flatnonzero(valid)], np.float64)


def area_under_curve(errors: Float[np.ndarray, " N"], limit: float = AUC_LIMIT_M) -> float:
    """The area under the curve of accuracy over threshold, from 0 to `limit`, divided by `limit`.

    The accuracy at a threshold is the share of errors not above it, so that the area is exactly
    mean(max(0, 1 - error / limit)). A miss is an infinite error and adds 0.

    Xiang et al., "PoseCNN", RSS 2018 (VOCap in the YCB-Video toolbox) sum the same curve with the accuracy of the right
    end of each step, which is larger by at most 1 / N. The evaluation of FoundationPose (Wen et al., CVPR 2024) takes
    the trapezoidal rule over steps of 1 mm, which differs by at most 0.5 % of the area for a limit of 10 cm.
    """
    errors = np.asarray(errors, np.float64)
    if len(errors) == 0:
        return float("nan")
    return float(np.maximum(0.0, 1.0 - errors / limit).mean())
