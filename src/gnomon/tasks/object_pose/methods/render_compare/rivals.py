"""Poses that look nearly like the one followed, watched over frames until one of them proves better.

A frame alone often cannot tell a can from the same can turned, or a tool from the same tool flipped; the next ones may.
Each rival's lead in evidence is summed up, less what errors may lend it, and never below 0 (a CUSUM test).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from gnomon.tasks.object_pose.methods.render_compare.continuity import Pose
from gnomon.tasks.object_pose.methods.render_compare.drawn import drawn
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import Observation

ALLOWANCE = 0.02
"""A lead in a frame that decides nothing."""

DECIDES = 0.1
"""Sum of leads, beyond the allowance, at which the rival is believed."""

IN_TURN = 4
"""Rivals looked at in a frame, one after the other, and as many as LEADING of those that lead."""

LEADING = 2


class Rivals:
    """Motions about the model's centre, applied to the followed pose on the object's side."""

    def __init__(self, model: PoseModel, others: list[Pose]) -> None:
        self.model = model
        R = [pose[0] for pose in others]
        t = [pose[1] for pose in others]
        if not model.symmetries.continuous:
            R, t = [*R, *model.near_symmetry_R], [*t, *model.near_symmetry_t]
        self._R: Float64[np.ndarray, "k 3 3"] = np.array(R, np.float64).reshape(-1, 3, 3)
        self._t: Float64[np.ndarray, "k 3"] = np.array(t, np.float64).reshape(-1, 3)
        self._lead = np.zeros(len(R))
        self._turn = 0

    def watch(self, seen: Observation, pose: Pose, threads: int) -> Pose | None:
        """The rival that has now proved better than `pose`, which was found in this frame; None while none has."""
        if len(self._R) == 0:
            return None
        count = min(IN_TURN, len(self._R))
        due = (self._turn + np.arange(count)) % len(self._R)
        self._turn = int(due[-1] + 1) % len(self._R)
        leading = np.argsort(-self._lead)[:LEADING]
        leading = leading[self._lead[leading] > 0]
        due = np.setdiff1d(due, leading)
        R, t = self._placed(pose, np.concatenate([leading, due]))
        n = len(leading)
        if n:
            # A rival is a coarse guess: what leads is refined before it is believed.
            R[:n], t[:n], _, _ = self._compared(seen, R[:n], t[:n], 2, threads)
        R, t = np.concatenate([pose[0][None], R]), np.concatenate([pose[1][None], t])
        R, t, value, _ = self._compared(seen, R, t, 0, threads)
        at = np.concatenate([leading, due])
        self._lead[at] = np.maximum(self._lead[at] + value[1:] - value[0] - ALLOWANCE, 0)
        if n == 0 or self._lead[leading].max() < DECIDES:
            return None
        best = int(np.argmax(self._lead[leading]))
        return R[1 + best], t[1 + best]

    def _placed(self, pose: Pose, which: np.ndarray) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"]]:
        R, t = pose
        return R @ self._R[which], (R @ self._t[which][..., None])[..., 0] + t

    def _compared(
        self, seen: Observation, R: np.ndarray, t: np.ndarray, drawings: int, threads: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        d = self.model.diameter_m
        taus = (0.03 * d, max(0.01 * d, 0.003))
        return drawn(self.model, seen, R, t, taus, drawings, threads, colour=self.model.textured)
