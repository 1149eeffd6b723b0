"""What an estimate of one object in one frame consists of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

PoseState = Literal["estimated", "tracked", "reacquired", "lost"]
"""estimated: from a mask. tracked: from the frame before. reacquired: found again after it was lost, or where
tracking alone was not trusted. lost: nothing fits; the pose is the best guess and must not be used."""


@dataclass(frozen=True)
class RunnerUp:
    """The best pose that differs from the one reported by more than a tenth of the diameter, symmetry counted."""

    T_cam_obj: Float64[np.ndarray, "4 4"]
    margin: float
    """How much better the reported pose explains the picture, in units of the score; 0 means equally well."""


@dataclass(frozen=True)
class PoseEstimate:
    """The pose of one object in one frame, and what is to be thought of it."""

    T_cam_obj: Float64[np.ndarray, "4 4"]
    """Maps points of the mesh, in its own axes and origin but in metres, into the camera's frame (OpenCV axes)."""
    score: float
    """0 to 1: the share of the visible surface and of the mask that agree. Below the model's threshold: lost."""
    state: PoseState
    ambiguous: bool
    """Whether `runner_up` explains the picture about as well, so that either may be the truth."""
    runner_up: RunnerUp | None
    seconds: float
    """Wall time of this estimate."""

    @property
    def found(self) -> bool:
        """False when the pose is only a guess."""
        return self.state != "lost"
