"""Symmetries of an object, found from points of its surface.

A turn about an axis through the centre of the surface is a symmetry when it takes every point to a place on the
surface with about the same colour. Axes are first tried coarsely over the half sphere against a volume of distances,
the promising ones made exact by small steps, and then checked point by point.

Similar searches: N. Mitra, L. Guibas, M. Pauly, "Partial and approximate symmetry detection for 3D geometry", 2006.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from gnomon.geometry import se3
from gnomon.geometry.symmetry import Axis, Symmetries
from gnomon.tasks.object_pose.methods.render_compare.surface_fit import MOST_POINTS, PROMISING, Surface
from gnomon.tasks.object_pose.methods.render_compare.views import fibonacci_sphere

FOLDS = (2, 3, 4, 5, 6, 8)
IRREGULAR_DEG = (37.0, 83.0, 101.0, 149.0, 163.0)
"""Turns that no polygon repeats: an axis that allows them all allows any."""

N_AXES = 600
NEAR_STEP_DEG = 10
"""Of a free axis, about which no turn fits better than another."""

SCAN_STEP_DEG = 2
SCAN_REACH = 3
"""Steps to each side among which a turn has to fit best."""

SCAN_CHECK, SCAN_POINTS = 1200, 250

DISTINCT = 0.75
"""Most that a turn which fits best may be off the surface, as a share of what turns about the same axis mostly are."""

MOST_FOLDS = 36

LARGEST_GROUP = 80


class Found(NamedTuple):
    """What a search ends with."""

    symmetries: Symmetries
    near_R: Float64[np.ndarray, "K 3 3"]
    near_t: Float64[np.ndarray, "K 3"]
    """Motions that nearly leave the form as it is, exact symmetries among them."""


def find_symmetries(
    points: Float[np.ndarray, "N 3"],
    normals: Float[np.ndarray, "N 3"],
    rgb: Float[np.ndarray, "N 3"] | None,
    diameter_m: float,
    centre_m: Float[np.ndarray, " 3"],
) -> Found:
    """The rotations that leave an object as it is, and those that nearly do.

    A handle, a switch or a missing tooth may be all that forbids the latter, and colour is not asked for them. They
    tell which other poses have to be ruled out when one is found. Turns about an axis are tried at all angles, because
    gears have any number of teeth; free axes are sampled in steps of NEAR_STEP_DEG.

    Args:
        points, normals: Of its visible surface, in metres.
        rgb: Colours 0 to 1 where they count, else None.
        diameter_m: Of the object.
        centre_m: Of the surface, by area: the one point that every symmetry leaves where it is.
    """
    step = max(len(points) // MOST_POINTS, 1)
    surface = Surface(points[::step], normals[::step], None if rgb is None else rgb[::step], diameter_m, centre_m)
    axes = _axes(surface)
    fitting = [_fitting_angles(surface, direction) for direction in axes]
    near = np.array(_closure(_near_turns(surface, axes, fitting), surface.nearly_allows), np.float64).reshape(-1, 3, 3)
    return Found(_exact(surface, axes, fitting), near, surface.centre_m - near @ surface.centre_m)


def _exact(surface: Surface, axes: list[Float64[np.ndarray, " 3"]], fitting: list[list[float]]) -> Symmetries:
    continuous = [direction for direction in axes if _is_continuous(direction, surface.allows)]
    if len(continuous) > 1:
        # More than one free axis: a ball. Three of them stand for all.
        is_ball = all(_is_continuous(direction, surface.allows) for direction in np.eye(3))
        return _as_symmetries(surface, [], list(np.eye(3)) if is_ball else continuous[:1])
    rotations: list[Float64[np.ndarray, "3 3"]] = []
    for direction, angles in zip(axes, fitting, strict=True):
        if continuous and abs(direction @ continuous[0]) > 0.99:
            continue
        rotations += [R for R in _turns(direction, _folds(angles)) if surface.allows(R)]
    if continuous:
        # With a free axis, one turn that swaps its ends stands for all of them.
        return _as_symmetries(surface, rotations[:1], continuous)
    return _as_symmetries(surface, _closure(rotations, surface.allows), [])


def _near_turns(
    surface: Surface, axes: list[Float64[np.ndarray, " 3"]], fitting: list[list[float]]
) -> list[Float64[np.ndarray, "3 3"]]:
    """Turns about each axis, free ones in steps. None for a ball, of whose turns there is no end."""
    free = [direction for direction in axes if _is_continuous(direction, surface.nearly_allows)]
    if len(free) > 1:
        return []
    rotations: list[Float64[np.ndarray, "3 3"]] = []
    for direction, angles in zip(axes, fitting, strict=True):
        if any(direction is other for other in free) and len(angles) < 3:
            steps = np.radians(np.arange(NEAR_STEP_DEG, 360, NEAR_STEP_DEG))
            candidates = list(se3.so3_exp(direction * steps[:, None]))
        elif angles:
            candidates = [se3.so3_exp(direction * angle * way) for angle in angles for way in (1, -1)]
        else:
            candidates = _turns(direction, FOLDS)
        rotations += [R for R in candidates if surface.nearly_allows(R)]
    return rotations


def _fitting_angles(surface: Surface, direction: Float64[np.ndarray, " 3"]) -> list[float]:
    """Angles to 0.1 degrees, up to half a turn, at which turns about an axis fit better than slightly different ones.

    Judged by the points that most turns take off the surface: teeth and holes, not the disc between them.
    """
    off = np.zeros(min(SCAN_CHECK, len(surface.check)))
    points = surface.points[surface.check[: len(off)]]
    for angle in IRREGULAR_DEG:
        off += surface.distances(points, se3.so3_exp(direction * np.radians(angle)), 1.5 * surface.spacing)[1]
    telling = np.ascontiguousarray(points[np.argsort(-off)[:SCAN_POINTS]])

    def misfit(degrees: float) -> float:
        turn = se3.so3_exp(direction * np.radians(degrees))
        return float(surface.distances(telling, turn, 0.5 * surface.spacing)[1].mean())

    scanned = np.arange(SCAN_STEP_DEG, 180 + SCAN_REACH * SCAN_STEP_DEG + 1, SCAN_STEP_DEG)
    fit = np.array([misfit(float(degrees)) for degrees in scanned])
    most = DISTINCT * np.median(fit)
    found: list[float] = []
    for i in range(SCAN_REACH, len(scanned) - SCAN_REACH):
        if fit[i] <= most and fit[i] <= fit[i - SCAN_REACH : i + SCAN_REACH + 1].min():
            best = float(scanned[i])
            for step in (1.0, 0.5, 0.25, 0.12):
                best = min((best, best - step, best + step), key=misfit)
            found.append(float(np.radians(min(best, 180.0))))
    return found


def _folds(angles: list[float]) -> tuple[int, ...]:
    """The usual folds, and others of which one step is among the angles to within a degree."""
    n = np.arange(2, MOST_FOLDS + 1)
    is_near = np.abs(np.array([*angles, np.inf])[:, None] - 2 * np.pi / n).min(axis=0) < np.radians(1)
    return tuple(sorted({*FOLDS, *n[is_near].tolist()}))


def _turns(direction: Float64[np.ndarray, " 3"], folds: tuple[int, ...]) -> list[Float64[np.ndarray, "3 3"]]:
    return [se3.so3_exp(direction * (2 * np.pi / fold)) for fold in folds]


def _axes(surface: Surface) -> list[Float64[np.ndarray, " 3"]]:
    """Directions about which some turn nearly fits, made exact; no two within eight degrees."""
    directions = fibonacci_sphere(2 * N_AXES)[:N_AXES]
    angles = np.array([2 * np.pi / fold for fold in FOLDS])
    fit = np.stack([surface.mean_distance(se3.so3_exp(directions * angle)) for angle in angles])
    found: list[Float64[np.ndarray, " 3"]] = []
    for fold in range(len(FOLDS)):
        order = np.argsort(fit[fold])
        seeds: list[Float64[np.ndarray, " 3"]] = []
        for at in order[fit[fold][order] < PROMISING]:
            if all(abs(directions[at] @ other) < np.cos(np.radians(12)) for other in seeds):
                seeds.append(directions[at])
            if len(seeds) == 24:
                break
        for seed in seeds:
            exact = _made_exact(surface, seed, angles[fold])
            if all(abs(exact @ other) < np.cos(np.radians(8)) for other in found) and surface.nearly_allows(
                se3.so3_exp(exact * angles[fold])
            ):
                found.append(exact)
    return found


def _made_exact(surface: Surface, direction: Float64[np.ndarray, " 3"], angle: float) -> Float64[np.ndarray, " 3"]:
    """Tilt an axis in ever smaller steps to where the turn fits best, point by point at the end."""
    step = np.radians(4.0)
    sample = surface.points[surface.check[:400]]
    for _ in range(9):
        side = np.cross(direction, np.eye(3)[np.abs(direction).argmin()])
        side /= np.linalg.norm(side)
        other = np.cross(direction, side)
        tilts = [(0.0, 0.0), (1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (0.7, -0.7), (-0.7, 0.7), (-0.7, -0.7)]
        tried = np.array([direction + step * (a * side + b * other) for a, b in tilts])
        tried /= np.linalg.norm(tried, axis=1, keepdims=True)
        turns = se3.so3_exp(tried * angle)
        if step > np.radians(1.0):
            fit = surface.mean_distance(turns)
        else:
            fit = np.empty(len(turns))
            for i, R in enumerate(turns):
                fit[i] = surface.distances(sample, R, surface.spacing)[1].mean()
        best = int(np.argmin(fit))
        direction = tried[best]
        if best == 0:
            step /= 2
    return direction


def _is_continuous(direction: Float64[np.ndarray, " 3"], allows: Callable[[np.ndarray], bool]) -> bool:
    return all(allows(se3.so3_exp(direction * np.radians(angle))) for angle in IRREGULAR_DEG)


def _closure(
    rotations: list[Float64[np.ndarray, "3 3"]], allows: Callable[[np.ndarray], bool]
) -> list[Float64[np.ndarray, "3 3"]]:
    """All products of the rotations that are allowed too, without the identity."""
    group = [np.eye(3)]
    waiting = [np.eye(3)]
    while waiting and len(group) < LARGEST_GROUP:
        R = waiting.pop()
        for other in rotations[: LARGEST_GROUP - len(group)]:
            product = se3.nearest_rotation(other @ R)
            if np.trace(np.array(group) @ product.T, axis1=1, axis2=2).max() < 1 + 2 * np.cos(np.radians(8)) and allows(
                product
            ):
                group.append(product)
                waiting.append(product)
    return group[1:]


def _as_symmetries(
    surface: Surface, rotations: list[Float64[np.ndarray, "3 3"]], axes: list[Float64[np.ndarray, " 3"]]
) -> Symmetries:
    """About the surface's centre, in the frame of the points."""
    centre = surface.centre_m
    motions = [se3.se3(R, centre - R @ centre) for R in rotations]
    return Symmetries(
        np.array(motions, np.float64).reshape(-1, 4, 4), tuple(Axis(np.asarray(axis), centre) for axis in axes)
    )
