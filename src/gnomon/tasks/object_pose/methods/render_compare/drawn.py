"""Hypotheses drawn, refined and compared in one window."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from gnomon.tasks.object_pose.methods.render_compare import dense, likelihood
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import Observation
from gnomon.tasks.object_pose.methods.render_compare.search import in_threads


def drawn(
    model: PoseModel,
    seen: Observation,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    taus: tuple[float, float],
    drawings: int,
    threads: int,
    *,
    colour: bool,
    stride: int = 1,
) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"], Float64[np.ndarray, " n"], np.ndarray]:
    """Refine by drawing; poses (object to camera, metres), what speaks for them, and the terms of that.

    Unlike `search.draw_and_refine` it knows no mask, as in tracking; `taus` are depth differences in metres, from the
    first drawing to the last.
    """
    R, t = np.ascontiguousarray(R), np.ascontiguousarray(t)
    terms = np.zeros((len(R), likelihood.N_TERMS))
    tau = max(0.04 * model.diameter_m, 0.005)

    def work(first: int, last: int) -> None:
        dense.refine_many(model.shape, R, t, seen, taus, drawings, 2, stride, False, colour, first, last)
        likelihood.evaluate_many(model.shape, R, t, seen, tau, 0.002, colour, first, last, terms)

    in_threads(threads, len(R), work)
    return R, t, likelihood.evidence_without_mask(terms, colour), terms
