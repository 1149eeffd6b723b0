"""From a mask to ranked poses: coarse, refine, draw and compare, decide."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numba
import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from gnomon.errors import InputError
from gnomon.geometry.camera import Camera
from gnomon.tasks.object_pose.methods.render_compare import dense, likelihood, look, points
from gnomon.tasks.object_pose.methods.render_compare.model import PoseModel
from gnomon.tasks.object_pose.methods.render_compare.observation import Crop, Observation, crop_around, observe
from gnomon.tasks.object_pose.methods.render_compare.revision import revised_mask

DOUBTFUL_EVIDENCE = 0.55
DISPUTED = 0.35
"""Share of the mask's pixels that pose and mask may see differently before the mask is questioned."""

TWINS_MARGIN = 0.1
"""Candidates with less evidence than the best by more than this have no twins drawn."""

LOOK = 0.15
"""What a nat of a pixel's colour says for a pose, in agreeing pixels: from 500 tuning trials, and flat around it."""


@dataclass(frozen=True)
class Effort:
    """How much to spend; the defaults are what the reported figures were measured with."""

    size: int = 96
    angles: int = 24
    coarse_points: int = 128
    refined: int = 600
    drawn: int = 64
    last: int = 10
    last_size: int = 160
    last_drawings: int = 3
    twins: int = 12
    twins_of: int = 3


@dataclass(frozen=True)
class Candidates:
    """Poses relative to the model's centre, best first."""

    R: Float64[np.ndarray, "n 3 3"]
    t: Float64[np.ndarray, "n 3"]
    score: Float64[np.ndarray, " n"]
    """0 to 1, comparable between pictures."""
    evidence: Float64[np.ndarray, " n"]
    """Comparable within a picture only, but better at that than the score."""
    terms: Float64[np.ndarray, "n k"]

    def take(self, order: Int64[np.ndarray, " m"]) -> Candidates:
        return Candidates(
            self.R[order].copy(), self.t[order].copy(), self.score[order], self.evidence[order], self.terms[order]
        )


