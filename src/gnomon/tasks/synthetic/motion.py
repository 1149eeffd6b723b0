"""Smooth random motion with a bound on its speed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

_SAMPLES_PER_S = 240
_SINES = 3


def smooth_path(
    rng: np.random.Generator, times_s: Float64[np.ndarray, " N"], reach: Float64[np.ndarray, " k"], peak_speed: float
) -> Float64[np.ndarray, "N k"]:
    """A path through 0 at time 0 as a sum of slow sines; it stays within twice `reach` of 0 along each axis.

    It is run through at such a pace that the fastest moment within the given times has the speed `peak_speed`, or
    stays below it where that would need sines of more than about 3 Hz.

    Args:
        rng: source of the path.
        times_s: ascending from 0.
        reach: largest distance of each axis from the path's middle.
        peak_speed: in units of `reach` per second.
    """
    hertz = rng.uniform(0.12, 0.45, (_SINES, len(reach)))
    phase = rng.uniform(0, 2 * np.pi, (_SINES, len(reach)))
    weight = rng.uniform(0.3, 1.0, (_SINES, len(reach)))
    weight *= reach / weight.sum(axis=0)

    def at(moments: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n k"]:
        angle = 2 * np.pi * hertz * moments[:, None, None] + phase
        return (weight * (np.sin(angle) - np.sin(phase))).sum(axis=1)

    def fastest(pace: float) -> float:
        moments = np.arange(0, max(times_s[-1], 1e-3) + 1 / _SAMPLES_PER_S, 1 / _SAMPLES_PER_S)
        steps = np.diff(at(pace * moments), axis=0)
        return float(np.linalg.norm(steps, axis=-1).max() * _SAMPLES_PER_S)

    # The faster the pace the larger its fastest moment: more of the path is seen, and all of it faster.
    low, high = 0.0, 7.0
    for _ in range(30):
        pace = (low + high) / 2
        if fastest(pace) > peak_speed:
            high = pace
        else:
            low = pace
    return at(low * times_s)
