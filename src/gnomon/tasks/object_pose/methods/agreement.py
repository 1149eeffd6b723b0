"""How well a pose agrees with the measured depth: a score for methods that have none of their own."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from gnomon.geometry.view import ViewMesh, draw_view
from gnomon.tasks.object_pose.frames import LoadedFrame

NEAR_M = 0.005
LEAST_M = 0.008
OF_DIAMETER = 0.05
"""How far depth may be off, as a share of the diameter."""
LEAST_PIXELS = 20
LOST_BELOW = 0.4


def depth_agreement(
    view: ViewMesh, T_cam_obj: Float64[np.ndarray, "4 4"], loaded: LoadedFrame, diameter_m: float
) -> float:
    """0 to 1: the share of the mesh's visible pixels whose depth was measured where the pose has it.

    Pixels without a measurement, and those where something nearer was measured, say nothing. Where too few are left,
    the score is 0.
    """
    drawn_m = draw_view(view, T_cam_obj, loaded.camera, near_m=NEAR_M, colour=False).depth_m
    seen = (drawn_m > 0) & (loaded.depth_m > 0)
    off_m = loaded.depth_m[seen] - drawn_m[seen]
    tolerance_m = max(LEAST_M, OF_DIAMETER * diameter_m)
    agrees, behind = int((np.abs(off_m) <= tolerance_m).sum()), int((off_m > tolerance_m).sum())
    hidden = int((off_m < -tolerance_m).sum())
    if agrees + behind < LEAST_PIXELS or hidden > 0.9 * off_m.size:
        return 0.0
    return agrees / (agrees + behind)