def in_threads(threads: int, count: int, work: Callable[[int, int], None]) -> None:
    """Call work(first, last) on about equal parts of range(count)."""
    parts = min(threads, count)
    if parts <= 1:
        work(0, count)
        return
    edges = [count * i // parts for i in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(work, edges[:-1], edges[1:]))


def find(
    model: PoseModel,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: np.ndarray,
    mask: Bool[np.ndarray, "H W"],
    camera: Camera,
    *,
    threads: int,
    effort: Effort,
    trace: dict | None = None,
) -> Candidates:
    """The last candidates, best first; `mask` is questioned where nothing explains it well."""
    first, fine = _search(model, rgb, depth_m, mask, camera, threads, effort, trace)
    if not _is_doubtful(first, fine):
        return first
    other = revised_mask(mask, depth_m, camera, model.diameter_m)
    if other is None:
        return first
    second, _ = _search(model, rgb, depth_m, other, camera, threads, effort, None)
    return _judged_together(model, rgb, depth_m, mask, camera, (first, second), other, threads, effort)


def _search(
    model: PoseModel,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: np.ndarray,
    mask: Bool[np.ndarray, "H W"],
    camera: Camera,
    threads: int,
    effort: Effort,
    trace: dict | None,
) -> tuple[Candidates, Observation]:
    """All steps with one mask: the last candidates, best first, and what they were compared with."""
    crop = crop_around(mask, depth_m, camera, model.diameter_m, effort.size)
    seen = observe(rgb, depth_m, mask, camera, crop, use_colour=model.textured)
    R, t, views = coarse(model, seen, threads, effort)
    R, t, scores = refine_points(model, seen, R, t, views, threads)
    kept = distinct(model, R, t, np.argsort(-scores), effort.drawn, 0.1)
    drawn = draw_and_refine(
        model, seen, R[kept], t[kept], taus=(0.08, 0.03), drawings=3, threads=threads, colour=False, stride=2
    )
    best = distinct(model, drawn.R, drawn.t, np.argsort(-drawn.evidence), effort.last, 0.06)
    fine = observe(rgb, depth_m, mask, camera, crop._replace(size=effort.last_size), use_colour=model.textured)
    last = draw_and_refine(
        model, fine, drawn.R[best], drawn.t[best], taus=(0.05, 0.015), drawings=effort.last_drawings, threads=threads,
        colour=True,
    )  # fmt: skip
    if trace is not None:
        trace.update(seen=seen, fine=fine, refined=(R, t, scores), drawn=drawn, crop=crop)
    last = last.take(np.argsort(-last.evidence))
    last = _with_near_twins(model, fine, last, threads, effort)
    return _with_look(model, rgb, crop._replace(size=effort.last_size), fine, last), fine


def _with_near_twins(
    model: PoseModel, seen: Observation, found: Candidates, threads: int, effort: Effort
) -> Candidates:
    """The candidates, and those poses that look nearly like the best ones: some may not have been drawn at all.

    A gear with a broken tooth has a dozen of them, a torch with a switch any number; with several of the best, the
    twins that are upside down are there whichever side comes first. They are first judged where they are: a twin
    inherits how well its fellow is aligned.
    """
    if len(model.near_symmetry_R) == 0:
        return found
    bases = np.flatnonzero(found.evidence > found.evidence[0] - TWINS_MARGIN)[: effort.twins_of]
    R = found.R[bases, None] @ model.near_symmetry_R
    t = (found.R[bases, None] @ model.near_symmetry_t[..., None])[..., 0] + found.t[bases, None]
    R, t = R.reshape(-1, 3, 3), t.reshape(-1, 3)
    given = distinct(model, R, t, np.arange(len(R)), len(R), 0.04)
    twins = draw_and_refine(
        model, seen, R[given], t[given], taus=(0.03, 0.015), drawings=0, threads=threads, colour=False
    )
    chosen = distinct(model, twins.R, twins.t, np.argsort(-twins.evidence), effort.twins, 0.03)
    best = draw_and_refine(
        model, seen, twins.R[chosen], twins.t[chosen], taus=(0.03, 0.015), drawings=2, threads=threads, colour=True
    )
    every = _joined(found, best)
    order = np.argsort(-every.evidence)
    return every.take(distinct(model, every.R, every.t, order, effort.last + effort.twins, 0.02))


def _with_look(
    model: PoseModel, rgb: UInt8[np.ndarray, "H W 3"], crop: Crop, seen: Observation, found: Candidates
) -> Candidates:
    """The candidates in order of what depth and mask say and of how their outlines fit the picture's own colours.

    Evidence is only taken away, most where the colours fit least: a mask is doubted at least as readily as before.
    """
    gains = look.gains(model, seen, look.likeness(rgb, crop, seen), found.R, found.t)
    evidence = found.evidence + LOOK * (gains - gains.max())
    return replace(found, evidence=evidence).take(np.argsort(-evidence))


def _joined(first: Candidates, second: Candidates) -> Candidates:
    return Candidates(
        np.concatenate([first.R, second.R]),
        np.concatenate([first.t, second.t]),
        np.concatenate([first.score, second.score]),
        np.concatenate([first.evidence, second.evidence]),
        np.concatenate([first.terms, second.terms]),
    )


def _is_doubtful(found: Candidates, seen: Observation) -> bool:
    """Whether the mask and the best pose disagree so much that the mask may be to blame."""
    term = dict(zip(likelihood.TERMS, found.terms[0], strict=True))
    mask_pixels = float((seen.mask > 0).sum())
    disputed = term["agree_out"] + term["through_out"] + term["unexplained"]
    return bool(found.evidence[0] < DOUBTFUL_EVIDENCE or disputed > DISPUTED * mask_pixels)


def _judged_together(
    model: PoseModel,
    rgb: UInt8[np.ndarray, "H W 3"],
    depth_m: np.ndarray,
    mask: Bool[np.ndarray, "H W"],
    camera: Camera,
    found: tuple[Candidates, Candidates],
    other: Bool[np.ndarray, "H W"],
    threads: int,
    effort: Effort,
) -> Candidates:
    """Candidates of two masks, compared in one window that holds both, by how they explain the given one."""
    crop = crop_around(mask | other, depth_m, camera, model.diameter_m, effort.last_size)
    seen = observe(rgb, depth_m, mask, camera, crop, use_colour=model.textured)
    R = np.concatenate([part.R for part in found])
    t = np.concatenate([part.t for part in found])
    every = draw_and_refine(model, seen, R, t, taus=(0.03, 0.015), drawings=0, threads=threads, colour=False)
    order = np.argsort(-every.evidence)
    return every.take(distinct(model, every.R, every.t, order, effort.last, 0.03))


def coarse(
    model: PoseModel, seen: Observation, threads: int, effort: Effort
) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"], Int64[np.ndarray, " n"]]:
    """The most promising of all templates at all angles: poses and their views."""
    inside = (seen.mask > 0) & (seen.surface[..., 0] > 0)
    z = seen.surface[..., 0][inside]
    if len(z) == 0:
        raise InputError(
            "the mask's few measured pixels are too scattered to be a surface",
            code="mask_without_depth",
            field="mask",
            value=int((seen.mask > 0).sum()),
            expected="some neighbouring pixels with depth",
            fix="check that depth and mask belong to the same picture",
        )
    z = z[np.abs(z - np.median(z)) < model.diameter_m]
    v, u = np.nonzero(seen.mask)
    centre_uv = np.array([u.mean(), v.mean()])
    angles = np.arange(effort.angles) * (2 * np.pi / effort.angles)
    tau = max(0.12 * model.diameter_m, 0.01)
    depths = float(np.median(z)), float(np.percentile(z, 15))
    n_views = len(model.points.R_cam_obj)
    scores = np.empty((2, n_views, effort.angles))
    for seed, depth_m in enumerate(depths):

        def work(first: int, last: int, seed: int = seed, depth_m: float = depth_m) -> None:
            points.score_templates(
                model.points, seen, angles, model.points.centres[seed], depth_m, centre_uv, tau,
                effort.coarse_points, model.textured, first, last, scores[seed],
            )  # fmt: skip

        in_threads(threads, n_views, work)
    flat = scores.reshape(-1)
    count = min(effort.refined, len(flat))
    chosen = np.argpartition(-flat, count - 1)[:count]
    seeds, views, turns = np.unravel_index(chosen, scores.shape)
    R, t = np.empty((count, 3, 3)), np.empty((count, 3))
    _poses(
        model.points.R_cam_obj, model.points.centres, angles, np.array(depths), centre_uv, seen,
        seeds, views, turns, R, t,
    )  # fmt: skip
    return R, t, views.astype(np.int64)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _poses(rotations, centres, angles, depths, centre_uv, seen, seeds, views, turns, R, t):
    for i in range(len(views)):
        points.pose_of(
            rotations[views[i]], angles[turns[i]], centres[seeds[i], views[i]], depths[seeds[i]], centre_uv, seen,
            R[i], t[i],
        )  # fmt: skip


def refine_points(
    model: PoseModel,
    seen: Observation,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    views: Int64[np.ndarray, " n"],
    threads: int,
) -> tuple[Float64[np.ndarray, "n 3 3"], Float64[np.ndarray, "n 3"], Float64[np.ndarray, " n"]]:
    d = model.diameter_m
    scores = np.empty(len(R))

    def work(first: int, last: int) -> None:
        taus = (0.15 * d, 0.06 * d, 0.03 * d)
        square, tau_score = model.shape.mean_square_radius, max(0.06 * d, 0.006)
        points.refine_many(
            model.points, square, views, R, t, seen, taus, (5, 5), tau_score, model.textured, first, last, scores
        )

    in_threads(threads, len(R), work)
    return R, t, scores


def draw_and_refine(
    model: PoseModel,
    seen: Observation,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    *,
    taus: tuple[float, float],
    drawings: int,
    threads: int,
    colour: bool,
    stride: int = 1,
) -> Candidates:
    d = model.diameter_m
    R, t = R.copy(), t.copy()
    terms = np.zeros((len(R), likelihood.N_TERMS))
    widths = taus[0] * d, max(taus[1] * d, 0.003)
    tau = max(0.04 * d, 0.005)
    sigma = 0.002

    def work(first: int, last: int) -> None:
        dense.refine_many(
            model.shape, R, t, seen, widths, drawings, 2, stride, True, colour and model.textured, first, last
        )
        likelihood.evaluate_many(model.shape, R, t, seen, tau, sigma, model.textured, first, last, terms)

    in_threads(threads, len(R), work)
    mask_pixels = float((seen.mask > 0).sum())
    return Candidates(R, t, terms[:, 0].copy(), likelihood.evidence(terms, mask_pixels, model.textured), terms)


def distinct(
    model: PoseModel,
    R: Float64[np.ndarray, "n 3 3"],
    t: Float64[np.ndarray, "n 3"],
    order: Int64[np.ndarray, " n"],
    count: int,
    apart: float,
) -> Int64[np.ndarray, " m"]:
    """Greedily the first `count` of `order` that differ from each other, symmetries counted.

    Two poses are the same when no mark moves by more than `apart` diameters between them.
    """
    return _distinct(R, t, order, count, apart * model.diameter_m, model.marks, model.symmetry_R, model.symmetry_t)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _distinct(R, t, order, count, apart, marks, symmetry_R, symmetry_t):
    kept = np.empty(count, np.int64)
    n = 0
    # Marks of kept poses under every symmetry.
    placed = np.empty((count, symmetry_R.shape[0], marks.shape[0], 3))
    here = np.empty((marks.shape[0], 3))
    for i in order:
        for k in range(marks.shape[0]):
            for r in range(3):
                here[k, r] = R[i, r, 0] * marks[k, 0] + R[i, r, 1] * marks[k, 1] + R[i, r, 2] * marks[k, 2] + t[i, r]
        is_new = True
        for j in range(n):
            for s in range(symmetry_R.shape[0]):
                same = True
                for k in range(marks.shape[0]):
                    square = 0.0
                    for r in range(3):
                        square += (placed[j, s, k, r] - here[k, r]) ** 2
                    if square > apart * apart:
                        same = False
                        break
                if same:
                    is_new = False
                    break
            if not is_new:
                break
        if not is_new:
            continue
        for s in range(symmetry_R.shape[0]):
            for k in range(marks.shape[0]):
                x = (
                    symmetry_R[s, 0, 0] * marks[k, 0]
                    + symmetry_R[s, 0, 1] * marks[k, 1]
                    + symmetry_R[s, 0, 2] * marks[k, 2]
                    + symmetry_t[s, 0]
                )
                y = (
                    symmetry_R[s, 1, 0] * marks[k, 0]
                    + symmetry_R[s, 1, 1] * marks[k, 1]
                    + symmetry_R[s, 1, 2] * marks[k, 2]
                    + symmetry_t[s, 1]
                )
                z = (
                    symmetry_R[s, 2, 0] * marks[k, 0]
                    + symmetry_R[s, 2, 1] * marks[k, 1]
                    + symmetry_R[s, 2, 2] * marks[k, 2]
                    + symmetry_t[s, 2]
                )
                for r in range(3):
                    placed[n, s, k, r] = R[i, r, 0] * x + R[i, r, 1] * y + R[i, r, 2] * z + t[i, r]
        kept[n] = i
        n += 1
        if n == count:
            break
    return kept[:n]
